"""Pasting: identity, untouched surroundings, noise, neighbours, scales and bad input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

import bfr.faces.blend
import bfr.faces.grain_drawing
import bfr.image.bands
from bfr.choices import MASKS
from bfr.errors import InputError
from bfr.faces.align import align_faces
from bfr.faces.parsing import Parser
from bfr.faces.paste import paste_faces
from bfr.faces.shapes import mask_shape
from bfr.image.warp import sample, sampling_grid
from bfr.records import Alignment, FaceSet
from tests.portraits import astronaut, face_at, face_of, only, psnr


class Middle(nn.Module):
    """A parsing network to which the middle half of a crop is face (class 1)."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        scores = torch.zeros(len(x), 2, *x.shape[2:])
        scores[:, 1] = -100
        scores[:, 1, 128:384, 128:384] = 100
        return (scores,)


def middle() -> Parser:
    return Parser(Middle(), "", 512, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1,))


def noise(image: Tensor, sigma: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (image + sigma * torch.randn(image.shape, generator=generator)).clamp(0, 1)


def crowd() -> tuple[Tensor, FaceSet]:
    """Three images: two faces (one turned and half outside), none, one that is the largest."""
    generator = torch.Generator().manual_seed(0)
    images = F.interpolate(torch.rand(3, 3, 40, 50, generator=generator), (200, 250))
    faces = ((face_at(70, 80, 25), face_at(240, 150, 30, 160)), (), (face_at(120, 100, 60),))
    return images, FaceSet(faces, (200, 250))


@pytest.mark.parametrize("pixels", [20, 100, 400])
@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("mask", MASKS)
def test_identity_gives_the_photograph_back(pixels: int, size: int, mask: str):
    """At least 45 dB are wanted; it is exact."""
    image, face = astronaut(pixels / 100)
    crops, alignment = align_faces(image, only(face, image), size)
    parser = middle() if mask == "parsing" else None
    pasted, masks = paste_faces(image, crops, alignment, mask=mask, parser=parser)
    assert (masks > 0.9).sum() > 0.3 * pixels**2  # it did paste
    assert torch.equal(pasted, image)


@pytest.mark.parametrize("colour", ["low frequency", "lab", "none"])
def test_identity_of_a_turned_face(colour: str):
    image, face = astronaut()
    turned = torch.rot90(image, 1, (2, 3))
    points = [(y, image.shape[3] - 1 - x) for x, y in face.landmarks]
    crops, alignment = align_faces(turned, only(face_of(torch.tensor(points)), turned), 128)
    pasted, masks = paste_faces(turned, crops, alignment, colour=colour)
    assert psnr(pasted, turned, masks > 0) > 75


@pytest.mark.parametrize("mask", MASKS)
def test_pixels_outside_the_mask_stay_to_the_bit(mask: str):
    images, faces = crowd()
    crops, alignment = align_faces(images, faces, 64)
    before = images.clone(), crops.clone()
    pasted, masks = paste_faces(
        images, 1 - crops, alignment, mask=mask, parser=middle(), colour="none"
    )
    changed = (pasted != images).any(1, keepdim=True)
    assert changed.any((1, 2, 3)).tolist() == [True, False, True]
    assert not changed[masks == 0].any()
    assert changed[masks > 0.05].float().mean() > 0.99
    assert masks.min() == 0
    assert masks.max() <= 1
    assert torch.equal(images, before[0])
    assert torch.equal(crops, before[1])


def test_out_of_range_pixels_outside_the_mask_stay():
    images, faces = crowd()
    images = images * 3 - 1
    crops, alignment = align_faces(images, faces, 64)
    pasted, masks = paste_faces(images, crops, alignment)
    kept = (masks == 0).expand_as(images)
    assert torch.equal(pasted[kept], images[kept])
    assert images[kept].max() > 1.5


def test_a_batch_equals_singles():
    images, faces = crowd()
    crops, alignment = align_faces(images, faces, 64)
    pasted, masks = paste_faces(images, 1 - crops, alignment)
    for i in range(3):
        image = images[i : i + 1]
        own, place = align_faces(image, replace(faces, faces=(faces.faces[i],)), 64)
        found, mask = paste_faces(image, 1 - own, place)
        assert torch.equal(found, pasted[i : i + 1])
        assert torch.equal(mask, masks[i : i + 1])


def test_no_faces():
    images = torch.rand(2, 3, 30, 40)
    crops, alignment = align_faces(images, FaceSet(((), ()), (30, 40)), 64)
    pasted, masks = paste_faces(images, crops, alignment)
    assert torch.equal(pasted, images)
    assert pasted.data_ptr() != images.data_ptr()
    assert masks.shape == (2, 1, 30, 40)
    assert masks.max() == 0


@pytest.mark.parametrize("x", [-3.0, 100.0, -400.0])
def test_faces_half_and_wholly_outside(x: float):
    image = torch.rand(1, 3, 90, 100, generator=torch.Generator().manual_seed(0))
    crops, alignment = align_faces(image, only(face_at(x, 40, 20), image), 64)
    pasted, masks = paste_faces(image, torch.ones_like(crops), alignment, colour="none")
    if x < -100:
        assert torch.equal(pasted, image)
        assert masks.max() == 0
    else:
        assert masks.max() > 0.9
        assert pasted[(masks > 0.98).expand_as(pasted)].min() > 0.9
        assert psnr(*(paste_faces(image, crops, alignment)[0], image), masks > 0) > 100


@pytest.mark.parametrize("mask", ["soft oval", "square"])
@pytest.mark.parametrize("turn", [0, 30, 75])
def test_all_of_the_mask_is_pasted(mask: str, turn: float):
    """Only the part of the photograph that the mask reaches is worked on, and all of it."""
    image = torch.rand(1, 3, 180, 200, generator=torch.Generator().manual_seed(0))
    crops, alignment = align_faces(image, only(face_at(90, 80, 25, turn), image), 64)
    _, found = paste_faces(image, crops, alignment, mask=mask)
    everywhere = sampling_grid(alignment.image_to_crop[0], (180, 200), (64, 64), image.device)
    wanted = sample(mask_shape(mask, 64, 0.1), everywhere, "bilinear", "zeros")
    assert (found - wanted).abs().max() < 1e-4


def test_the_mask_is_where_the_face_is():
    image, face = astronaut()
    crops, alignment = align_faces(image, only(face, image), 128)
    _, masks = paste_faces(image, crops, alignment)
    for x, y in face.landmarks:
        assert masks[0, 0, round(y), round(x)] > 0.9
    assert masks[0, 0, 5, 5] == 0
    assert masks[0, 0].diff(dim=0).abs().max() < 0.15  # no hard edge
    _, square = paste_faces(image, crops, alignment, mask="square")
    assert (square >= masks - 1e-6).all()  # read at places that round differently
    _, hard = paste_faces(image, crops, alignment, mask="square", feather=0)
    assert hard.mean() > square.mean() > masks.mean()


def test_the_parsed_outline_is_used():
    image, face = astronaut()
    crops, alignment = align_faces(image, only(face, image), 128)
    _, masks = paste_faces(image, crops, alignment, mask="parsing", parser=middle())
    _, square = paste_faces(image, crops, alignment, mask="square")
    x, y = face.landmarks[2]
    assert masks[0, 0, round(y), round(x)] > 0.95
    assert masks.sum() == pytest.approx(0.25 * 128**2 / float(_scale(alignment)) ** 2, rel=0.15)
    assert (square > masks + 0.5).any()


def _scale(alignment: Alignment) -> Tensor:
    return torch.linalg.det(alignment.image_to_crop[0, :, :2]).sqrt()


@pytest.mark.parametrize("strength", [0.0, 0.4])
def test_strength_blends_linearly(strength: float):
    images, faces = crowd()
    crops, alignment = align_faces(images, faces, 64)
    crops = 0.3 + 0.4 * crops.flip(1)  # in a range in which nothing is clamped
    full, full_masks = paste_faces(images, crops, alignment)
    part, masks = paste_faces(images, crops, alignment, strength=strength)
    assert torch.allclose(masks, strength * full_masks)
    unclamped = ((full > 0) & (full < 1)).all(1, keepdim=True)
    wanted = images + strength * (full - images)
    assert torch.allclose(part.where(unclamped, 0.0), wanted.where(unclamped, 0.0), atol=1e-5)


@pytest.mark.parametrize("size", [128, 512])
@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_removed_noise_does_not_come_back(size: int, sigma: float):
    """A perfect restorer's face is close to clean, also where the crop is coarser than it."""
    clean, face = astronaut(2.0)
    noisy = noise(clean, sigma)
    restored, alignment = align_faces(clean, only(face, clean), size)
    pasted, masks = paste_faces(noisy, restored, alignment, colour="none")
    inside = masks > 0.9
    assert psnr(pasted, clean, inside) > psnr(noisy, clean, inside) + (3 if sigma < 0.05 else 10)
    left = _highpass_energy(pasted - clean, inside) / _highpass_energy(noisy - clean, inside)
    assert left < (0.5 if sigma < 0.05 else 0.1)


def _highpass_energy(x: Tensor, where: Tensor) -> float:
    high = x - F.avg_pool2d(x, 3, 1, 1)
    return float(high.square().mean(1, keepdim=True)[where].mean())


def test_a_large_face_stays_sharper_than_its_crop():
    """Slightly different colours, all detail kept: what the crop cannot hold stays."""
    image, face = astronaut(1.0)
    crops, alignment = align_faces(image, only(face, image), 32)
    pasted, masks = paste_faces(image, (0.95 * crops + 0.02), alignment, colour="none")
    inside = masks > 0.98
    assert _highpass_energy(pasted, inside) > 0.8 * _highpass_energy(image, inside)


def test_invented_detail_replaces_the_old():
    image, face = astronaut()
    image = noise(image, 0.05)
    crops, alignment = align_faces(image, only(face, image), 64)
    flat = torch.full_like(crops, 0.5)
    pasted, masks = paste_faces(image, flat, alignment, colour="none")
    assert (pasted - 0.5).abs()[(masks > 0.999).expand_as(pasted)].max() < 0.05


@pytest.mark.parametrize("size", [(640, 1024), (641, 1025), (160, 256), (987, 1579)])
def test_pasting_onto_a_resized_photograph(size: tuple[int, int]):
    """The face lands where it belongs: at twice the size, odd sizes and smaller ones."""
    image, face = astronaut()
    crops, alignment = align_faces(image, only(face, image), 256)
    resized = F.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)
    pasted, masks = paste_faces(resized, crops, alignment)
    assert pasted.shape == resized.shape
    assert psnr(pasted, resized, masks > 0.5) > 38
    marked = crops.clone()
    marked[..., 120:136, 120:136] = torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    found, _ = paste_faces(resized, marked, alignment, colour="none")
    found_at = (found[0, 0] - found[0, 1] > 0.9).nonzero().double().mean(0)
    centre = torch.linalg.inv(alignment.image_to_crop[0, :, :2]) @ (
        127.5 - alignment.image_to_crop[0, :, 2]
    )
    scale = torch.tensor([size[0] / 320, size[1] / 512]).double()
    assert torch.allclose(found_at, (centre.flip(0) + 0.5) * scale - 0.5, atol=0.6)


