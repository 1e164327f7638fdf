"""The small U-Net of the networks that mark something in a picture, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class _Residual(nn.Module):
    """Two 3×3 convolutions and the input added to them."""

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = _conv(channels, channels), _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


class MaskNetwork(nn.Module):
    """Pictures, B×3×H×W RGB in [0, 1], to logits B×1×H×W of what is marked.

    Args:
        channels: of each level; the picture halves from one to the next.
        sees_whole: whether every pixel's result also depends on the mean of the whole picture.
        upsampling: the mode of `torch.nn.functional.interpolate`.
        fold: pixels a side that are folded into channels, and out of them at the end.
        detail: channels of a last stage that sees the picture again with 2×2 pixels folded, for
            outlines thinner than ``fold`` pixels (0: none).
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        sees_whole: bool,
        upsampling: str,
        fold: int = 2,
        detail: int = 0,
    ) -> None:
        super().__init__()
        self.upsampling, self.fold = upsampling, fold
        fine, wide = channels[0], channels[-1]
        steps = list(pairwise(channels))
        self.stem = _conv(3 * fold**2, fine)
        self.blocks = nn.ModuleList(_Residual(each) for each in channels)
        self.down = nn.ModuleList(_conv(fine, coarse, stride=2) for fine, coarse in steps)
        self.whole = nn.Linear(wide, wide) if sees_whole else None
        self.bottom = _Residual(wide)
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in steps)
        self.joined = nn.ModuleList(_conv(fine, fine) for fine, _ in steps)
        self.head = nn.Conv2d(fine, fold**2, 3, padding=1)
        self.detail = _Detail(fine, detail, fold, upsampling) if detail else None

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.blocks[0](F.relu(self.stem(F.pixel_unshuffle(2 * pictures - 1, self.fold))))
        finer: list[Tensor] = []
        for level, down in enumerate(self.down, 1):
            finer.append(x)
            x = self.blocks[level](F.relu(down(x)))
        if self.whole is not None:
            x = F.relu(x + self.whole(x.mean((2, 3)))[..., None, None])
        x = self.bottom(x)
        for level in reversed(range(len(finer))):
            x = F.interpolate(self.up[level](x), scale_factor=2.0, mode=self.upsampling)
            x = F.relu(self.joined[level](x + finer[level]))
        marked = F.pixel_shuffle(self.head(x), self.fold)
        return marked if self.detail is None else marked + self.detail(pictures, x)


class _Detail(nn.Module):
    """A correction of the logits, computed at half the picture's size from it and the features."""

    def __init__(self, features: int, channels: int, fold: int, upsampling: str):
        super().__init__()
        self.scale, self.upsampling = fold / 2, upsampling
        self.enter = _conv(3 * 2**2, channels)
        self.features = nn.Conv2d(features, channels, 1)
        self.joined = _conv(channels, channels)
        self.leave = nn.Conv2d(channels, 2**2, 3, padding=1)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(self, pictures: Tensor, features: Tensor) -> Tensor:
        coarse = self.features(features)
        x = self.enter(F.pixel_unshuffle(2 * pictures - 1, 2))
        x = x + F.interpolate(coarse, scale_factor=self.scale, mode=self.upsampling)
        return F.pixel_shuffle(self.leave(F.relu(self.joined(F.relu(x)))), 2)


def _conv(channels_in: int, channels: int, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels))
