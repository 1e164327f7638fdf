"""Camera noise: nothing at ISO 0, the stated variance on the mosaic, and colours left in place."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kornia.color import CFA, raw_to_rgb
from torch import Tensor

from bfr.damage import camera
from bfr.damage.camera import camera_noise, demosaic, mosaic, noise_levels
from bfr.errors import InputError
from bfr.quality.likeness import psnr


def taken(images: Tensor, iso: float, seed: int = 0) -> Tensor:
    return camera_noise(images, iso, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def smooth() -> Tensor:
    """Two pictures with soft colours, 2×3×64×64."""
    coarse = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    # Colours that every camera can hold.
    coarse = 0.5 * coarse.mean(1, keepdim=True) + 0.25 * coarse + 0.125
    return F.interpolate(coarse, (64, 64), mode="bicubic").clamp(0, 1)


def plain(level: float) -> Tensor:
    return torch.full((1, 3, 128, 128), level)


@pytest.mark.parametrize("seed", range(4))
def test_without_noise_the_picture_comes_back(smooth: Tensor, seed: int):
    before = smooth.clone()
    again = taken(smooth, 0, seed)
    assert (psnr(again, smooth) > 40).all()  # demosaicing guesses two thirds of the values
    assert torch.equal(smooth, before)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_without_noise_a_plain_grey_is_exact(level: float):
    assert (taken(plain(level), 0) - level).abs().max() < 1e-5


def test_noise_follows_the_seed_and_grows_with_the_sensitivity(smooth: Tensor):
    noisy = taken(smooth, 1500)
    assert noisy.shape == smooth.shape and noisy.dtype == torch.float32
    assert noisy.min() >= 0 and noisy.max() <= 1
    assert torch.equal(noisy, taken(smooth, 1500))
    assert not torch.equal(noisy, taken(smooth, 1500, seed=1))
    quality = [psnr(taken(smooth, iso), smooth).mean() for iso in (0, 100, 400, 1500, 3000)]
    assert all(a > b + 1 for a, b in pairwise(quality))


def test_the_mosaic_has_the_stated_variance():
    shot, read = noise_levels(1500)
    for level in (0.1, 0.5):
        raw = torch.full((1, 1, 400, 400), level)
        noisy = camera.add_noise(raw, shot, read, np.random.default_rng(0))
        assert abs(noisy.mean() - level) < 1e-3
        assert noisy.var().item() == pytest.approx(shot * level + read, rel=0.02)


def test_levels_are_those_of_the_docstring():
    shot, read = noise_levels(3000)
    assert shot == pytest.approx(0.012)
    assert np.log(read) == pytest.approx(2.18 * np.log(0.012) + 1.20)


def test_noise_is_coloured_and_alike_in_neighbours():
    noise = taken(plain(0.5), 1500) - 0.5
    red, green, blue = noise.std((0, 2, 3))
    assert red > 1.5 * green and blue > 1.5 * green
    centred = noise - noise.mean((2, 3), keepdim=True)
    neighbours = (centred[..., 1:] * centred[..., :-1]).mean((0, 2, 3))
    assert (neighbours > 0.2 * centred.var((0, 2, 3))).all()


def test_the_mosaic_keeps_what_was_measured(smooth: Tensor):
    raw = mosaic(smooth)
    assert torch.equal(raw[0, 0, 0, :2], torch.stack([smooth[0, 0, 0, 0], smooth[0, 1, 0, 1]]))
    assert torch.equal(raw[0, 0, 1, :2], torch.stack([smooth[0, 1, 1, 0], smooth[0, 2, 1, 1]]))
    assert torch.equal(mosaic(demosaic(raw)), raw)


@pytest.mark.parametrize("size", [(4, 4), (7, 9), (16, 5)])
def test_demosaicing_keeps_constants_and_slopes(size: tuple[int, int]):
    colour = torch.tensor([0.2, 0.5, 0.9])[:, None, None]
    even = colour.expand(1, 3, *size)
    assert torch.allclose(demosaic(mosaic(even)), even, atol=1e-6)
    y, x = torch.arange(12.0)[:, None], torch.arange(12.0)
    slope = (colour + 0.01 * x + 0.02 * y)[None]
    inner = (..., slice(2, -2), slice(2, -2))
    assert torch.allclose(demosaic(mosaic(slope))[inner], slope[inner], atol=1e-6)


def test_demosaicing_beats_bilinear():
    coarse = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    edges = F.interpolate(coarse, (64, 64), mode="bicubic").clamp(0, 1).expand(-1, 3, -1, -1)
    bilinear = raw_to_rgb(mosaic(edges), CFA.BG)
    assert (psnr(demosaic(mosaic(edges)), edges) > psnr(bilinear, edges) + 3).all()


def test_bad_input_is_named(smooth: Tensor):
    with pytest.raises(InputError, match="ISO"):
        taken(smooth, -100)
    with pytest.raises(InputError, match="4 pixels"):
        taken(smooth[..., :3], 100)
    with pytest.raises(InputError):
        taken(smooth[0], 100)
