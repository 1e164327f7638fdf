"""The low-pass φ of the paper's constraint: down by N, then up by N, as one linear map per axis."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..errors import InputError
from .geometry import mirrored_index


def lowpass(x: Tensor, factor: int) -> Tensor:
    """Keeps the low frequencies of images: φ of Kuai et al. (WACV 2025), section 3.

    The image is resized to 1/N of its size and back with an antialiased cubic kernel; the
    result may leave the input's range a little. φ is linear and keeps constants.

    Args:
        x: …×H×W floating-point images of any range; both sides are multiples of ``factor``.
        factor: N, the whole number by which the image is made smaller; 1 changes nothing.

    Returns:
        A tensor like ``x``.

    Raises:
        InputError: if ``factor`` does not divide both sides.
    """
    height, width = x.shape[-2:]
    down_rows, up_rows = (matrix.to(x) for matrix in _down_and_up(height, factor))
    down_columns, up_columns = (matrix.to(x) for matrix in _down_and_up(width, factor))
    return up_rows @ (down_rows @ x @ down_columns.mT) @ up_columns.mT


@lru_cache(maxsize=32, typed=True)  # 2.0 equals 2 and is no factor
@torch.inference_mode(False)  # ComfyUI's nodes run in it; the matrices also serve training
def _down_and_up(size: int, factor: int) -> tuple[Tensor, Tensor]:
    """φ's two halves along an axis, shared between calls: size/N×size and size×size/N."""
    if not isinstance(factor, int) or factor < 1:
        raise InputError(
            f"The low-pass factor must be a whole number from 1, got {factor}. 16 suits most."
        )
    if size % factor:
        raise InputError(
            f"The low-pass factor must divide the image's size, {size}, got {factor}. "
            f"Choose {_nearest_divisor(size, factor)}, or another crop size."
        )
    small = size // factor
    return resize_weights(size, small), resize_weights(small, size)


def resize_weights(from_size: int, to_size: int) -> Tensor:
    """Cubic resampling of one axis, pixel centres aligned, edges mirrored.

    The kernel is Keys' cubic with a = -0.5 (Keys 1981, eq. 15), stretched by the scale when
    shrinking; each row is normalised to sum 1.

    Args:
        from_size: length before, in pixels.
        to_size: length after, in pixels.

    Returns:
        to_size×from_size float64 matrix.
    """
    scale = to_size / from_size
    stretch = max(1 / scale, 1.0)
    centres = (torch.arange(to_size, dtype=torch.float64)[:, None] + 0.5) / scale - 0.5
    reach = int(2 * stretch) + 1
    taps = centres.floor().long() + torch.arange(-reach, reach + 2)
    weights = _cubic((centres - taps) / stretch)
    weights = weights / weights.sum(1, keepdim=True)
    taps = mirrored_index(taps, from_size)
    return torch.zeros(to_size, from_size, dtype=torch.float64).scatter_add_(1, taps, weights)


def _cubic(x: Tensor) -> Tensor:
    x = x.abs()
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0.0))


def _nearest_divisor(size: int, factor: int) -> int:
    divisors = [n for n in range(1, size + 1) if size % n == 0]
    return min(divisors, key=lambda n: (abs(n - factor), n))
