"""Resampling of images under affine maps, in few operators.

Points are (x, y) pixels with pixel centres on whole numbers, see `bfr.image.geometry`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def sampling_grid(
    out_to_in: Tensor,
    out_size: tuple[int, int],
    in_size: tuple[int, int],
    device: torch.device,
    first: int = 0,
) -> Tensor:
    """The positions that the pixels of a result are read from.

    Args:
        out_to_in: 2×3 float64, maps pixels of the result to pixels of the input.
        out_size: ``(height, width)`` of the result.
        in_size: ``(height, width)`` of the input.
        device: of the input.
        first: the row of the result that the grid begins with.

    Returns:
        1×height×width×2 float32, from -1 to 1 between the input's outer edges: it serves the input
        at any size.
    """
    height, width = out_size
    rows = torch.arange(first, first + height, dtype=torch.float64)
    columns = torch.arange(width, dtype=torch.float64)
    grid = torch.empty(1, 2, height, width, device=device)  # runs of memory are quickest
    for axis, length in ((0, in_size[1]), (1, in_size[0])):
        along, down, shift = (2 / length * out_to_in[axis]).tolist()
        across = (along * columns).float().to(device)
        below = (down * rows + shift + 1 / length - 1).float().to(device)
        torch.add(across[None], below[:, None], out=grid[0, axis])
    return grid.permute(0, 2, 3, 1)


def sample(pixels: Tensor, grid: Tensor, mode: str, padding: str) -> Tensor:
    """N×C×h×w pixels of N×C×H×W ``pixels``, read at a grid of `sampling_grid`."""
    return F.grid_sample(pixels, grid.to(pixels.dtype), mode, padding, align_corners=False)
