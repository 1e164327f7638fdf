"""Grain: measured as it was drawn, and drawn so that inside and outside of the mask agree."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bfr.faces.align import align_faces
from bfr.faces.grain import measure_grain
from bfr.faces.grain_drawing import draw_grain
from bfr.faces.paste import paste_faces
from bfr.image.tensors import luma
from tests.portraits import face_at, only


def shading(side: int) -> Tensor:
    """A soft light from one side, 1×3×S×S."""
    return torch.linspace(0.3, 0.6, side).expand(1, 3, side, side).clone()


def noise(side: int, level: float, coarse: float, grey: bool = True, seed: int = 0) -> Tensor:
    """Grain of a standard deviation, blurred by a Gaussian, 1×3×S×S."""
    from kornia.filters import gaussian_blur2d

    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(1, 1 if grey else 3, side, side, generator=generator)
    if coarse:
        kernel = 2 * round(3 * coarse) + 1
        white = gaussian_blur2d(white, kernel, (coarse, coarse), "circular")
    return level * (white / white.std()).expand(1, 3, side, side)


def bands(image: Tensor, where: Tensor) -> Tensor:
    """The amplitude in four octaves of the luma's blocks that lie wholly in a mask."""
    side = 16
    blocks = luma(image)[0, 0].unfold(0, side, 8).unfold(1, side, 8).reshape(-1, side, side)
    inside = where[0, 0].unfold(0, side, 8).unfold(1, side, 8).reshape(-1, side, side)
    blocks = blocks[(inside > 0.99).all(-1).all(-1)].double()
    window = torch.hann_window(side, dtype=torch.float64)
    blocks = (blocks - blocks.mean((-2, -1), keepdim=True)) * window[:, None] * window
    power = torch.fft.fft2(blocks).abs().square().mean(0)
    frequency = torch.fft.fftfreq(side)
    radius = torch.hypot(frequency[:, None], frequency)
    edges = ((0.1, 0.18), (0.18, 0.28), (0.28, 0.4), (0.4, 0.71))
    return torch.stack([power[(radius > a) & (radius <= b)].mean() for a, b in edges]).sqrt()


@pytest.mark.parametrize("coarse", [0.0, 0.8, 1.5])
def test_the_spectrum_inside_of_the_mask_is_that_outside(coarse: float):
    clean = shading(400)
    photo = (clean + noise(400, 0.05, coarse)).clamp(0, 1)
    crops, alignment = align_faces(clean, only(face_at(200, 190, 90), clean), 256)
    smooth, masks = paste_faces(photo, crops, alignment, colour="none")
    grainy, _ = paste_faces(photo, crops, alignment, colour="none", grain=1.0)
    outside = bands(photo, (masks == 0).float())
    shown = outside > 0.05 * outside.max()
    change = bands(grainy, masks) / outside - 1
    assert change[shown].abs().max() < 0.1
    assert (bands(smooth, masks) / outside)[shown].min() < 0.5, "there was something to add"


def test_the_grain_comes_back_in_the_soft_edge_too():
    clean = shading(400)
    photo = clean + noise(400, 0.05, 0.0)
    share = torch.linspace(0, 1, 400).expand(1, 1, 400, 400)
    face = photo.lerp(clean, share)
    wanted = measure_grain(photo)
    assert wanted is not None
    drawn = draw_grain(face, share, wanted, torch.Generator().manual_seed(1))
    spread = (face + drawn - clean)[0, 0].unfold(1, 40, 40).std((0, 2))
    assert (spread / 0.05 - 1).abs().max() < 0.12
    assert drawn[..., 0].abs().max() < 0.02


def test_grain_follows_the_brightness():
    image = torch.linspace(0.1, 0.9, 512).expand(1, 3, 256, 512)
    grain = measure_grain(image + image * noise(512, 0.06, 0.0)[..., :256, :])
    assert grain is not None
    low, high = grain.strength[1], grain.strength[4]
    assert 2 < high / low < 5, "at 0.8 four times that at 0.2, with some doubt"


def test_the_channels_share_grain_or_do_not():
    clean = shading(256)
    shared = measure_grain(clean + noise(256, 0.05, 0.0))
    single = measure_grain(clean + noise(256, 0.05, 0.0, grey=False))
    assert shared is not None and single is not None
    for grain, alike in ((shared, True), (single, False)):
        drawn = draw_grain(clean, torch.ones(1, 1, 256, 256), grain, torch.Generator())
        correlation = torch.corrcoef(drawn[0].flatten(1))[0, 1]
        assert (correlation > 0.99) == alike
        assert alike or correlation.abs() < 0.1
        assert torch.allclose(drawn.std((0, 2, 3)), torch.tensor(0.05), rtol=0.1)


def test_a_clean_photograph_gets_none():
    clean = shading(256)
    grain = measure_grain(clean)
    assert grain is not None and grain.power.max() < 1e-8


def test_edges_are_no_grain():
    image = shading(256)
    image[..., ::50, :] = 0
    image[..., :, 64:80] = 1
    grain = measure_grain((image + noise(256, 0.02, 0.0)).clamp(0, 1))
    assert grain is not None
    assert grain.power.mean().sqrt() == pytest.approx(0.02, rel=0.3)


def test_where_all_is_edges_the_grain_is_that_of_what_is_nearly_as_bright():
    image = torch.full((1, 3, 256, 256), 0.8)
    image[..., :128] = 0.6 + 0.2 * (torch.arange(128) // 4 % 2 - 0.5)
    grain = measure_grain(image + noise(256, 0.01, 0.0))
    assert grain is not None
    assert grain.power.mean().sqrt() == pytest.approx(0.01, rel=0.3)


def test_paper_without_grain_gets_none():
    clean = shading(400)
    clean[..., 200:] = 0.97
    photo = clean.clone()
    photo[..., :200] += noise(400, 0.05, 0.0)[..., :200]
    crops, alignment = align_faces(clean, only(face_at(200, 190, 90), clean), 256)
    grainy, masks = paste_faces(photo, crops, alignment, colour="none", grain=1.0)
    added, covered = (grainy - clean)[:, :1], masks > 0.99
    assert 0.03 < added[..., :190][covered[..., :190]].std() < 0.055
    assert added[..., 230:][covered[..., 230:]].std() < 0.005


def test_where_there_is_no_room_nothing_is_told():
    assert measure_grain(torch.rand(1, 3, 20, 200)) is None
    assert measure_grain(torch.zeros(1, 3, 200, 200)) is None
    assert measure_grain(shading(200), torch.zeros(1, 1, 200, 200)) is None


def test_grain_is_drawn_by_the_images_seed():
    photo = (shading(300) + noise(300, 0.05, 0.0)).clamp(0, 1)
    crops, alignment = align_faces(photo, only(face_at(150, 140, 60), photo), 128)
    smooth = F.avg_pool2d(crops, 5, 1, 2)
    one, other, again = (
        paste_faces(photo, smooth, alignment, grain=1.0, seed=seed) for seed in (1, 2, 1)
    )
    assert torch.equal(one[0], again[0])
    assert not torch.equal(one[0], other[0])
    untouched = (one[1] == 0).expand_as(photo)
    assert torch.equal(one[0][untouched], photo[untouched])
