"""Colour matching: what it keeps, what it takes over."""

from __future__ import annotations

import pytest
import torch

from bfr.choices import COLOURS
from bfr.errors import InputError
from bfr.faces.align import align_faces
from bfr.image.colour import match_colour
from tests.portraits import astronaut, only

MATCHING = ("low frequency", "lab")


@pytest.fixture(scope="module")
def face() -> torch.Tensor:
    image, found = astronaut()
    return align_faces(image, only(found, image), 128)[0]


@pytest.mark.parametrize("method", COLOURS)
def test_equal_crops_keep_their_colours(method: str, face: torch.Tensor):
    assert (match_colour(face, face, method) - face).abs().max() < 1e-4


@pytest.mark.parametrize("method", MATCHING)
def test_a_tint_is_undone(method: str, face: torch.Tensor):
    tinted = (face * torch.tensor([0.8, 1.0, 0.9])[:, None, None] + 0.03).clamp(0, 1)
    before = (tinted - face).square().mean()
    assert (match_colour(tinted, face, method) - face).square().mean() < 0.2 * before


def test_low_frequency_keeps_detail(face: torch.Tensor):
    """A detail that only the restored crop has stays."""
    detail = torch.zeros_like(face)
    detail[..., ::4, :] = 0.1
    detail -= detail.mean()
    restored = (0.5 * face + 0.25 + detail).clamp(0, 1)
    found = match_colour(restored, 0.5 * face + 0.25, "low frequency")
    inside = (..., slice(16, -16), slice(16, -16))
    assert (found - restored)[inside].abs().max() < 0.01


def test_low_frequency_follows_the_place(face: torch.Tensor):
    """Light from one side comes back, which one mean for all pixels cannot do."""
    light = torch.linspace(0.6, 1.0, face.shape[3])
    lit = face * light
    error = {m: float((match_colour(face, lit, m) - lit).abs().mean()) for m in MATCHING}
    assert error["low frequency"] < 0.5 * error["lab"]


@pytest.mark.parametrize("method", MATCHING)
def test_only_the_mask_counts(method: str, face: torch.Tensor):
    """A background that the restorer repainted leaves the face's colours alone."""
    mask = torch.zeros(1, 1, 128, 128)
    mask[..., 32:96, 32:96] = 1
    repainted = torch.where(mask > 0, face, 1 - face)
    found = match_colour(repainted, face, method, mask)
    assert (found - face)[..., 32:96, 32:96].abs().max() < 2e-3
    unmasked = match_colour(repainted, face, method)
    assert (unmasked - face)[..., 32:96, 32:96].abs().max() > 0.02


@pytest.mark.parametrize("method", COLOURS)
def test_grey_stays_grey(method: str, face: torch.Tensor):
    grey = face.mean(1, keepdim=True).expand_as(face)
    found = match_colour(grey.flip(3), 0.7 * grey + 0.1, method)
    assert (found.amax(1) - found.amin(1)).max() < 1e-3


def test_lab_turns_grey_towards_a_grey_reference(face: torch.Tensor):
    grey = face.mean(1, keepdim=True).expand_as(face)
    found = match_colour(face, grey, "lab")
    assert (found.amax(1) - found.amin(1)).mean() < 0.05 * (face.amax(1) - face.amin(1)).mean()


@pytest.mark.parametrize("method", MATCHING)
@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_flat_crops(method: str, value: float, face: torch.Tensor):
    flat = torch.full_like(face, value)
    for found in (match_colour(flat, face, method), match_colour(face, flat, method)):
        assert found.isfinite().all()
    other = 0.8 * flat + 0.1
    assert (match_colour(flat, other, method) - other).abs().max() < 2e-3


@pytest.mark.parametrize("method", COLOURS)
def test_an_empty_mask_and_odd_sizes(method: str, face: torch.Tensor):
    assert match_colour(face, 1 - face, method, torch.zeros(1, 1, 128, 128)).isfinite().all()
    odd = face[..., :17, :17]
    assert match_colour(odd, 1 - odd, method).shape == odd.shape
    assert match_colour(face[:0], face[:0], method).shape == (0, 3, 128, 128)


@pytest.mark.parametrize("method", COLOURS)
def test_a_batch_equals_singles(method: str, face: torch.Tensor):
    crops = torch.cat([face, face.flip(2), 0.5 * face])
    reference = torch.cat([0.9 * face, face, face.flip(1)])
    before = crops.clone(), reference.clone()
    both = match_colour(crops, reference, method)
    for i in range(3):
        single = match_colour(crops[i : i + 1], reference[i : i + 1], method)
        assert torch.allclose(single, both[i : i + 1], atol=1e-6)
    assert torch.equal(crops, before[0])
    assert torch.equal(reference, before[1])


def test_wrong_input_is_refused(face: torch.Tensor):
    with pytest.raises(InputError, match="'wavelet'"):
        match_colour(face, face, "wavelet")
    with pytest.raises(InputError, match="one reference"):
        match_colour(face, face[..., :64, :64])
