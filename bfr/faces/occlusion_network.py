"""The network that marks what lies in front of a face, for 256 px faces."""

from __future__ import annotations

import torch

from ..image.mask_network import MaskNetwork

SIDE = 256
"""Side in pixels of the aligned faces that the network sees."""


class OcclusionNetwork(MaskNetwork):
    """Aligned faces, B×3×256×256 RGB in [0, 1], to logits B×1×256×256 of what lies in front."""

    def __init__(self) -> None:
        super().__init__(
            (32, 64, 96, 128), sees_whole=True, upsampling="bilinear", fold=4, detail=16
        )


def empty_network() -> OcclusionNetwork:
    """The network without memory for its weights, which are assigned to it."""
    with torch.device("meta"):
        return OcclusionNetwork()
