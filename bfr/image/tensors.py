"""Checks and conversions of image tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InputError


def check_images(images: Tensor, name: str = "images") -> None:
    """Checks that a tensor is a batch of RGB images: B×3×H×W, floating point, finite.

    The batch may be empty, the images may not. The range is not checked.

    Args:
        images: the tensor.
        name: what to call it in the message.

    Raises:
        InputError: if it is anything else.
    """
    if not isinstance(images, Tensor):
        raise InputError(f"{name} must be a tensor, and a {type(images).__name__} came.")
    shape = "×".join(map(str, images.shape))
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"{name} must be B×3×H×W (RGB), and {shape} came.")
    if images.shape[2] == 0 or images.shape[3] == 0:
        raise InputError(f"{name} must have at least one pixel, and {shape} came.")
    if not images.is_floating_point():
        raise InputError(
            f"{name} must be floating point in [0, 1], and {images.dtype} came. Divide by 255."
        )
    if not math.isfinite(images.sum(dtype=torch.float32)):  # NaN and infinity stay in a sum
        raise InputError(
            f"{name} must be finite, and NaN or infinity came. "
            "Look at the step that made them; half precision often overflows."
        )


def luma(images: Tensor) -> Tensor:
    """B×1×H×W luma of B×3×H×W RGB, by the weights of BT.601."""
    weights = torch.tensor([0.299, 0.587, 0.114]).to(images)
    return (images * weights[:, None, None]).sum(1, keepdim=True)