def test_neighbours_do_not_paste_over_each_other():
    """Each face's middle is its own, whatever the order; between them nothing jumps."""
    image = torch.full((1, 3, 120, 200), 0.5)
    pair = (face_at(70, 60, 25), face_at(130, 60, 25))
    outcomes = []
    for faces in (pair, pair[::-1]):
        _, alignment = align_faces(image, FaceSet((faces,), (120, 200)), 64)
        shades = [1.0 if face is pair[0] else 0.0 for face in faces]
        crops = torch.stack([torch.full((3, 64, 64), shade) for shade in shades])
        pasted, masks = paste_faces(image, crops, alignment, colour="none")
        outcomes.append(pasted)
        assert masks.max() <= 1
    assert torch.allclose(*outcomes, atol=1e-6)
    row = outcomes[0][0, 0, 60]
    assert row[70] > 0.95
    assert row[130] < 0.05
    assert row.diff().abs().max() < 0.15


class Watch(TorchFunctionMode):
    """Lists the functions that make new tensors of at least so many values."""

    def __init__(self, least: int):
        super().__init__()
        self.least, self.made = least, list[str]()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.numel() >= self.least:
            given = {x.data_ptr() for x in args if isinstance(x, Tensor)}
            if out.data_ptr() not in given:  # neither a view nor in place
                self.made.append(str(func))
        return out


