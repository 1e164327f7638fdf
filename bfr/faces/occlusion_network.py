"""The network that marks what lies in front of a face: a small U-Net for 128 px faces."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 128
"""Side in pixels of the aligned faces that the network sees."""

_CHANNELS = (32, 64, 96, 128)
"""Of each level; the picture halves from one to the next."""

_FOLD = 2  # pixels a side that are folded into channels, and out of them at the end


class _Residual(nn.Module):
    """Two 3×3 convolutions and the input added to them."""

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = _conv(channels, channels), _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


class OcclusionNetwork(nn.Module):
    """Aligned faces, B×3×128×128 RGB in [0, 1], to logits B×1×128×128 of what lies in front."""

    def __init__(self) -> None:
        super().__init__()
        fine, wide = _CHANNELS[0], _CHANNELS[-1]
        steps = list(pairwise(_CHANNELS))
        self.stem = _conv(3 * _FOLD**2, fine)
        self.blocks = nn.ModuleList(_Residual(channels) for channels in _CHANNELS)
        self.down = nn.ModuleList(_conv(fine, coarse, stride=2) for fine, coarse in steps)
        self.whole = nn.Linear(wide, wide)  # what the whole picture says
        self.bottom = _Residual(wide)
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in steps)
        self.joined = nn.ModuleList(_conv(fine, fine) for fine, _ in steps)
        self.head = nn.Conv2d(fine, _FOLD**2, 3, padding=1)

    def forward(self, faces: Tensor) -> Tensor:
        x = self.blocks[0](F.relu(self.stem(F.pixel_unshuffle(2 * faces - 1, _FOLD))))
        finer: list[Tensor] = []
        for level, down in enumerate(self.down, 1):
            finer.append(x)
            x = self.blocks[level](F.relu(down(x)))
        x = self.bottom(F.relu(x + self.whole(x.mean((2, 3)))[..., None, None]))
        for level in reversed(range(len(finer))):
            x = F.interpolate(self.up[level](x), scale_factor=2.0, mode="bilinear")
            x = F.relu(self.joined[level](x + finer[level]))
        return F.pixel_shuffle(self.head(x), _FOLD)


def _conv(channels_in: int, channels: int, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels))


def empty_network() -> OcclusionNetwork:
    """The network without memory for its weights, which are assigned to it."""
    with torch.device("meta"):
        return OcclusionNetwork()
