"""Changes at one place of all faces: light, colour, sharpness, texture and spots."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_lab
from torch import Tensor

from ..image.tensors import luma
from ..quality.texture import grain_by_place
from .look import blurred
from .shared import CHANCES, alike, shared, surely

_SIDES = 32, 16, 8, 4  # px of a place
_SMALL = 8, 4  # where colours are told by `shared`; repairs change those of larger ones
_FINER = 0.8  # the smaller a place, the more does a repair change it: by this power
_SPREAD_L, _SPREAD_TINGE, _SPREAD_GROWTH = 1.0, 2.0, 0.3  # see `shared`
_FINE = 2.0  # px: what is finer makes a place sharp
_BARE = 1 / 255  # of detail that nothing is seen of
_SKIN, _SKIN_STEP, _BARE_SKIN, _SPREAD_FALL = 32, 16, 0.1, 0.1  # px, px, 255ths; see `surely`
_SPOT, _SPOT_PLACE, _SPREAD_SPOTS = 1.2, 64, 2.0  # px, px; see `surely`
_SPOT_ROUND, _SPOT_STRONG = 0.4, 2.0  # a spot's smaller curvature, of its larger one, and in 255ths


def shade(before: Tensor, after: Tensor, contrast: Tensor) -> Tensor:
    """The change of L where it is greatest, the contrast of the whole aside.

    Args:
        before, after: N×3×S×S RGB in [0, 1].
        contrast: N×1×1×1, by which that of each face changed.
    """
    found = []
    for side in _SIDES:
        old, new = (_lab(x, side)[:, :1] for x in (before, after))
        old, new = (x - x.mean((2, 3), keepdim=True) for x in (old, new))
        found.append(_shared(new - contrast * old, _SPREAD_L, side))
    return torch.stack(found).max()


def tinge(before: Tensor, after: Tensor) -> Tensor:
    """The change of a and b of N×3×S×S faces where it is greatest."""
    large, *small = (
        (_lab(after, side) - _lab(before, side))[:, 1:] for side in (_SIDES[0], *_SMALL)
    )
    found = [_shared(x, _SPREAD_TINGE, side) for x, side in zip(small, _SMALL, strict=True)]
    return torch.stack([alike(large, _SPREAD_TINGE), *found]).max()


def sharpened(before: Tensor, after: Tensor) -> Tensor:
    """The power of e by which fine detail of N×1×S×S luma grows more than elsewhere on the face."""
    old, new = (
        (F.avg_pool2d((x - blurred(x, _FINE)).square(), _SIDES[0]).sqrt() + _BARE).log()
        for x in (before, after)
    )
    growth = new - old
    growth = growth - growth.flatten(1).median(1).values[:, None, None, None]
    return surely(growth, _SPREAD_GROWTH).max()


def smoothed(before: Tensor, after: Tensor) -> Tensor:
    """The power of e by which the texture of a place falls in N×3×S×S faces.

    Where it falls all over the face, because noise goes, only what it falls more counts.
    """
    old, new = (
        (grain_by_place(_face(x), _SKIN, _SKIN_STEP) + _BARE_SKIN).log() for x in (before, after)
    )
    growth = new - old
    usual = growth.flatten(1).median(1).values.clamp(max=0)
    return surely(usual[:, None, None] - growth, _SPREAD_FALL).max()


def spotted(before: Tensor, after: Tensor, contrast: Tensor) -> Tensor:
    """The number of dark spots that a place of N×3×S×S faces gets.

    Texture has as many light points, so only what the dark ones exceed those by counts.

    Args:
        before, after: N×3×S×S RGB in [0, 1].
        contrast: N×1×1×1, by which that of each face changed.
    """
    round_, least = _roundness(luma(after) - contrast * luma(before))
    middle = least.abs() == F.max_pool2d(least.abs(), 5, 1, 2)
    # Where the base had a light spot that goes, the change alone looks like a dark one.
    seen = _roundness(luma(after))[1] * least.sign() > _SPOT_STRONG / 2
    new = middle & seen & (least.abs() > _SPOT_STRONG) & (round_ > _SPOT_ROUND)
    spots = _face(new * least.sign())
    place = min(_SPOT_PLACE, *spots.shape[2:])
    number = F.avg_pool2d(spots, place, place // 4)[:, 0] * place**2
    return surely(number, _SPREAD_SPOTS, errors=3.0).max()


def _roundness(grey: Tensor) -> tuple[Tensor, Tensor]:
    """The smaller curvature of N×1×H×W as a share of the larger one, and in 255ths.

    Above 0 in the dark, below in the light, 0 where it is neither.
    """
    x = F.pad(blurred(255 * _SPOT**2 * grey, _SPOT), (1, 1, 1, 1), mode="replicate")
    xx, yy = x[..., 1:-1, :].diff(n=2, dim=-1), x[..., 1:-1].diff(n=2, dim=-2)
    xy = (x[..., 2:, 2:] + x[..., :-2, :-2] - x[..., 2:, :-2] - x[..., :-2, 2:]) / 4
    mean, half = (xx + yy) / 2, torch.hypot((xx - yy) / 2, xy)
    least = (mean.abs() - half).clamp(min=0)
    return least / (mean.abs() + half).clamp(min=1e-12), least * mean.sign()


def _face(images: Tensor) -> Tensor:
    """N×C×S×S aligned crops without the hair, and what is beside the face."""
    side = images.shape[-1]
    return images[..., side * 5 // 32 :, side * 3 // 16 : side * 13 // 16]


def _lab(images: Tensor, side: int) -> Tensor:
    """The colours of places, N×3×h×w in CIE Lab."""
    return rgb_to_lab(F.avg_pool2d(images, side))


def _shared(change: Tensor, spread: float, side: int) -> Tensor:
    """`shared`, as of a place of the largest side."""
    finer = _SIDES[0] / side
    return shared(change, spread, CHANCES * finer) / finer**_FINER
