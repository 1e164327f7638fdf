"""Square images at another size, as PyTorch resizes them, and more exactly."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from bfr.image.resize import resize_square


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_a_square_of_the_wanted_size_comes_back_itself_and_a_flat_one_stays_flat():
    image = noise(1, 3, 8, 8)
    assert resize_square(image, 8) is image
    flat = torch.full((1, 3, 8, 8), 0.3)
    for size in (4, 13):
        assert torch.allclose(resize_square(flat, size), torch.full((1, 3, size, size), 0.3))


@pytest.mark.parametrize(
    ("old", "new"), [(64, 64), (97, 41), (41, 97), (130, 129), (3, 40), (9, 1)]
)
def test_resizing_is_pytorchs_in_double_precision(old: int, new: int):
    image = noise(2, 3, old, old)
    wanted = F.interpolate(image.double(), (new, new), mode="bicubic", antialias=True)
    assert (resize_square(image, new) - wanted).abs().max() < 1e-6
    with_gradient = resize_square(image.clone().requires_grad_(), new)
    assert with_gradient.requires_grad and torch.allclose(with_gradient, wanted.float(), atol=1e-4)


def test_resizing_stays_exact_in_half_precision_around_it():
    image = noise(1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        resized = resize_square(image, 40)
    assert torch.equal(resized, resize_square(image, 40))
