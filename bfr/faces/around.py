"""Separates the background of an aligned crop from its face.

The mask of a face is an oval, so on a turned head it also covers background. What is background
shows in the geodesic distance (Criminisi, Sharp and Blake 2008) from where the mask is 0: the
length of the path along which the colours change least. Background is near, and every path to the
face crosses its outline.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SIDE = 64  # of the crop for this, px
_OUTSIDE = 0.05  # of a mask: less is around the face
_FAR = 0.6  # times the contrast of the crop: a distance at which nothing is around any more
_LEAST_CONTRAST = 0.05
_ALIKE = 0.004  # between neighbours: less is no difference
_STEP = 0.012  # times `_FAR`, that a pixel is from the next of the same colour


def around_face(crop: Tensor, mask: Tensor) -> Tensor:
    """The degree to which each part of a restored crop is background.

    Args:
        crop: 1×3×S×S RGB in [0, 1], without noise.
        mask: 1×1×S×S in [0, 1], of the face.

    Returns:
        1×1×64×64 in [0, 1]: 1 outside of the mask and in what is like that, 0 in the face.
    """
    small, shape = (F.interpolate(each, (_SIDE, _SIDE), mode="area") for each in (crop, mask))
    far = _FAR * small.std().clamp(min=_LEAST_CONTRAST)
    across, down = (
        (small.diff(dim=dim).abs().amax(1, keepdim=True) - _ALIKE).clamp(min=0) / far + _STEP
        for dim in (3, 2)
    )
    distance = torch.where(shape < _OUTSIDE, 0.0, 1.0)
    for _ in range(_SIDE):
        before = distance
        distance = _nearer(_nearer(before, across, 3), down, 2)
        if torch.equal(distance, before):
            break
    near = 1 - distance
    return near * near * (3 - 2 * near)


def _nearer(distance: Tensor, cost: Tensor, dim: int) -> Tensor:
    """Distances of at most 1, shortened by a step to either neighbour along an axis."""
    length = distance.shape[dim] - 1
    first, last = distance.narrow(dim, 0, length), distance.narrow(dim, 1, length)
    edge = torch.ones_like(distance.narrow(dim, 0, 1))
    by_last = torch.cat([last + cost, edge], dim)
    by_first = torch.cat([edge, first + cost], dim)
    return torch.minimum(distance, torch.minimum(by_last, by_first))
