"""The shapes of a face on the template, as masks that fade out."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

# The half-weight outline of a face on the template, forehead, ears and chin included, in shares
# of the crop's side.
_OVAL_CENTRE = (0.5, 0.56)
_OVAL_RADII = (0.38, 0.46)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def mask_shape(mask: str, size: int, feather: float) -> Tensor:
    """1×1×S×S: the mask before a parser outlines the face."""
    shape = _feathered_square(size, feather)
    return shape * _soft_oval(size, feather) if mask == "soft oval" else shape


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def mask_outline(mask: str, size: int, feather: float) -> Tensor:
    """P×2 float64 points (x, y) around all pixels of `mask_shape` that are not 0."""
    shown = mask_shape(mask, size, feather)[0, 0] > 0
    rows = shown.any(1).nonzero()[:, 0]
    shown = shown[rows].byte()
    left, right = shown.argmax(1) - 1, size - shown.flip(1).argmax(1)
    return (
        torch.cat([torch.stack([x, y], 1) for x in (left, right) for y in (rows - 1, rows + 1)])
        .double()
        .clamp(0, size - 1)
    )


def _feathered_square(size: int, feather: float) -> Tensor:
    """1×1×S×S: 0 on the outermost pixels, rising to 1 within ``feather`` of the side."""
    index = torch.arange(size, dtype=torch.float64)
    depth = torch.minimum(index, size - 1 - index)
    depth = torch.minimum(depth[:, None], depth[None])
    return _smoothstep(depth / max(feather * size, 1))[None, None].float()


def _soft_oval(size: int, feather: float) -> Tensor:
    """1×1×S×S: 1 inside a face on the template, fading through its outline into the hair."""
    unit = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    x = (unit[None] - _OVAL_CENTRE[0]) / _OVAL_RADII[0]
    y = (unit[:, None] - _OVAL_CENTRE[1]) / _OVAL_RADII[1]
    depth = (1 - (x.square() + y.square()).sqrt()) * min(_OVAL_RADII)
    return _smoothstep(0.5 + depth / (2 * max(feather, 1 / size)))[None, None].float()


def _smoothstep(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)
