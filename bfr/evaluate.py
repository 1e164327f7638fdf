"""How close a restored face is to a reference."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import InputError


def psnr(images: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of each image, in decibels: ``-10·log10(MSE)``.

    Args:
        images: B×3×H×W RGB in [0, 1].
        reference: B×3×H×W RGB in [0, 1].
        mask: B×1×H×W weights in [0, 1] of the pixels that count; None counts all.

    Returns:
        B float64 values; infinite for equal images, NaN where the mask is empty.

    Raises:
        InputError: if the shapes differ.
    """
    if images.shape != reference.shape:
        raise InputError(
            f"Images to compare must have one shape, but are {tuple(images.shape)} "
            f"and {tuple(reference.shape)}."
        )
    error = (images.double() - reference.double()).square().mean(1, keepdim=True)
    weights = torch.ones_like(error) if mask is None else mask.double()
    mean = (error * weights).sum((1, 2, 3)) / weights.sum((1, 2, 3))
    return -10 * torch.log10(mean)
