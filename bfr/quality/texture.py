"""Texture without a reference: how much directed detail and how much grain an image has.

Each function gives one float64 value per image, in pixels of that image: compare images of one
size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..image.blur import blurred
from ..image.tensors import check_images, luma

_DETAIL = 2.0  # standard deviation in pixels of the blur that detail is measured against
_PATCH = 8  # side in pixels of the patches whose gradients are compared
_ANSWER = 6 * 0.6745  # of `grain` to noise: the median |answer| over σ
_CHANCE = 0.001  # how often the gradients of plain noise may look like an edge


def sharpness(images: Tensor) -> Tensor:
    """The amount of fine detail with a direction, which edges and hair have and grain has not.

    The metric Q of Zhu and Milanfar ("Automatic Parameter Selection for Denoising Algorithms
    Using a No-Reference Measure of Image Content", IEEE TIP 2010) on the luma's detail, which is
    what a Gaussian blur of 2 px takes away: with s₁ ≥ s₂ the root mean square gradients of an
    8×8 patch along and across its main direction, the coherence is R = (s₁ - s₂) / (s₁ + s₂),
    and Q the mean of s₁·R over all patches, where R below the bound that plain noise passes
    once in a thousand patches counts as 0. Blur, grain and compression lower it; sharpening
    raises it. It is measured in pixels, so compare images of one size.

    Args:
        images: B×3×H×W RGB in [0, 1], at least 16 pixels high and wide.

    Returns:
        B float64 values from 0, in 255ths a pixel.

    Raises:
        InputError: if the images are none or too small.
    """
    light = _luma(images)
    detail = light - blurred(light, _DETAIL)
    along_x = (detail[..., 1:-1, 2:] - detail[..., 1:-1, :-2]) / 2
    along_y = (detail[..., 2:, 1:-1] - detail[..., :-2, 1:-1]) / 2
    # The eigenvalues of each patch's gradient matrix [[a, b], [b, c]] are mean ± spread.
    products = (along_x.square(), along_x * along_y, along_y.square())
    a, b, c = (F.avg_pool2d(product, _PATCH) for product in products)
    mean, spread = (a + c) / 2, torch.hypot((a - c) / 2, b)
    first, second = (mean + spread).sqrt(), (mean - spread).clamp(min=0).sqrt()
    coherence = (first - second) / (first + second).clamp(min=1e-12)
    bound = _CHANCE ** (1 / (_PATCH**2 - 1))
    sure = coherence > math.sqrt((1 - bound) / (1 + bound))
    return (first * coherence * sure).mean((1, 2, 3))


def grain(images: Tensor) -> Tensor:
    """The standard deviation of the luma's noise, from the median of a second difference.

    The mask of Immerkær ("Fast Noise Variance Estimation", 1996), [1 -2 1]ᵀ[1 -2 1], answers to
    noise of standard deviation σ with one of 6σ, and hardly to edges; instead of his mean the
    median |answer| = 0.6745·6σ is taken (Donoho), which hair and eyelashes move less. Real skin
    counts as a little grain. Compare images of one size.

    Args:
        images: B×3×H×W RGB in [0, 1], at least 16 pixels high and wide.

    Returns:
        B float64 values, in 255ths.

    Raises:
        InputError: if the images are none or too small.
    """
    return _noise(_luma(images))


def grain_by_light(images: Tensor, parts: int = 4) -> Tensor:
    """`grain` of the darkest part of each image, and so on to the lightest: noise of shadows only
    does not move the median of all.

    Args:
        images: B×3×H×W RGB in [0, 1], at least 16 pixels high and wide.
        parts: into which the pixels are divided, by how light they are blurred by 2 px.

    Returns:
        B×parts float64 values, in 255ths.

    Raises:
        InputError: if the images are none or too small.
    """
    light = _luma(images)
    around = blurred(light, _DETAIL)[..., 1:-1, 1:-1]
    order = around.flatten(1).argsort(1)
    answer = light.diff(n=2, dim=-1).diff(n=2, dim=-2).abs().flatten(1).gather(1, order)
    return torch.stack([part.median(1).values for part in answer.chunk(parts, 1)], 1) / _ANSWER


def grain_by_place(images: Tensor, side: int, step: int) -> Tensor:
    """`grain` of each square of an image: skin's texture, where there is no noise.

    Args:
        images: B×3×H×W RGB in [0, 1], at least 16 pixels high and wide.
        side: of a square in pixels.
        step: from one square to the next.

    Returns:
        B×h×w float64 values, in 255ths.

    Raises:
        InputError: if the images are none or too small.
    """
    answer = _luma(images).diff(n=2, dim=-1).diff(n=2, dim=-2).abs()[:, 0]
    squares = answer.unfold(1, side, step).unfold(2, side, step).flatten(3)
    return squares.median(3).values / _ANSWER


def colour_grain(images: Tensor) -> Tensor:
    """`grain`, of what the channels differ from the luma by."""
    return _noise(255 * images.double() - _luma(images))


def _noise(values: Tensor) -> Tensor:
    """B standard deviations of the noise of B×C×H×W values, by the median over all of them."""
    answer = values.diff(n=2, dim=-1).diff(n=2, dim=-2)
    return answer.abs().flatten(1).median(1).values / _ANSWER


def _luma(images: Tensor) -> Tensor:
    """B×1×H×W float64 luma in [0, 255]."""
    check_images(images)
    if min(images.shape[-2:]) < 16:
        raise InputError(
            f"Images to measure must be at least 16 pixels high and wide, got "
            f"{images.shape[-1]}×{images.shape[-2]}. Use larger faces."
        )
    return 255 * luma(images.double())
