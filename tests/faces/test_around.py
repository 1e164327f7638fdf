"""What of a crop is around the face, and the grain that it keeps."""

from __future__ import annotations

import torch
from torch import Tensor

from bfr.faces.align import align_faces
from bfr.faces.around import around_face
from bfr.faces.paste import paste_faces
from bfr.faces.shapes import mask_shape
from bfr.image.tensors import luma
from tests.portraits import face_at, only


def turned_head(side: int, x: float, y: float, radius: float) -> tuple[Tensor, Tensor]:
    """A dark disc before a light ground, 1×3×S×S, and where it is, 1×1×S×S."""
    place = torch.arange(side, dtype=torch.float32)
    inside = torch.hypot(place - x, (place - y)[:, None]) < radius
    head = inside.float()[None, None]
    return (0.7 - 0.35 * head).expand(1, 3, side, side).contiguous(), head


def test_the_ground_behind_a_turned_head_is_around_it():
    crop, head = turned_head(256, 100, 140, 70)
    found = around_face(crop, mask_shape("soft oval", 256, 0.1))[0, 0]
    inside = head[0, 0, 2::4, 2::4] == 1
    mask = mask_shape("soft oval", 256, 0.1)[0, 0, 2::4, 2::4]
    assert found[inside].max() < 0.1
    ground = found[~inside & (mask > 0.99)]
    assert len(ground) > 100 and ground.median() > 0.9


def test_without_an_outline_all_is_around():
    plain = torch.full((1, 3, 128, 128), 0.5)
    assert around_face(plain, mask_shape("soft oval", 128, 0.1)).min() > 0.7


def test_the_ground_keeps_its_grain_where_the_face_gets_half():
    clean = turned_head(400, 150, 200, 75)[0]
    noise = 0.04 * torch.randn(1, 1, 400, 400, generator=torch.Generator().manual_seed(0))
    crops, alignment = align_faces(clean, only(face_at(190, 190, 90), clean), 256)
    pasted, masks = paste_faces(clean + noise, crops, alignment, colour="none", grain=0.5)
    left = (luma(pasted) - luma(clean))[0, 0]
    far = torch.hypot(torch.arange(400.0) - 150, (torch.arange(400.0) - 200)[:, None])
    covered = masks[0, 0] > 0.99
    assert abs(left[covered & (far > 90)].std() / 0.04 - 1) < 0.1
    assert 0.4 < left[covered & (far < 60)].std() / 0.04 < 0.65
