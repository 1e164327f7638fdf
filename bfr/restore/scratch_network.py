"""The network that marks scratches, in pictures of any size."""

from __future__ import annotations

import torch

from ..image.mask_network import MaskNetwork

REACH = 144
"""Pixels around a pixel, at most, that its result depends on."""

STEP = 16
"""The sides of a picture must be multiples of this. Shifts by it change no result."""


class ScratchNetwork(MaskNetwork):
    """Photographs, B×3×H×W RGB in [0, 1], to logits B×1×H×W of scratches.

    Nothing in it sees the whole picture, so that tiles give what the whole gives.
    """

    def __init__(self) -> None:
        super().__init__((32, 48, 64, 96), sees_whole=False, upsampling="nearest")


def empty_network() -> ScratchNetwork:
    """The network without memory for its weights, which are assigned to it."""
    with torch.device("meta"):
        return ScratchNetwork()
