"""Alignment: where the landmarks land, what the pixels are, and what it must not depend on."""

from __future__ import annotations

import math

import pytest
import torch

from bfr.errors import InputError
from bfr.faces.align import align_faces
from bfr.image.geometry import face_template, invert, quarter_turn_matrix, transform_points
from bfr.records import Alignment, FaceSet
from tests.portraits import astronaut, face_at, face_of, only


def textured(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def crop_pixels_in_image(alignment: Alignment, size: int) -> torch.Tensor:
    """size×size×2 image points of the first crop's pixel centres."""
    line = torch.arange(size, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
    to_image = invert(alignment.image_to_crop[0])
    return transform_points(to_image, grid.reshape(-1, 2)).reshape(size, size, 2)


@pytest.mark.parametrize("eyes", [12.0, 31.0, 62.0, 180.0])  # 31.5 is the template's at 128
@pytest.mark.parametrize("degrees", [25.0, -140.0])
def test_sampling_a_ramp_returns_coordinates(eyes: float, degrees: float):
    """Enlarged, at about the same scale, and reduced: every pixel is where it should be.

    Torch's bicubic kernel (a = -0.75) bends a ramp by up to 0.05 pixels between its samples,
    evenly to both sides, so the mean is held to far less.
    """
    height, width = 900, 1000
    image = torch.zeros(1, 3, height, width)
    image[:, 0] = torch.arange(width) / width
    image[:, 1] = torch.arange(height)[:, None] / height
    crops, alignment = align_faces(image, only(face_at(500.3, 450.6, eyes, degrees), image), 128)
    wanted = crop_pixels_in_image(alignment, 128)
    found = torch.stack([crops[0, 0] * width, crops[0, 1] * height], -1).double()
    inner = ((wanted > 30) & (wanted < torch.tensor([width - 31, height - 31]))).all(-1)
    assert inner.float().mean() > 0.4
    error = (found - wanted)[inner] / max(1.0, eyes / 31.5)  # in the coarser one's pixels
    assert error.abs().max() < 0.05
    assert error.mean(0).abs().max() < 2e-3


def test_landmarks_land_on_the_template():
    """Exactly, for a face that is the template itself turned, scaled and shifted."""
    image = textured(300, 400)
    angle = math.radians(30)
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    ).double()
    points = face_template(100) @ turn.T + torch.tensor([150.0, 70.0])
    face = face_of(points)
    _, alignment = align_faces(image, only(face, image), 256)
    landed = transform_points(alignment.image_to_crop, points[None].double())[0]
    assert torch.allclose(landed, face_template(256), atol=1e-6)


def test_a_turned_photograph_gives_the_same_crop():
    image, face = astronaut()
    upright, _ = align_faces(image, only(face, image), 96)
    for turns in (1, 2, 3):
        turned = torch.rot90(image, turns, (-2, -1))
        matrix = quarter_turn_matrix((image.shape[2], image.shape[3]), turns)
        points = torch.tensor(face.landmarks, dtype=torch.float64)
        turned_face = face_of(transform_points(matrix, points))
        crop, _ = align_faces(turned, only(turned_face, turned), 96)
        assert (crop - upright).abs().max() < 2e-3


def test_reducing_does_not_alias():
    """A pattern finer than the crop can hold becomes its mean, not a moiré."""
    y, x = torch.meshgrid(torch.arange(800), torch.arange(800), indexing="ij")
    image = ((x + y) % 2).float().expand(1, 3, 800, 800).contiguous()
    crops, _ = align_faces(image, only(face_at(400, 400, 150, 17), image), 128)
    assert (crops - 0.5).abs().max() < 0.02


def test_equal_scale_keeps_the_pixels():
    """A face at the crop's own scale and place is copied."""
    size = 128
    image = textured(size, size)
    crops, _ = align_faces(image, only(face_of(face_template(size)), image), size)
    assert torch.allclose(crops, image, atol=2e-4)


def test_a_batch_equals_singles_to_the_bit():
    faces = [face_at(200, 150, 9), face_at(90, 200, 80, 45), face_at(300, 100, 40, 200)] * 4
    images = torch.cat([textured(300, 400, 0), textured(300, 400, 1), textured(300, 400, 2)])
    found = FaceSet((tuple(faces[:3]), (), tuple(faces[3:])), (300, 400))
    crops, alignment = align_faces(images, found, 64)
    assert alignment.image_index == (0,) * 3 + (2,) * 9
    assert alignment.image_count == 3
    for i, (face, image) in enumerate(zip(faces, alignment.image_index, strict=True)):
        single = images[image : image + 1]
        assert torch.equal(align_faces(single, only(face, single), 64)[0][0], crops[i])


def test_the_photograph_around_does_not_matter():
    small = textured(400, 500)
    large = textured(1000, 1200, 1)
    large[:, :, 300:700, 350:850] = small
    crop, _ = align_faces(small, only(face_at(250, 200, 20, 10), small), 96)
    same, _ = align_faces(large, only(face_at(600, 500, 20, 10), large), 96)
    assert torch.allclose(crop, same, atol=1e-3)


def test_outside_is_mirrored():
    image = textured(200, 200)
    mirrored = torch.cat([image.flip(3), image], 3)  # doubled to the left
    crop, _ = align_faces(image, only(face_at(5, 100, 20), image), 96)
    same, _ = align_faces(mirrored, only(face_at(205, 100, 20), mirrored), 96)
    assert torch.allclose(crop, same, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (40, 40)])
def test_tiny_and_far_outside(size: tuple[int, int]):
    image = textured(*size)
    for x in (-300.0, 0.0, 2000.0):
        crops, _ = align_faces(image, only(face_at(x, 10, 20), image), 32)
        assert crops.shape == (1, 3, 32, 32)
        assert crops.isfinite().all()
        assert crops.max() > 0.01  # no black


def test_no_faces():
    images = torch.rand(2, 3, 20, 30)
    crops, alignment = align_faces(images, FaceSet(((), ()), (20, 30)), 64)
    assert crops.shape == (0, 3, 64, 64)
    assert len(alignment) == 0
    assert alignment.image_count == 2
    assert alignment.image_to_crop.shape == (0, 2, 3)


def test_the_input_is_not_written():
    image = textured(100, 100)
    before = image.clone()
    align_faces(image, only(face_at(50, 50, 60, 20), image), 32)
    assert torch.equal(image, before)


def test_wrong_input_is_refused():
    image = textured(100, 120)
    faces = only(face_at(50, 50, 20), image)
    with pytest.raises(InputError, match="at least 16"):
        align_faces(image, faces, 8)
    with pytest.raises(InputError, match="2 images of 120×100"):
        align_faces(image.repeat(2, 1, 1, 1), faces)
    with pytest.raises(InputError, match="120×90"):
        align_faces(image[:, :, :90], faces)
    with pytest.raises(InputError, match="finite"):
        align_faces(image * float("nan"), faces)


def test_large_faces_are_reduced_in_bands_to_the_same_pixels(monkeypatch: pytest.MonkeyPatch):
    image = textured(700, 900)
    faces = only(face_at(430.3, 380.6, 180.0, 20.0), image)
    whole, _ = align_faces(image, faces, 128)
    monkeypatch.setattr("bfr.image.crops._AT_ONCE", 50_000)
    assert torch.equal(align_faces(image, faces, 128)[0], whole)
