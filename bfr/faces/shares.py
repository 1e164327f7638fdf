"""How neighbouring faces share the pixels where their masks overlap."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..image.warp import sample
from .place import Box, Place

_SHARPNESS = 2  # the higher, the narrower the blend between overlapping faces


def share_of(i: int, masks: Tensor, places: Sequence[Place], image_index: Sequence[int]) -> Tensor:
    """How much of each pixel belongs to face ``i``: its mask, less what its neighbours have.

    Args:
        i: the face.
        masks: N×1×S×S in [0, 1], of all crops.
        places: of all crops.
        image_index: the photograph of each crop; only faces of the same one are neighbours.

    Returns:
        h×w in [0, 1], for the box of the face's place.
    """
    place = places[i]
    share = _mask_in(masks[i : i + 1], place, place.box)
    mine, total = share**_SHARPNESS, None
    for j, other in enumerate(places):
        shared = place.shared(other)
        if j == i or image_index[j] != image_index[i] or shared is None:
            continue
        total = mine.clone() if total is None else total
        x0, y0 = place.box[:2]
        rows, columns = slice(shared[1] - y0, shared[3] - y0), slice(shared[0] - x0, shared[2] - x0)
        total[rows, columns] += _mask_in(masks[j : j + 1], other, shared) ** _SHARPNESS
    return share if total is None else share * torch.where(mine > 0, mine / total, mine)


def _mask_in(mask: Tensor, place: Place, box: Box) -> Tensor:
    """A 1×1×S×S mask in a box of the photograph, h×w."""
    grid = place.grid(mask.shape[-1], box, mask.device)
    return sample(mask, grid, "bilinear", "zeros")[0, 0]
