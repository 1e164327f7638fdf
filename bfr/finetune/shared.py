"""Changes that all faces share: a repair moves each face its own way, a fault moves all."""

from __future__ import annotations

import torch
from torch import Tensor

CHANCES = 3.0  # squared standard errors by which some place of all stands out by chance


def alike(values: Tensor, spread: float) -> Tensor:
    """The amount by which vectors move further alike than they differ, where they do most.

    Args:
        values: N×C×H×W, a vector for each of N faces and place.
        spread: what one face more would add to their squared spread, as its root.
    """
    count, mean = len(values), values.mean(0)
    variance = ((values - mean).square().sum((0, 1)) + spread**2) / count
    return (mean.norm(dim=0) - variance.sqrt()).clamp(min=0).max()


def shared(values: Tensor, spread: float, chances: float = CHANCES) -> Tensor:
    """The length of the largest vector that all faces share, beyond what chance would give.

    Args:
        values, spread: as for `alike`.
        chances: squared standard errors that chance gives: the more places there are, the more.
    """
    return shared_each(values, spread, chances).max()


def shared_each(values: Tensor, spread: float, chances: float = CHANCES) -> Tensor:
    """H×W, `shared` of each place by itself."""
    count, mean = len(values), values.mean(0)
    variance = ((values - mean).square().sum(0) + spread**2) / count
    return (mean.square() - chances * variance / count).sum(0).clamp(min=0).sqrt()


def surely(values: Tensor, spread: float, errors: float = 2.0) -> Tensor:
    """The mean of N numbers, less some standard errors.

    Args:
        values: N×…, numbers for each of N faces.
        spread: as for `alike`.
        errors: how many: the more places there are, the more.
    """
    count, mean = len(values), values.mean(0)
    variance = ((values - mean).square().sum(0) + spread**2) / count
    return mean - errors * (variance / count).sqrt()


def slope(before: Tensor, after: Tensor) -> Tensor:
    """N regression slopes of N×H×W values; 1 where there is nothing to tell one by."""
    x, y = (values - values.mean((1, 2), keepdim=True) for values in (before, after))
    power = x.square().sum((1, 2))
    return torch.where(power > 1e-6, (x * y).sum((1, 2)) / power.clamp(min=1e-6), 1.0)