def test_faces_do_not_copy_the_photograph():
    """Nine faces make no more tensors of the photograph's size than one does."""
    image = torch.rand(1, 3, 600, 900)
    counts = []
    for number in (1, 9):
        faces = tuple(face_at(100 + 60 * i, 300, 20) for i in range(number))
        with Watch(600 * 900) as watch:
            crops, alignment = align_faces(image, FaceSet((faces,), (600, 900)), 32)
            paste_faces(image, 1 - crops, alignment)
        counts.append(len(watch.made))
    assert counts[0] == counts[1] > 0


def test_a_face_that_fills_the_photograph_makes_nothing_of_its_size(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(bfr.faces.grain_drawing, "TILE", 64)
    image = noise(torch.full((1, 3, 1600, 1600), 0.5), 0.05)
    crops, alignment = align_faces(image, only(face_at(800, 800, 400), image), 32)
    assert paste_faces(image, crops, alignment)[1].count_nonzero() > 1200**2, "it fills it"
    before = image.clone()
    with Watch(1600**2) as watch:
        options = {"in_place": True, "masks": False, "before": crops}
        paste_faces(image, torch.full_like(crops, 0.5), alignment, grain=1.0, **options)
    assert not watch.made and not torch.equal(image, before)


def test_wrong_input_is_refused():
    images, faces = crowd()
    crops, alignment = align_faces(images, faces, 64)
    for crop, match in (
        (crops * float("nan"), "crops must be finite"),
        (crops[:2], "3 aligned faces, got 2"),
        (crops[..., :32, :32], r"64×64 .*32×32"),
        (crops[:, :1], "crops must be"),
    ):
        with pytest.raises(InputError, match=match):
            paste_faces(images, crop, alignment)
    with pytest.raises(InputError, match="the 3 that were aligned, got 1"):
        paste_faces(images[:1], crops, alignment)
    with pytest.raises(InputError, match=r"250×200 .*250×190"):
        paste_faces(images[:, :, :190], crops, alignment)
    with pytest.raises(InputError, match="images must be finite"):
        paste_faces(images / 0, crops, alignment)
    options: list[tuple[dict[str, Any], str]] = [
        ({"mask": "round"}, "'round'"),
        ({"mask": "parsing"}, "needs a parser"),
        ({"feather": 0.6}, "got 0.6"),
        ({"strength": 1.5}, "got 1.5"),
        ({"colour": "wavelet"}, "'wavelet'"),
    ]
    for wrong, match in options:
        with pytest.raises(InputError, match=match):
            paste_faces(images, crops, alignment, **wrong)


def test_crops_that_are_given_need_not_be_cut_again():
    images, faces = crowd()
    crops, alignment = align_faces(images, faces, 64)
    cut = paste_faces(images, 1 - crops, alignment)
    given = paste_faces(images, 1 - crops, alignment, before=crops)
    assert all(torch.equal(a, b) for a, b in zip(cut, given, strict=True))
    double = F.interpolate(images, scale_factor=2, mode="bilinear")
    cut = paste_faces(double, 1 - crops, alignment)
    given = paste_faces(double, 1 - crops, alignment, before=crops)
    assert all(torch.equal(a, b) for a, b in zip(cut, given, strict=True)), "another photograph"
    with pytest.raises(InputError, match="before"):
        paste_faces(images, crops, alignment, before=crops[:, :, :32])


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("grain", [0.0, 1.0])
def test_pasting_in_place_and_in_bands_is_the_same(
    monkeypatch: pytest.MonkeyPatch, given: bool, grain: float
):
    images, _ = crowd()
    near = FaceSet(
        ((face_at(70, 80, 25), face_at(95, 90, 25)), (), (face_at(120, 100, 60),)), (200, 250)
    )
    crops, alignment = align_faces(images, near, 64)
    options: dict[str, Any] = {"grain": grain, "before": crops if given else None}
    better = noise(crops, 0.1)
    pasted, masks = paste_faces(images, better, alignment, **options)
    own = images.clone()
    monkeypatch.setattr(bfr.image.bands, "BAND", 300)
    monkeypatch.setattr(bfr.faces.blend, "_KEPT", 300)
    again, shares = paste_faces(own, better, alignment, in_place=True, **options)
    assert again is own and torch.equal(again, pasted) and torch.equal(shares, masks)
    assert not torch.equal(own, images)
    alone, none = paste_faces(images, better, alignment, masks=False, **options)
    assert torch.equal(alone, pasted) and not none.numel()


def test_larger_faces_than_a_tile_get_its_grain_again(monkeypatch: pytest.MonkeyPatch):
    photo = noise(torch.full((1, 3, 256, 256), 0.5), 0.05)
    faces = FaceSet(((face_at(128, 128, 160),),), (256, 256))
    crops, alignment = align_faces(photo, faces, 64)
    drawn = {}
    for tile in (64, 4096):
        monkeypatch.setattr(bfr.faces.grain_drawing, "TILE", tile)
        smooth = torch.full_like(crops, 0.5)
        drawn[tile] = paste_faces(photo, smooth, alignment, mask="square", grain=1.0)[0]
    middle = {tile: image[..., 96:160, 96:160].std() for tile, image in drawn.items()}
    assert middle[64] == pytest.approx(float(middle[4096]), rel=0.15)
    assert not torch.equal(drawn[64], drawn[4096])
