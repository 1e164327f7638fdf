"""The low-pass φ."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.published import GOLDEN
from bfr.errors import InputError
from bfr.image.lowpass import lowpass, resize_weights

REFERENCE = load_file(GOLDEN / "lowpass.safetensors")


@pytest.mark.parity
@pytest.mark.parametrize(("size", "factor"), [(32, 4), (64, 8), (96, 16), (60, 4)])
def test_matches_the_published_implementation(size: int, factor: int):
    image, small, expected = (
        REFERENCE[f"size{size}_factor{factor}.{name}"] for name in ("input", "down", "output")
    )
    down = resize_weights(size, size // factor).to(image)
    assert (down @ image @ down.mT - small).abs().max() <= 1e-5
    assert (lowpass(image, factor) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("shape", [(2, 3, 32, 48), (1, 1, 48, 16), (3, 16, 16)])
def test_keeps_constants_and_shape(shape: tuple[int, ...]):
    flat = torch.full(shape, 0.3)
    result = lowpass(flat, 8)
    assert result.shape == shape
    assert result.dtype == flat.dtype
    assert torch.allclose(result, flat, atol=1e-6)


def test_is_linear_and_works_an_image_alone():
    a, b = torch.rand(2, 4, 3, 32, 48).double()
    both = lowpass(2 * a - 0.5 * b, 4)
    assert torch.allclose(both, 2 * lowpass(a, 4) - 0.5 * lowpass(b, 4), atol=1e-12)
    assert torch.allclose(lowpass(a, 4)[2:3], lowpass(a[2:3], 4), atol=1e-12)


def test_axes_are_not_mixed_up():
    image = torch.rand(1, 3, 32, 64).double()
    assert torch.allclose(lowpass(image.mT, 8), lowpass(image, 8).mT, atol=1e-12)
    stripes = torch.rand(1, 1, 1, 64).double().expand(1, 1, 32, 64)
    result = lowpass(stripes, 8)
    assert torch.allclose(result, result[:, :, :1].expand_as(result), atol=1e-12)


def test_keeps_the_low_and_drops_the_high_frequencies():
    x = (torch.arange(128, dtype=torch.float64) + 0.5) * torch.pi / 128
    slow = torch.cos(2 * x).expand(1, 1, 128, 128)
    fast = torch.cos(60 * x).expand(1, 1, 128, 128)
    assert (lowpass(slow, 8) - slow).abs().max() < 0.05
    assert lowpass(fast, 8).abs().max() < 0.05


def test_factor_one_changes_nothing():
    image = torch.rand(1, 3, 17, 5).double()
    assert torch.allclose(lowpass(image, 1), image, atol=1e-12)


def test_input_is_not_written_to():
    image = torch.rand(1, 3, 16, 16)
    before = image.clone()
    lowpass(image, 4)
    assert torch.equal(image, before)


def test_gradient_is_the_transposed_map():
    image = torch.rand(1, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    lowpass(image, 4).sum().backward()
    points = torch.eye(16 * 16, dtype=torch.float64).reshape(-1, 1, 16, 16)
    assert image.grad is not None
    assert torch.allclose(image.grad.flatten(), lowpass(points, 4).sum((1, 2, 3)))


def test_first_use_in_inference_mode_does_not_spoil_gradients():
    with torch.inference_mode():
        lowpass(torch.rand(1, 1, 28, 28, dtype=torch.float64), 7)
    image = torch.rand(1, 1, 28, 28, dtype=torch.float64, requires_grad=True)
    lowpass(image, 7).sum().backward()
    assert image.grad is not None


@pytest.mark.parametrize("factor", [0, -4, 5, 64, 2.0])
def test_wrong_factor(factor):
    with pytest.raises(InputError, match="factor"):
        lowpass(torch.zeros(1, 3, 32, 32), factor)


def test_the_message_names_a_factor_that_works():
    with pytest.raises(InputError, match="Choose 15"):
        lowpass(torch.zeros(1, 3, 60, 60), 16)


def test_one_side_alone_may_be_wrong():
    with pytest.raises(InputError, match="30"):
        lowpass(torch.zeros(1, 3, 32, 30), 8)
