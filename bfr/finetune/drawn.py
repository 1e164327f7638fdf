"""Regular drawings that a restorer adds to single faces: waves and blocks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image.tensors import luma
from .look import around, in_ring, power_of

_LONGEST = 4  # waves across a face: fewer are its own light and shade
_PEAK, _NEAR, _FAR = 3, 5, 9  # frequencies: a wave's width, and the ring around it
_BEYOND = 2.0  # times the power of the ring: what a wave has more than that stands out
_PERIODS = (4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32)  # px of blocks
_EDGE, _BESIDE = 8 / 255, 9  # a larger step is an edge; px beside a line


def waves(before: Tensor, after: Tensor) -> Tensor:
    """N amplitudes in 255ths of the strongest wave that each of N×3×S×S faces gets."""
    old, new, change = (_power(x) for x in (before, after, after - before))
    usual = in_ring(change, _NEAR, _FAR)
    standing = _PEAK**2 * (around(change, _PEAK) - _BEYOND * usual).clamp(min=0)
    place = torch.arange(change.shape[-1], device=change.device) - change.shape[-1] // 2
    counts = torch.hypot(place[:, None].float(), place.float()) >= _LONGEST
    counts = counts & (around(new, _PEAK) > around(old, _PEAK))  # a wave that goes is none
    return 255 * (standing * counts).amax((1, 2)).sqrt()


def blocks(before: Tensor, after: Tensor) -> Tensor:
    """N amounts by which each of N×3×S×S faces gets steps along a grid.

    In 255ths that the lines of the grid have more than those beside them, times the root of their
    number: as far as that, their mean is from chance.
    """
    old, new = (torch.stack([_stepped(part) for part in _parts(x)]) for x in (before, after))
    return (new - old).amax(0)


def _parts(images: Tensor) -> tuple[Tensor, Tensor]:
    """Lightness and colour: N×1×S×S luma, N×2×S×S differences from green."""
    return luma(images), images[:, ::2] - images[:, 1:2]


def _power(images: Tensor) -> Tensor:
    """N×S×S power spectra of N×3×S×S, lightness and colour together."""
    planes = torch.cat(_parts(images), 1)
    return power_of(planes.flatten(0, 1)[:, None]).unflatten(0, planes.shape[:2]).sum(1)


def _stepped(planes: Tensor) -> Tensor:
    """N amounts of steps along the best grid of N×C×S×S planes, both across and down."""
    both = []
    for axis in (2, 3):
        steps = planes.diff(dim=axis).abs().clamp(max=_EDGE).mean((1, 5 - axis))
        padded = F.pad(steps[:, None], (_BESIDE // 2,) * 2, mode="reflect")
        more = 255 * (steps - F.avg_pool1d(padded, _BESIDE, 1)[:, 0])
        lines = [more[:, phase::period] for period in _PERIODS for phase in range(period)]
        both.append(torch.stack([x.mean(1) * x.shape[1] ** 0.5 for x in lines]).amax(0))
    return torch.minimum(*both)
