"""Smooth random faces for tests of metrics."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def faces(count: int = 3, size: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, 3, size // 4, size // 4, generator=generator)
    return F.interpolate(small, (size, size), mode="bicubic").clamp(0, 1)
