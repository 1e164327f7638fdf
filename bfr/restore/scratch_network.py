"""The network that marks scratches: a small U-Net without an end to the size of its pictures."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REACH = 144
"""Pixels around a pixel, at most, that its result depends on."""

STEP = 16
"""The sides of a picture must be multiples of this. Shifts by it change no result."""

_CHANNELS = (32, 48, 64, 96)  # of each level; the picture halves from one to the next
_FOLD = 2  # pixels a side that are folded into channels, and out of them at the end


class _Residual(nn.Module):
    """Two 3×3 convolutions and the input added to them."""

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = _conv(channels, channels), _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


class ScratchNetwork(nn.Module):
    """Photographs, B×3×H×W RGB in [0, 1], to logits B×1×H×W of scratches.

    Nothing in it sees the whole picture, so that tiles give what the whole gives.
    """

    def __init__(self) -> None:
        super().__init__()
        fine, wide = _CHANNELS[0], _CHANNELS[-1]
        steps = list(pairwise(_CHANNELS))
        self.stem = _conv(3 * _FOLD**2, fine)
        self.blocks = nn.ModuleList(_Residual(channels) for channels in _CHANNELS)
        self.down = nn.ModuleList(_conv(fine, coarse, stride=2) for fine, coarse in steps)
        self.bottom = _Residual(wide)
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in steps)
        self.joined = nn.ModuleList(_conv(fine, fine) for fine, _ in steps)
        self.head = nn.Conv2d(fine, _FOLD**2, 3, padding=1)

    def forward(self, photographs: Tensor) -> Tensor:
        x = self.blocks[0](F.relu(self.stem(F.pixel_unshuffle(2 * photographs - 1, _FOLD))))
        finer: list[Tensor] = []
        for level, down in enumerate(self.down, 1):
            finer.append(x)
            x = self.blocks[level](F.relu(down(x)))
        x = self.bottom(x)
        for level in reversed(range(len(finer))):
            x = F.interpolate(self.up[level](x), scale_factor=2.0, mode="nearest")
            x = F.relu(self.joined[level](x + finer[level]))
        return F.pixel_shuffle(self.head(x), _FOLD)


def _conv(channels_in: int, channels: int, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels))


def empty_network() -> ScratchNetwork:
    """The network without memory for its weights, which are assigned to it."""
    with torch.device("meta"):
        return ScratchNetwork()
