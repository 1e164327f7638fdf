"""Grey photographs stay grey, whatever tint a restorer gives to their faces."""

from __future__ import annotations

import torch
from torch import Tensor

from ..image.tensors import luma


def keep_grey(images: Tensor, pasted: Tensor, masks: Tensor) -> Tensor:
    """Takes the tint that a restorer gave to the faces of images without any colour.

    Args:
        images: B×3×H×W in [0, 1], as they came.
        pasted: the same with restored faces.
        masks: B×1×H×W, how much of each pixel was replaced.

    Returns:
        ``pasted``, its faces grey wherever the whole image was.
    """
    return without_tint(find_grey(images), pasted, masks)


def without_tint(grey: Tensor, pasted: Tensor, masks: Tensor) -> Tensor:
    """`keep_grey`, where it is known which images were grey (`find_grey`)."""
    if not grey.any():
        return pasted
    return torch.where(grey & (masks > 0), luma(pasted).clamp(0, 1), pasted)


def find_grey(images: Tensor) -> Tensor:
    """B×1×1×1, whether all pixels of an image are grey."""
    # Most photographs in colour are told by a few pixels; the others are read whole.
    few = _are_grey(images[:, :, ::16, ::16])
    return _are_grey(images) if few.any() else few


def _are_grey(images: Tensor) -> Tensor:
    """B×1×1×1, whether all pixels of an image are grey."""
    return (images == images[:, :1]).flatten(1).all(1)[:, None, None, None]
