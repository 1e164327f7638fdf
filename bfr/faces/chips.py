"""Face chips: the pictures that recognition networks take, as matrices over aligned crops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from ..image.geometry import face_template


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # ComfyUI's nodes run in it; the matrices also serve training
def chip_windows(
    size: int, chip: int, template: Sequence[Sequence[float]], blur: float
) -> tuple[Tensor, Tensor]:
    """The chip×size matrices that cut a network's picture out of an aligned crop: rows, columns.

    The crop's and the network's templates differ in scale and place; the best least-squares fit
    without rotation is a separable resampling. So is the blur before it.
    """
    source = face_template(size)
    target = torch.tensor(template, dtype=torch.float64)
    centred = source - source.mean(0), target - target.mean(0)
    scale = float((centred[0] * centred[1]).sum() / centred[0].square().sum())
    shift = (target.mean(0) - scale * source.mean(0)).tolist()
    rows, columns = (_resampling(size, chip, scale, start) for start in reversed(shift))
    if not blur:
        return rows, columns
    blurring = _blurring(size, blur * size)
    return rows @ blurring, columns @ blurring


def _resampling(size: int, chip: int, scale: float, shift: float) -> Tensor:
    """A chip×size matrix that maps the pixels x of an axis to scale·x + shift, antialiased."""
    places = (torch.arange(chip, dtype=torch.float64) - shift) / scale
    reach = max(1.0, 1.0 / scale)
    away = (places[:, None].clamp(0, size - 1) - torch.arange(size, dtype=torch.float64)).abs()
    weights = (1 - away / reach).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


def _blurring(size: int, deviation: float) -> Tensor:
    """A size×size matrix that blurs an axis, its edges mirrored."""
    side = 2 * math.ceil(3 * deviation) + 1
    axis = torch.eye(size, dtype=torch.float64)[None, None]
    return gaussian_blur2d(axis, (side, 1), (deviation, deviation), "reflect")[0, 0]
