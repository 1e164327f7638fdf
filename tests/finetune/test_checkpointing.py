"""Activations that the backward pass computes again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bfr.finetune.checkpointing import checkpoint_blocks
from bfr.restore.restorer import Restorer
from tests import trainable

MAKE = Callable[[], Restorer]
both = pytest.mark.parametrize("make", [trainable.nafnet, trainable.swinir])


def step(restorer: Restorer) -> tuple[Tensor, list[Tensor], int]:
    """The result, the gradients, and the bytes that wait for the backward pass."""
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    faces = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    restorer.network.zero_grad()
    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        torch.manual_seed(3)
        restored = restorer(faces)
        restored.square().mean().backward()
    found = [p.grad for p in restorer.network.parameters()]
    return restored, [grad for grad in found if grad is not None], sum(kept.values())


@both
def test_the_same_step_with_less_memory(make: MAKE):
    restorer = make()
    restored, gradients, memory = step(restorer)
    assert checkpoint_blocks(restorer.network) > 1
    again, found, less = step(restorer)
    assert torch.equal(again, restored)
    assert len(found) == len(gradients)
    assert all(torch.equal(a, b) for a, b in zip(found, gradients, strict=True))
    weights = sum(x.nbytes for x in restorer.network.state_dict().values())
    assert less - weights < 0.5 * (memory - weights)


def test_random_drops_are_drawn_again_alike():
    restorer = trainable.swinir(drop_path_rate=0.5)
    restorer.network.train()
    restored, gradients, _ = step(restorer)
    checkpoint_blocks(restorer.network)
    again, found, _ = step(restorer)
    assert torch.equal(again, restored)
    assert all(torch.equal(a, b) for a, b in zip(found, gradients, strict=True))
    restorer.network.eval()
    assert not torch.equal(step(restorer)[0], restored), "or nothing was dropped"


@both
def test_names_stay(make: MAKE):
    network = make().network
    before = {name: x.shape for name, x in network.state_dict().items()}
    kinds = [type(module) for module in network.modules()]
    checkpoint_blocks(network)
    assert {name: x.shape for name, x in network.state_dict().items()} == before
    assert all(isinstance(m, kind) for m, kind in zip(network.modules(), kinds, strict=True))


def test_nothing_is_computed_twice_without_gradients():
    class Counting(nn.Module):
        calls = 0

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            Counting.calls += 1
            return self.layer(x).tanh()

    network = nn.Sequential(Counting(), Counting(), nn.Linear(2, 2))
    assert checkpoint_blocks(network) == 2, "a single layer is no block"
    with torch.no_grad():
        network(torch.rand(1, 2))
    assert Counting.calls == 2
    network(torch.rand(1, 2)).sum().backward()
    assert Counting.calls == 6


def test_what_is_not_trained_is_left_alone():
    network = trainable.nafnet().network
    assert checkpoint_blocks(network.requires_grad_(False)) == 0
