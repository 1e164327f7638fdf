"""The adversary that finishes the restorer: a small network that judges texture and edges.

Measured on restored and clean faces before it was chosen: shown the detail alone, amplified, it
knows them apart after forty steps of four faces; a U-Net with spectral normalisation, and heads
on the features of the embedded prior, hardly did.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_GAIN = 10.0  # of the detail, which is faint beside what it lies on


class Critic(nn.Module):
    """Tells restored faces from clean ones, at every place.

    ``forward(faces)`` takes B×3×H×W RGB in [0, 1] and gives B×1×H/8×W/8 judgements, above 0 for
    clean, each of some 30 pixels square.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        self.layers = nn.Sequential(
            *_layer(6, width, 1),
            *_layer(width, 2 * width, 2),
            *_layer(2 * width, 3 * width, 2),
            *_layer(3 * width, 3 * width, 2),
            nn.Conv2d(3 * width, 1, 1),
        )

    def forward(self, faces: Tensor) -> Tensor:
        smooth = F.avg_pool2d(F.pad(faces, (1, 1, 1, 1), mode="replicate"), 3, 1)
        return self.layers(torch.cat([faces, _GAIN * (faces - smooth)], 1))


def pull(critic: Critic, restored: Tensor) -> Tensor:
    """The loss of who wants to be taken for clean: the mean judgement, negated."""
    return -critic(restored).mean()


def critic_loss(critic: Critic, clean: Tensor, restored: Tensor) -> Tensor:
    """The critic's hinge loss (Lim and Ye 2017): 2 when it knows nothing, 0 when all."""
    return F.relu(1 - critic(clean)).mean() + F.relu(1 + critic(restored.detach())).mean()


def _layer(channels: int, to: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, to, 3, stride, 1), nn.LeakyReLU(0.2)
