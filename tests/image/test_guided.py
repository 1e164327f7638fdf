"""The guided filter: masks that follow the edges of their pictures."""

from __future__ import annotations

import torch

from bfr.image.guided import guided


def half(left: float, right: float, middle: int, channels: int = 1) -> torch.Tensor:
    """1×C×40×60, one value left of a column and another right of it."""
    picture = torch.full((1, channels, 40, 60), left)
    picture[..., middle:] = right
    return picture


def test_a_mask_moves_to_the_edge_of_its_picture():
    """The mask ends three pixels beside the edge, and then at it."""
    picture = half(0.2, 0.8, 30, 3) * torch.tensor([1.0, 0.7, 0.4])[:, None, None]
    found = guided(half(0.0, 1.0, 33), picture, 8, 1e-3)
    assert (found[..., :30] < 0.5).all() and (found[..., 30:] > 0.5).all()


def test_without_an_edge_it_is_a_blur():
    found = guided(half(0.0, 1.0, 30), torch.full((1, 3, 40, 60), 0.5), 4, 1e-3)
    steps = found[0, 0, 20].diff()
    assert (steps >= -1e-6).all() and steps.max() < 0.2
    assert found[..., 0].abs().max() < 1e-5 and (found[..., -1] - 1).abs().max() < 1e-5


def test_colours_count_where_the_light_is_the_same():
    picture = half(0.5, 0.5, 30, 3)
    picture[:, 0, :, 30:], picture[:, 1, :, 30:] = 0.7, 0.3982  # about as light
    found = guided(half(0.0, 1.0, 33), picture, 8, 1e-4)
    assert (found[..., :30] < 0.5).all() and (found[..., 30:] > 0.5).all()


def test_a_mask_of_one_value_stays():
    picture = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    for value in (0.0, 0.3, 1.0):
        found = guided(torch.full((2, 1, 32, 48), value), picture, 8, 1e-3)
        torch.testing.assert_close(found, torch.full_like(found, value), atol=1e-5, rtol=0)
