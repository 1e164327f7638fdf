"""The share of a photograph's finest detail that a restorer would have kept.

The share ``kept`` extrapolates what the restorer did in the finest band that crop and
photograph both hold. With h a high-pass and ⟨ ⟩ a local mean,

    gain = ⟨h(before) · h(restored)⟩ / ⟨h(before)²⟩, clamped to [0, 1]
    signal = ⟨h(before) · h(restored)⟩² / (⟨h(before)²⟩ · ⟨h(restored)²⟩)

are how far it faded what was there, and the coherence: the share of the band's power that it
took for signal, 1 if nothing but contrast was changed, near 0 if noise was removed or new
detail invented. Power in photographs falls as 1 / frequency² and noise is flat, so where the
detail lies f times finer its ratio of noise to signal is f² times larger, which gives

    kept = gain · signal / (signal + f² · (1 − signal)),    f = 2 · max(1, photo px a crop px),

the second factor being Wiener's.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d, get_gaussian_kernel1d
from torch import Tensor

_ROUNDING = (1 / 255) ** 2 / 12  # the power of rounding to 8 bits, taken for signal
_FINE = 1.0  # sigma in pixels of the blur that takes the finest band away
_NEARBY = 4.0  # sigma in pixels of the local mean
_CELL = 2  # pixels per side of the cells in which the local mean is taken


def lost_share(before: Tensor, restored: Tensor, finer: float) -> Tensor:
    """``1 − kept``, the share in [0, 1] of detail that is ``finer`` times finer to take away.

    It varies slowly, so it is found for cells of `_CELL` pixels, with straight lines between them.

    Args:
        before: N×3×S×S RGB in [0, 1].
        restored: N×3×S×S.
        finer: f of the formula.

    Returns:
        N×1×S×S; exactly 0 where both are the same.
    """
    given, found = _finest(before), _finest(restored)
    pairs = ((given, found), (given, given), (found, found))
    products = before.new_empty(len(before), len(pairs), *before.shape[2:])
    for product, (one, other) in zip(products.split(1, 1), pairs, strict=True):
        torch.mul(one[:, :1], other[:, :1], out=product)
        for channel in range(1, one.shape[1]):
            part = slice(channel, channel + 1)
            product.addcmul_(one[:, part], other[:, part])
    means = _mean_nearby(products).div_(before.shape[1]).add_(_ROUNDING)
    common, given, found = means.split(1, 1)
    common = common.clamp(min=0)
    signal = (common.square() / (given * found)).clamp(max=1)
    kept = (common / given).clamp(max=1) * signal / (signal + finer**2 * (1 - signal))
    side = before.shape[-1]
    lost = F.interpolate(1 - kept, scale_factor=_CELL, mode="bilinear")
    return lost[..., :side, :side]


def _finest(crop: Tensor) -> Tensor:
    """The finest band: what a Gaussian of `_FINE` takes away. The same for the same pixels, to
    the last bit, which a convolution over both crops at once would not promise."""
    weights = _gaussian()
    reach = len(weights) - 1
    blurred = crop
    for dim, edges in ((2, (0, 0, reach, reach)), (3, (reach, reach, 0, 0))):
        padded, size = F.pad(blurred, edges, mode="replicate"), crop.shape[dim]
        blurred = padded.narrow(dim, reach, size) * weights[0]
        both = torch.empty_like(blurred)
        for away in range(1, reach + 1):
            sides = (padded.narrow(dim, reach + step, size) for step in (-away, away))
            blurred.add_(torch.add(*sides, out=both), alpha=weights[away])
    return torch.sub(crop, blurred, out=blurred)


@lru_cache(maxsize=1)
def _gaussian() -> tuple[float, ...]:
    """The right half of a Gaussian of `_FINE`, its middle first."""
    return tuple(get_gaussian_kernel1d(7, _FINE)[0, 3:].tolist())


def _mean_nearby(x: Tensor) -> Tensor:
    """The mean of N×C×S×S around each cell, under a Gaussian of `_NEARBY`: N×C×⌈S/2⌉×⌈S/2⌉."""
    rest = -x.shape[-1] % _CELL
    if rest:
        x = F.pad(x, (0, rest, 0, rest), mode="replicate")
    x = x[..., ::_CELL] + x[..., 1::_CELL]
    x = x[:, :, ::_CELL] + x[:, :, 1::_CELL]
    blur = _blur(x.shape[-1]).to(x)
    return (blur @ x @ blur.mT).div_(_CELL**2)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # ComfyUI's nodes run in it
def _blur(cells: int) -> Tensor:
    """Along one axis of cells: a Gaussian that is narrower by what the cells and the lines between
    them blur (variances 1/12 and 1/6)."""
    unit = torch.eye(cells)[None, None]
    sigma = ((_NEARBY / _CELL) ** 2 - 1 / 12 - 1 / 6) ** 0.5
    return gaussian_blur2d(unit, (13, 1), (sigma, 1.0), "replicate")[0, 0]
