"""Restored faces of one track averaged over time, where they agree.

A restorer sees new noise in every frame and makes something else of it: the face flickers. In
the aligned crops of a track the face stands still, so neighbouring crops can be averaged. With x
the restored crops and ⟨ ⟩ a local mean,

    x_t ← Σ w_ts · x_s / Σ w_ts,    w_ts = exp(−(s − t)² / 2σ²) · exp(−⟨(x_s − x_t)²⟩ / 2h²),

a bilateral filter over time (Tomasi and Manduchi 1998). Where the face has changed, in a blink or
in speech, the second factor is near 0 and the frame stays itself: no ghost of the other is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_CHANGE = 0.04  # h: a difference of restored crops that is more than their flicker
_PATCH = 1 / 32  # of the crop's side: how far the local mean reaches


def reach_of(spread: float) -> int:
    """How many frames to each side count at a spread σ in frames."""
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
    own = crops[away.index(0)][None]
    if spread == 0 or len(away) == 1:
        return own
    patch = round(_PATCH * own.shape[-1])
    change = (crops - own).square().mean(1, keepdim=True)
    change = F.avg_pool2d(change, 2 * patch + 1, 1, patch, count_include_pad=False)
    time = torch.tensor(away).to(own)[:, None, None, None] / spread
    weights = torch.exp(-time.square() / 2 - change / (2 * _CHANGE**2))
    return (weights * crops).sum(0, keepdim=True) / weights.sum(0, keepdim=True)
