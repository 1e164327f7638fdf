"""Restorers with networks that do something simple, for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from spandrel import (
    Architecture,
    ImageModelDescriptor,
)
from spandrel.architectures.NAFNet import NAFNet
from torch import Tensor, nn

from benchmarks.published.rule_weights import fill_by_rule
from bfr.restore.load import from_spandrel
from bfr.restore.restorer import Restorer


class Stub(Architecture):
    """An architecture by name only."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id, detect=lambda state: False)

    def load(self, state_dict):
        raise NotImplementedError


def describe(
    network: nn.Module, architecture: str = "Stub", *, size: int | None = None, **changes
) -> Restorer:
    """A restorer as it comes from another loader; of another face size if one is given."""
    facts = {
        "purpose": "SR",
        "tags": [],
        "supports_half": True,
        "supports_bfloat16": True,
        "scale": 1,
        "input_channels": 3,
        "output_channels": 3,
    }
    restorer = from_spandrel(
        ImageModelDescriptor(
            network, network.state_dict(), Stub(architecture), **{**facts, **changes}
        )
    )
    return restorer if size is None else replace(restorer, size=size)


class Network(nn.Module):
    """A function of the image as a network; it keeps the sizes of the batches it saw."""

    def __init__(self, function: Callable[[Tensor], Tensor], limit: int = 99) -> None:
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(1))
        self.function, self.limit = function, limit
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(len(x))
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("allocating 7 GiB failed")
        return self.function(x)


def darker(x: Tensor) -> Tensor:
    return 0.5 * x + 0.2


def nafnet(width: int = 8) -> NAFNet:
    network = NAFNet(width=width, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1])
    fill_by_rule(network)
    network.ending.weight.data.mul_(0.05)  # a restorer changes its input a little
    return network


def crops(count: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, 3, size // 8, size // 8, generator=generator)
    return F.interpolate(small, (size, size), mode="bilinear")
