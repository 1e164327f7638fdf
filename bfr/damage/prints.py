"""The damage of printing and age: halftone dots, faded ink, yellowed paper."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..image.tensors import check_images, luma

_DOT = 12  # pixels a dot, at least, in which screens are drawn; a scan then makes them smaller
_FINEST = 8  # times the size asked for, at most
_CELL = 64  # places along a cell's side at which the screen's levels are counted


def halftone(images: Tensor, pitch: float, angle: float = 45.0) -> Tensor:
    """Prints pictures as newspapers do: in dots of one ink, larger where it is darker.

    The dots lie on a turned square lattice, round in light and dark and joined in between (the
    spot function is the sum of two cosines). An area's mean stays what it was.

    Args:
        images: B×3×H×W RGB in [0, 1]; the luma is printed.
        pitch: distance of the dots in pixels; below 2 they merge into grey.
        angle: of the lattice, in degrees.

    Returns:
        B×3×H×W grey in [0, 1]: ink is 0, paper 1, an edge in between.

    Raises:
        InputError: if the images are no such batch, or ``pitch`` is not above 0.
    """
    check_images(images)
    if not 0 < pitch < math.inf:
        raise InputError(
            f"The pitch of a screen must be above 0 pixels, got {pitch}. Take 3 or more."
        )
    finer = min(math.ceil(_DOT / pitch), _FINEST)
    tone = F.interpolate(luma(images), scale_factor=finer, mode="bilinear")
    levels = _screen(tone.shape[-2], tone.shape[-1], pitch * finer, angle).to(images)
    return F.avg_pool2d((tone > levels).to(images), finer).expand(-1, 3, -1, -1)


def age_print(images: Tensor, fade: float, tint: float) -> Tensor:
    """Fades ink towards grey and yellows the paper.

    Args:
        images: B×3×H×W RGB in [0, 1].
        fade: how far contrast falls and black lifts, in [0, 1].
        tint: strength of a warm tint, in [0, 1].

    Returns:
        B×3×H×W RGB in [0, 1].
    """
    paper = 1 - tint * torch.tensor([0.0, 0.12, 0.35])[:, None, None]
    return ((images * (1 - fade) + 0.4 * fade) * paper).clamp(0, 1)


def _screen(height: int, width: int, pitch: float, angle: float) -> Tensor:
    """H×W thresholds: each level in [0, 1) is as frequent as any other."""
    y, x = torch.arange(height), torch.arange(width)
    turn = 2 * math.pi / pitch
    cos, sin = turn * math.cos(math.radians(angle)), turn * math.sin(math.radians(angle))
    u, v = cos * x[None] + sin * y[:, None], cos * y[:, None] - sin * x[None]
    spots = u.cos() + v.cos()
    counted = _spots_of_a_cell()
    return torch.searchsorted(counted, spots, out_int32=True) / (len(counted) + 1)


@lru_cache(maxsize=1)
@torch.inference_mode(False)  # ComfyUI's nodes run in it
def _spots_of_a_cell() -> Tensor:
    """The spot function's values over one cell, in their order."""
    wave = ((torch.arange(_CELL) + 0.5) * (2 * math.pi / _CELL)).cos()
    return (wave[:, None] + wave).flatten().sort().values
