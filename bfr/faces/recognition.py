"""dlib's face recognition network in torch: 128 numbers per face, differentiable.

The ResNet of Davis King's ``dlib_face_recognition_resnet_model_v1`` (dlib's example
``dnn_face_recognition_ex.cpp``; a ResNet-34 with fewer layers and half the filters). Its weights
are public domain (CC0). Two embeddings of one person lie within 0.6 of each other on 99.4 % of
the pairs of LFW, by dlib's account.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHIP = 150
"""Side in pixels of the faces that the network sees."""

EMBEDDING = 128
"""Numbers per face."""

# Filters of the residual blocks, from the picture to the embedding; a block with another number
# of filters than the one before it, and the last, halves the picture.
_FILTERS = (32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256, 256, 256)
_HALVES = (3, 7, 10, 13)
_MEAN = (122.782, 117.001, 104.298)  # of the training faces, RGB in [0, 255]


class Block(nn.Module):
    """Two 3×3 convolutions and the input added to them.

    dlib's convolutions of stride 2 have no padding, and its sum of two different shapes pads the
    smaller one with zeros at its ends, channels as well as pixels.
    """

    def __init__(self, filters_in: int, filters: int, halve: bool):
        super().__init__()
        stride, padding = (2, 0) if halve else (1, 1)
        self.halve = halve
        self.first = nn.Conv2d(filters_in, filters, 3, stride, padding)
        self.second = nn.Conv2d(filters, filters, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps B×C×H×W features to B×F×h×w ones."""
        y = self.second(F.relu(self.first(x)))
        if self.halve:
            x = F.avg_pool2d(x, 2)
        shape = [max(a, b) for a, b in zip(x.shape[1:], y.shape[1:], strict=True)]
        return F.relu(_padded(x, shape) + _padded(y, shape))


class FaceResNet(nn.Module):
    """Face chips to embeddings; each convolution has dlib's affine layer folded into it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _FILTERS[0], 7, 2)
        before = (_FILTERS[0], *_FILTERS)
        self.blocks = nn.Sequential(
            *(
                Block(before[place], filters, place in _HALVES)
                for place, filters in enumerate(_FILTERS)
            )
        )
        self.head = nn.Linear(_FILTERS[-1], EMBEDDING, bias=False)

    def forward(self, chips: Tensor) -> Tensor:
        """The embeddings of face chips.

        Args:
            chips: B×3×150×150 RGB in [0, 1], cut as dlib cuts them (`bfr.faces.identity`).

        Returns:
            B×128; not normalised, Euclidean distances count.
        """
        mean = chips.new_tensor(_MEAN)[:, None, None]
        x = F.max_pool2d(F.relu(self.stem((255 * chips - mean) / 256)), 3, 2)
        return self.head(self.blocks(x).mean((2, 3)))


def _padded(x: Tensor, shape: list[int]) -> Tensor:
    """B×C×H×W with zeros at the ends, up to a shape (C, H, W)."""
    channels, height, width = (wanted - has for wanted, has in zip(shape, x.shape[1:], strict=True))
    return F.pad(x, (0, width, 0, height, 0, channels)) if channels or height or width else x


def empty_network() -> FaceResNet:
    """The network without memory for its weights, which are assigned to it."""
    with torch.device("meta"):
        return FaceResNet()
