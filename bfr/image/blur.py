"""Gaussian blur of batches of images."""

from __future__ import annotations

import math

from torch import Tensor


def blurred(images: Tensor, deviation: float, reach: float = 3.0) -> Tensor:
    """Images under a Gaussian, mirrored at their borders.

    Args:
        images: B×C×H×W of any floating type.
        deviation: of the Gaussian, in pixels.
        reach: in deviations, after which it is cut off.
    """
    from kornia.filters import gaussian_blur2d

    side = 2 * math.ceil(reach * deviation) + 1
    return gaussian_blur2d(images, (side, side), (deviation, deviation), "reflect")
