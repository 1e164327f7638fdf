"""Matrices against the operations on pixels that they describe."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from bfr.errors import InputError
from bfr.image.geometry import (
    compose,
    face_template,
    fit_similarity,
    invert,
    quarter_turn_matrix,
    resize_matrix,
    scale_of,
    transform_points,
)


def ramps(height: int, width: int) -> torch.Tensor:
    """1×2×H×W float64: each pixel holds its own (x, y)."""
    y, x = torch.meshgrid(
        torch.arange(height).double(), torch.arange(width).double(), indexing="ij"
    )
    return torch.stack([x, y])[None]


def similarities(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, count, dtype=torch.float64, generator=generator)
    shift = 100 * torch.randn(count, 2, 1, dtype=torch.float64, generator=generator)
    linear = torch.stack([torch.stack([a, -b], -1), torch.stack([b, a], -1)], -2)
    return torch.cat([linear, shift], -1)


@pytest.mark.parametrize("turns", range(-1, 6))
def test_quarter_turns_are_those_of_rot90(turns: int):
    before = ramps(5, 7)
    after = torch.rot90(before, turns, (-2, -1))
    matrix = quarter_turn_matrix((5, 7), turns)
    here = ramps(after.shape[2], after.shape[3])[0].flatten(1).T
    came_from = after[0].flatten(1).T  # the value of a pixel is where it was
    assert torch.equal(transform_points(matrix, came_from), here)


@pytest.mark.parametrize("to_size", [(20, 28), (10, 7), (13, 31)])
def test_resize_is_that_of_interpolate(to_size: tuple[int, int]):
    size = (10, 14)
    resized = F.interpolate(ramps(*size), to_size, mode="bilinear", align_corners=False)
    points = resized[0].flatten(1).T
    here = ramps(*to_size)[0].flatten(1).T
    found = transform_points(resize_matrix(size, to_size), points)
    inner = ((points > 0.5) & (points < torch.tensor([12.5, 8.5]))).all(-1)  # edges are clamped
    assert inner.sum() > 20
    assert torch.allclose(found[inner], here[inner], atol=1e-9)


def test_template_scales_with_the_crop():
    big, small = face_template(512), face_template(128)
    assert torch.allclose((big + 0.5) / 4 - 0.5, small, atol=1e-12)


def test_fit_recovers_similarities():
    matrices = similarities(6)
    points = face_template(512)
    found = fit_similarity(points.expand(6, 5, 2), transform_points(matrices, points))
    assert torch.allclose(found, matrices, atol=1e-9)


def test_fit_is_the_least_squares_similarity():
    """No small change of the four parameters brings the points closer."""
    generator = torch.Generator().manual_seed(1)
    source = 50 * torch.randn(1, 5, 2, dtype=torch.float64, generator=generator)
    target = face_template(128)
    best = fit_similarity(source, target)

    def error(matrix: torch.Tensor) -> float:
        return float((transform_points(matrix, source) - target).square().sum())

    # Rotation and scale couple two entries each; the shift has two of its own.
    directions = torch.zeros(4, 1, 2, 3, dtype=torch.float64)
    directions[0, 0, 0, 0] = directions[0, 0, 1, 1] = 1
    directions[1, 0, 1, 0], directions[1, 0, 0, 1] = 1, -1
    directions[2, 0, 0, 2] = directions[3, 0, 1, 2] = 1
    for direction in directions:
        for step in (-1e-3, 1e-3):
            assert error(best + step * direction) > error(best)


def test_fit_never_mirrors():
    mirrored = face_template(512) * torch.tensor([-1.0, 1.0])
    matrix = fit_similarity(mirrored[None], face_template(512))
    assert torch.linalg.det(matrix[..., :2]) > 0


@pytest.mark.parametrize(
    ("points", "word"),
    [(torch.full((1, 5, 2), 3.0), "coincide"), (torch.full((1, 5, 2), float("nan")), "finite")],
)
def test_fit_refuses_useless_landmarks(points: torch.Tensor, word: str):
    with pytest.raises(InputError, match=word):
        fit_similarity(points, face_template(512))


def test_fit_of_no_faces():
    assert fit_similarity(torch.zeros(0, 5, 2), face_template(512)).shape == (0, 2, 3)


def test_invert_and_compose():
    first, then = similarities(4), similarities(4).flip(0)
    points = face_template(512)
    back = transform_points(invert(first), transform_points(first, points))
    assert torch.allclose(back, points.expand(4, 5, 2), atol=1e-8)
    both = transform_points(compose(first, then), points)
    assert torch.allclose(both, transform_points(then, transform_points(first, points)))
    assert torch.allclose(scale_of(compose(first, then)), scale_of(first) * scale_of(then))
