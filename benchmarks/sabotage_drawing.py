"""Tools to draw the cases of `benchmarks.guard`: aligned faces, warps, soft spots."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from torch import Tensor

EYES = ((-0.25, -0.07), (0.25, -0.07))  # in aligned faces, from -1 to 1


def places(x: Tensor) -> tuple[Tensor, Tensor]:
    """The columns and rows of aligned faces, from -1 to 1."""
    line = torch.linspace(-1, 1, x.shape[-1])
    return line.expand(x.shape[-1], -1), line[:, None].expand(-1, x.shape[-1])


def near(x: Tensor, place: tuple[float, float], wide: float, high: float) -> Tensor:
    """One at a place of aligned faces, falling to 0 around it."""
    across, down = places(x)
    return torch.exp(-(((across - place[0]) / wide) ** 2) - ((down - place[1]) / high) ** 2)


def near_eyes(x: Tensor, wide: float, high: float, lower: float = 0.0) -> Tensor:
    """`near` both eyes, or that much below them."""
    left, right = (near(x, (eye[0], eye[1] + lower), wide, high) for eye in EYES)
    return left + right


def moved(x: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Looked up elsewhere: by so much of half the side, at each place."""
    here, there = places(x)
    grid = torch.stack([here + across, there + down], -1).expand(len(x), -1, -1, -1)
    return F.grid_sample(x, grid, "bicubic", "reflection", align_corners=True).clamp(0, 1)


def shifted(x: Tensor, pixels: int = 3) -> Tensor:
    return F.pad(x, (pixels, 0, 0, 0), mode="replicate")[..., : x.shape[-1]]


def blurred(x: Tensor, deviation: float) -> Tensor:
    side = 2 * math.ceil(3 * deviation) + 1
    return gaussian_blur2d(x, (side, side), (deviation, deviation), "reflect")


def sharpened(x: Tensor, deviation: float, amount: float) -> Tensor:
    return (x + amount * (x - blurred(x, deviation))).clamp(0, 1)


def coloured(x: Tensor, *more: float, where: Tensor | float = 1.0) -> Tensor:
    """With so much more of red, green and blue, in some places."""
    return (x * (1 + where * torch.tensor(more)[:, None, None])).clamp(0, 1)


def rough(x: Tensor, seed: int) -> Tensor:
    """Noise of deviation 1 for each of the faces."""
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
