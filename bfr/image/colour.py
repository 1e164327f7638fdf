"""Fitting a restored face's colours to the photograph it returns to."""

from __future__ import annotations

from functools import lru_cache

import torch
from kornia.color import lab_to_rgb, rgb_to_lab
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn import functional as F

from ..choices import COLOURS
from ..errors import InputError

_GRID = 16  # cells across a crop in which its low frequencies are held
_SIGMA = 2.0  # of the Gaussian that takes them, in cells: an eighth of the crop
_FLAT = 0.01  # a channel of Lab that varies less has no contrast to match


def match_colour(
    crops: Tensor, reference: Tensor, method: str = "low frequency", mask: Tensor | None = None
) -> Tensor:
    """Gives crops the colours of their references.

    ``"low frequency"`` replaces the crop's low frequencies by the reference's, which keeps
    the photograph's light and tint place by place. They are weighted means under a Gaussian
    of an eighth of the crop, taken inside the mask only, so that what a restorer does to the
    background does not leak into the face: a wide positive kernel, because normalising by
    the mask needs one and the cubic kernel of :mod:`bfr.image.lowpass` is not.

    ``"lab"`` gives each channel of CIE L*a*b* (of sRGB, D65) the reference's mean and standard
    deviation (Reinhard et al. 2001, equations 10 and 11). Noise in the reference counts as
    contrast. A channel that does not vary is shifted only.

    Args:
        crops: N×3×S×S RGB in [0, 1].
        reference: N×3×S×S RGB in [0, 1], the crops before restoration.
        method: ``"low frequency"``, ``"lab"`` or ``"none"``.
        mask: N×1×S×S weights in [0, 1] of the pixels to match; None weighs all alike.

    Returns:
        N×3×S×S RGB in [0, 1]. Crops that equal their references keep their colours, and grey
        crops with grey references stay grey.

    Raises:
        InputError: an unknown method, or tensors whose shapes differ.
    """
    if method not in COLOURS:
        raise InputError(f"method must be one of {', '.join(COLOURS)}, got {method!r}. Choose one.")
    if crops.shape != reference.shape:
        raise InputError(
            f"reference must be {tuple(crops.shape)} like crops, got {tuple(reference.shape)}. "
            "Give one reference of the same size for each crop."
        )
    if method == "none" or not len(crops):
        return crops
    if mask is None:
        mask = crops.new_ones(len(crops), 1, *crops.shape[2:])
    if method == "low frequency":
        return _mean_nearby(reference - crops, mask).add_(crops).clamp_(0, 1)
    return _match_lab(crops, reference, mask)


def _mean_nearby(x: Tensor, mask: Tensor) -> Tensor:
    """The mean of ``x`` around each pixel, weighted by the mask; 0 far outside it.

    ``x`` is multiplied in place.
    """
    blur, enlarge = (matrix.to(x) for matrix in _blur_and_enlarge(x.shape[-1]))
    sums, weights = (blur @ _cells(y) @ blur.mT for y in (x.mul_(mask), mask))
    return enlarge @ (sums / weights.clamp(min=1e-6)) @ enlarge.mT


def _cells(x: Tensor) -> Tensor:
    """The means of N×C×S×S over `_GRID` cells along each axis."""
    side = x.shape[-1] // _GRID
    if x.shape[-1] % _GRID:
        return F.adaptive_avg_pool2d(x, _GRID)
    rows = x.reshape(*x.shape[:2], _GRID, side, x.shape[-1]).mean(3)  # five times as quick
    return rows.unflatten(3, (_GRID, side)).mean(4)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # ComfyUI's nodes run in it; the matrices also serve elsewhere
def _blur_and_enlarge(size: int) -> tuple[Tensor, Tensor]:
    """Along one axis: the Gaussian over cells, and bicubic enlargement from cells to pixels."""
    cells = torch.eye(_GRID)[None, None]
    kernel, sigma = (6 * int(_SIGMA) + 1, 1), (_SIGMA, 1.0)
    blur = gaussian_blur2d(cells, kernel, sigma, "replicate")
    return blur[0, 0], F.interpolate(cells, (size, _GRID), mode="bicubic")[0, 0]


def _match_lab(crops: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    found, wanted = rgb_to_lab(crops), rgb_to_lab(reference)
    found_mean, found_spread = _statistics(found, mask)
    wanted_mean, wanted_spread = _statistics(wanted, mask)
    gain = (wanted_spread / found_spread).where(found_spread > _FLAT, 1.0)
    return lab_to_rgb((found - found_mean) * gain + wanted_mean).clamp(0, 1)


def _statistics(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """N×C×1×1 weighted means and standard deviations."""
    weights = mask / mask.sum((2, 3), keepdim=True).clamp(min=1e-6)
    mean = (x * weights).sum((2, 3), keepdim=True)
    return mean, ((x - mean).square() * weights).sum((2, 3), keepdim=True).sqrt()
