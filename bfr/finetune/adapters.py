"""Low-rank adapters: large restorers are tuned with a fraction of the optimizer's memory.

After Hu et al., "LoRA" (ICLR 2022): a weight W stays as it is, and what is trained is B·A of a low
rank, which is added to it. B begins at zero, so training begins at the base. Convolutions are
taken as matrices, a row for each output channel. What is too small to gain from it (biases,
norms, narrow layers) is trained itself.

Inside, PyTorch's parametrizations hold the adapters; `plain_state` is what the network would be
without them, so every file that is written stays stock.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization

_WORTH = 2  # times fewer numbers that an adapter must have than its weight


class LowRank(nn.Module):
    """The adapter of one weight: W → W + B·A."""

    def __init__(self, weight: Tensor, rank: int, random: torch.Generator | None) -> None:
        super().__init__()
        rows, columns = matrix_shape(weight)
        down = torch.empty(rank, columns)
        if weight.device.type != "meta":
            down.normal_(0, columns**-0.5, generator=random)
        self.down = nn.Parameter(down.to(weight))
        self.up = nn.Parameter(torch.zeros(rows, rank).to(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """Returns the weight with the adapter added, of the same shape."""
        with torch.autocast(weight.device.type, enabled=False):
            return weight + (self.up @ self.down).view(weight.shape)


def matrix_shape(weight: Tensor) -> tuple[int, int]:
    """The rows and columns of a weight as a matrix; leading sizes of 1 are no rows."""
    sizes = list(weight.shape)
    while len(sizes) > 1 and sizes[0] == 1:
        sizes.pop(0)
    return (sizes[0], prod(sizes[1:])) if sizes else (1, 1)


def add_adapters(network: nn.Module, rank: int, seed: int = 0) -> int:
    """Gives adapters to the trainable weights of a network that are large enough, and freezes them.

    Args:
        network: changed in place; its results stay the same until the adapters learn.
        rank: of the adapters; 0 adds none.
        seed: of their random numbers.

    Returns:
        The number of adapters.
    """
    if not rank:
        return 0
    random, found = torch.Generator().manual_seed(seed), []
    for module in network.modules():
        for name, weight in module.named_parameters(recurse=False):
            rows, columns = matrix_shape(weight)
            if weight.requires_grad and _WORTH * rank * (rows + columns) <= rows * columns:
                found.append((module, name, weight))
    for module, name, weight in found:
        adapter = LowRank(weight.detach(), rank, random)
        register_parametrization(module, name, adapter, unsafe=True)  # not tried out: on meta too
        weight.requires_grad_(False)
    return len(found)


def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """The state dict of a network with its adapters merged, by the names it had without them."""
    state = dict(network.state_dict())
    for prefix, module in network.named_modules():
        chains: Any = module.parametrizations if is_parametrized(module) else {}
        for name, chain in chains.items():
            if isinstance(chain[0], LowRank):
                place = f"{prefix}.".removeprefix(".")
                inside = f"{place}parametrizations.{name}."
                state = {key: value for key, value in state.items() if not key.startswith(inside)}
                state[f"{place}{name}"] = getattr(module, name).detach()
    return state


@torch.no_grad()
def load_plain(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads what `plain_state` gave into a network with or without adapters, and resets these."""
    own = network.state_dict()
    for name, value in state.items():
        if name in own:
            own[name].copy_(value)
            continue
        place, _, weight = name.rpartition(".")
        inside = f"{place}.parametrizations.{weight}".removeprefix(".")
        own[f"{inside}.original"].copy_(value)
        own[f"{inside}.0.up"].zero_()
