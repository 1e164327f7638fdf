"""Less memory for more time: activations that the backward pass computes again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

_CONTAINERS = (nn.Sequential, nn.ModuleList)


def checkpoint_blocks(network: nn.Module) -> int:
    """Lets a network's repeated blocks forget their activations, in place.

    Blocks are the members of its lists and sequences that consist of several layers, the
    outermost of nested ones: a NAFNet's blocks, a SwinIR's stages, CodeFormer's residual blocks
    and attention layers. Results, gradients, the names of tensors and copies are as without;
    random drops are drawn again alike. Without gradients nothing is computed twice.

    Args:
        network: the network to train.

    Returns:
        How many blocks there are.
    """
    blocks = list(_blocks(network))
    for block in blocks:
        block.__class__ = _forgetful(type(block))
    return len(blocks)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(module, _CONTAINERS) and _is_block(child):
            yield child
        else:
            yield from _blocks(child)


def _is_block(module: nn.Module) -> bool:
    has_layers = any(True for _ in module.children())
    return has_layers and not isinstance(module, _CONTAINERS) and _is_trained(module)


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


@lru_cache(maxsize=64)
def _forgetful(kind: type[nn.Module]) -> Any:
    """The class with a forward pass that is checkpointed.

    A class instead of a wrapper: a wrapper would rename the tensors, and a function set on the
    block would still belong to it in a copy.
    """

    class Forgetful(kind):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            if not torch.is_grad_enabled():
                return super().forward(*args, **kwargs)
            return checkpoint(super().forward, *args, use_reentrant=False, **kwargs)

    Forgetful.__name__ = Forgetful.__qualname__ = kind.__name__
    return Forgetful
