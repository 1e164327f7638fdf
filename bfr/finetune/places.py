"""Changes at one place of all faces: light, colour and sharpness."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_lab
from torch import Tensor

from .look import blurred
from .shared import CHANCES, alike, shared

_SIDES = 32, 16, 8, 4  # px of a place
_SMALL = 8, 4  # where colours are told by `shared`; repairs change those of larger ones
_FINER = 0.8  # the smaller a place, the more does a repair change it: by this power
_SPREAD_L, _SPREAD_TINGE, _SPREAD_GROWTH = 1.0, 2.0, 0.3  # see `shared`
_FINE = 2.0  # px: what is finer makes a place sharp
_BARE = 1 / 255  # of detail that nothing is seen of


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
    count, mean = len(growth), growth.mean(0)
    variance = ((growth - mean).square().sum(0) + _SPREAD_GROWTH**2) / count
    return (mean - 2 * (variance / count).sqrt()).max()


def _lab(images: Tensor, side: int) -> Tensor:
    """The colours of places, N×3×h×w in CIE Lab."""
    return rgb_to_lab(F.avg_pool2d(images, side))


def _shared(change: Tensor, spread: float, side: int) -> Tensor:
    """`shared`, as of a place of the largest side."""
    finer = _SIDES[0] / side
    return shared(change, spread, CHANCES * finer) / finer**_FINER
