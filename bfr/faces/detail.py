"""How much of a photograph's finest detail a restorer would have left standing.

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


def kept_share(before: Tensor, restored: Tensor, finer: float) -> Tensor:
    """The share in [0, 1] of detail to keep that is ``finer`` times finer, N×1×S×S."""
    given, found = _finest(before), _finest(restored)
    products = torch.stack([given * found, given * given, found * found], 1).mean(2)
    common, given, found = (_mean_nearby(products) + _ROUNDING).split(1, 1)
    common = common.clamp(min=0)
    signal = (common.square() / (given * found)).clamp(max=1)
    return (common / given).clamp(max=1) * signal / (signal + finer**2 * (1 - signal))


def _finest(crop: Tensor) -> Tensor:
    """The finest band: what a Gaussian of `_FINE` takes away. The same for the same pixels, to
    the last bit, which a convolution over both crops at once would not promise."""
    reach = 3
    weights = get_gaussian_kernel1d(2 * reach + 1, _FINE)[0, reach:].tolist()
    blurred = crop
    for dim, edges in ((2, (0, 0, reach, reach)), (3, (reach, reach, 0, 0))):
        padded, size = F.pad(blurred, edges, mode="replicate"), crop.shape[dim]
        blurred = padded.narrow(dim, reach, size) * weights[0]
        for away in range(1, reach + 1):
            both = padded.narrow(dim, reach - away, size) + padded.narrow(dim, reach + away, size)
            blurred.add_(both, alpha=weights[away])
    return crop - blurred


def _mean_nearby(x: Tensor) -> Tensor:
    """The mean of N×C×S×S around each pixel, under a Gaussian of `_NEARBY`."""
    side = x.shape[-1]
    enlarge = _blur_and_enlarge(side).to(x)
    rest = -side % _CELL
    cells = F.avg_pool2d(F.pad(x, (0, rest, 0, rest), mode="replicate"), _CELL)
    return enlarge @ cells @ enlarge.mT


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # ComfyUI's nodes run in it
def _blur_and_enlarge(side: int) -> Tensor:
    """Along one axis, from cells to pixels: a Gaussian, and straight lines between its values.

    The Gaussian is narrower by what the cells and the lines blur (variances 1/12 and 1/6).
    """
    unit = torch.eye(-(-side // _CELL))[None, None]
    sigma = ((_NEARBY / _CELL) ** 2 - 1 / 12 - 1 / 6) ** 0.5
    blur = gaussian_blur2d(unit, (13, 1), (sigma, 1.0), "replicate")
    count = unit.shape[-1]
    return F.interpolate(blur, (count * _CELL, count), mode="bilinear")[0, 0, :side]
