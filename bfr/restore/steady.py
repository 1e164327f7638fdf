"""Restored faces of one track averaged over time, where they agree.

A restorer sees new noise in every frame and restores it differently, so the face flickers. In the
aligned crops of a track the face hardly moves. The motion that its landmarks missed is measured on
the pixels: for each neighbouring crop, Gauss-Newton steps (Lucas and Kanade 1981) find the small
similarity transform that fits it best to this one. Then neighbours can be averaged.
With x the restored crops, fitted, and ⟨ ⟩ a local mean,

    x_t ← Σ w_ts · x_s / Σ w_ts,    w_ts = exp(−(s − t)² / 2σ²) · exp(−⟨(x_s − x_t)²⟩ / 2h²),

a bilateral filter over time (Tomasi and Manduchi 1998). Where the face has changed, in a blink or
in speech, the second factor is near 0 and the frame stays as it is, without a ghost of the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_CHANGE = 0.04  # h: a difference of restored crops that is more than their flicker
_PATCH = 1 / 32  # of the crop's side: how far the local mean reaches
_FIT_SIDE = 64  # pixels a side, in which motion is found
_FIT_STEPS = 4
_FURTHEST = 0.1  # half sides of the crop; what seems to have moved further has not been found


def reach_of(spread: float) -> int:
    """The number of frames to each side that count at a spread σ in frames."""
    return math.ceil(2 * spread)


def steady_face(crops: Tensor, away: Sequence[int], spread: float) -> Tensor:
    """The restored face of one frame, averaged with those of its track around it.

    Args:
        crops: N×3×S×S in [0, 1], restored crops of one track.
        away: how many frames each lies after the frame that is meant, which has 0.
        spread: σ in frames; 0 gives the frame's own face.

    Returns:
        1×3×S×S in [0, 1].
    """
    here = away.index(0)
    own = crops[here : here + 1]
    if spread == 0 or len(away) == 1:
        return own
    crops = torch.cat([fitted(crops[:here], own), own, fitted(crops[here + 1 :], own)])
    patch = round(_PATCH * own.shape[-1])
    change = (crops - own).square().mean(1, keepdim=True)
    change = F.avg_pool2d(change, 2 * patch + 1, 1, patch, count_include_pad=False)
    time = torch.tensor(away).to(own)[:, None, None, None] / spread
    weights = torch.exp(-time.square() / 2 - change / (2 * _CHANGE**2))
    return (weights * crops).sum(0, keepdim=True) / weights.sum(0, keepdim=True)


def fitted(crops: Tensor, own: Tensor) -> Tensor:
    """Crops moved, turned and scaled a little, so that the face lies as in another.

    Args:
        crops: N×3×S×S in [0, 1].
        own: 1×3×S×S in [0, 1], the crop that they are fitted to.

    Returns:
        N×3×S×S in [0, 1]; one whose motion is not found comes back as it is.
    """
    if len(crops) == 0:
        return crops
    small, wanted = (
        F.interpolate(each.mean(1, keepdim=True), (_FIT_SIDE, _FIT_SIDE), mode="area").double()
        for each in (crops, own)
    )
    place = (torch.arange(_FIT_SIDE).to(wanted) + 0.5) * 2 / _FIT_SIDE - 1
    y, x = torch.meshgrid(place, place, indexing="ij")
    down, right = torch.gradient(wanted[0, 0], spacing=2 / _FIT_SIDE)
    slopes = torch.stack([right, down, right * x + down * y, down * x - right * y]).flatten(1)
    weighted = slopes * torch.exp(-2 * (x * x + y * y)).flatten()  # the middle of the crop counts
    normal = weighted @ slopes.mT
    normal += (1e-6 * normal.trace() + 1e-9) * torch.eye(4).to(normal)  # on nothing, no motion
    motion = torch.zeros(len(crops), 4).to(wanted)
    for _ in range(_FIT_STEPS):
        off = (_moved(small, motion) - wanted).flatten(1)
        motion = motion - torch.linalg.solve(normal, weighted @ off.mT).mT
    found = motion.abs().amax(1) < _FURTHEST
    moved = _moved(crops, motion.to(crops)).clamp(0, 1)
    return torch.where(found[:, None, None, None], moved, crops)


def _moved(images: Tensor, motion: Tensor) -> Tensor:
    """Images resampled by shifts x and y in half sides, a change of scale and a turn."""
    x, y, scale, turn = motion.unbind(1)
    rows = torch.stack([1 + scale, -turn, x, turn, 1 + scale, y], 1).unflatten(1, (2, 3))
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, "bicubic", "border", align_corners=False)
