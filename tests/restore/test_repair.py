"""Scratches: filled from around them, and in faces taken from the restorer."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from bfr.errors import InputError
from bfr.records import FaceSet
from bfr.restore import repair
from bfr.restore.repair import fill, repair_scratches
from bfr.restore.restorer import Restorer
from tests.portraits import astronaut

NETWORK = cast(Any, Restorer(nn.Identity(), size=128))


def line(height: int = 90, width: int = 110) -> tuple[Tensor, Tensor]:
    """A slope of grey with a white line across, and the line."""
    image = torch.linspace(0.2, 0.6, width).expand(1, 3, height, width).clone()
    mask = torch.zeros(1, 1, height, width)
    mask[..., 40:43, :] = 1
    return torch.where(mask > 0, torch.ones_like(image), image), mask


def test_a_line_is_filled_from_both_sides_and_nothing_else_changes():
    images, mask = line()
    before = images.clone()
    filled = fill(images, mask)
    assert torch.equal(images, before), "the input was written to"
    untouched = (mask == 0).expand_as(images)
    assert torch.equal(filled[untouched], images[untouched])
    wanted = torch.linspace(0.2, 0.6, 110).expand(1, 3, 90, 110)
    assert (filled - wanted)[..., 5:-5].abs().max() < 0.03


def test_a_mask_of_another_size_is_named():
    with pytest.raises(InputError, match="64"):
        fill(torch.rand(1, 3, 20, 30), torch.ones(1, 1, 64, 64))


def test_in_a_face_the_restorer_says_what_belongs_there(monkeypatch: pytest.MonkeyPatch):
    image, face = astronaut()
    mask = torch.zeros_like(image[:, :1])
    mask[..., 118:122, 100:300] = 1  # across the nose and beside the face
    found = FaceSet(((face,),), (image.shape[2], image.shape[3]))
    monkeypatch.setattr(repair, "detect_faces", lambda images, *_, **__: found)
    monkeypatch.setattr(repair, "restore_faces", lambda crops, *_, **__: 1 - crops)
    grey = image.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    repaired = repair_scratches(grey, mask, NETWORK, NETWORK, grain=0)
    filled = fill(grey, mask)
    untouched = (mask == 0).expand_as(image)
    assert torch.equal(repaired[untouched], grey[untouched])
    x = round(face.landmarks[2][0])
    nose = (..., slice(119, 121), slice(x - 5, x + 5))
    assert not torch.equal(repaired[nose], filled[nose])
    assert torch.equal(repaired[..., 119, 105], filled[..., 119, 105]), "beside the face"
    assert torch.equal(repaired[:, 0], repaired[:, 1]), "grey stays grey"


def test_what_is_filled_gets_the_photographs_grain(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        repair, "detect_faces", lambda images, *_, **__: FaceSet(((),), images.shape[-2:])
    )
    monkeypatch.setattr(repair, "restore_faces", lambda crops, *_, **__: crops)
    noise = 0.05 * torch.randn(1, 3, 200, 200, generator=torch.Generator().manual_seed(0))
    image, mask = 0.5 + noise, torch.zeros(1, 1, 200, 200)
    mask[..., 80:120, 80:120] = 1
    inside = (..., slice(90, 110), slice(90, 110))
    smooth = repair_scratches(image, mask, NETWORK, NETWORK, grain=0)[inside].std()
    grainy = repair_scratches(image, mask, NETWORK, NETWORK)[inside].std()
    assert smooth < 0.03 and float(grainy) == pytest.approx(0.05, rel=0.25)
