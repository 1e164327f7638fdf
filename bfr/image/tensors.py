"""Checks and conversions of image tensors that every stage shares."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError


def check_images(images: Tensor, name: str = "images") -> None:
    """Checks that a tensor is a batch of RGB images: B×3×H×W, floating point, finite.

    The batch may be empty, the images may not. The range is not checked. It reads every pixel,
    so call it at public doors only.

    Args:
        images: the tensor.
        name: what to call it in the message.

    Raises:
        InputError: if it is anything else.
    """
    if not isinstance(images, Tensor):
        raise InputError(f"{name} must be a tensor, got a {type(images).__name__}. Convert it.")
    shape = "×".join(map(str, images.shape))
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"{name} must be B×3×H×W (RGB), got {shape}. Convert it.")
    if images.shape[2] == 0 or images.shape[3] == 0:
        raise InputError(f"{name} must have at least one pixel, got {shape}. Leave it out.")
    if not images.is_floating_point():
        raise InputError(
            f"{name} must be floating point in [0, 1], got {images.dtype}. Divide by 255."
        )
    if not math.isfinite(images.sum(dtype=torch.float32)):  # NaN and infinity stay in a sum
        raise InputError(
            f"{name} must be finite, got NaN or infinity. "
            "Look at the step that made them; half precision often overflows."
        )


def luma(images: Tensor) -> Tensor:
    """B×1×H×W luma of B×3×H×W floating-point RGB, by the weights of BT.601."""
    from kornia.color import rgb_to_grayscale

    return rgb_to_grayscale(images)


def to_uint8(images: Tensor) -> np.ndarray:
    """N×3×H×W in [0, 1], on any device, as an N×H×W×3 uint8 array; clamped and rounded."""
    levels = images.detach().float().clamp(0, 1).mul_(255).round_().byte()
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())


def from_uint8(array: np.ndarray) -> Tensor:
    """An N×H×W×3 uint8 array as N×3×H×W float32 in [0, 1]."""
    planes = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    return torch.from_numpy(planes).float().div_(255)


def size_in_words(height: int, width: int) -> str:
    """A size as people write it, width first: ``"640×480 pixels"``."""
    return f"{width}×{height} pixels"
