"""Gradient checkpointing: less memory for more time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

_CONTAINERS = (nn.Sequential, nn.ModuleList)


def checkpoint_blocks(network: nn.Module) -> int:
    """Makes a network's repeated blocks recompute their activations in the backward pass.

    Blocks are the members of its lists and sequences that consist of several layers, the
    outermost of nested ones: a NAFNet's blocks, a SwinIR's stages, CodeFormer's residual blocks
    and attention layers. Results, gradients and the names of tensors stay the same; random drops
    are repeated. Without gradients nothing is computed twice.

    The network is changed in place and must not be copied afterwards: a copy's blocks would
    still call the original's.

    Args:
        network: the network to train.

    Returns:
        The number of blocks.
    """
    blocks = list(_blocks(network))
    for block in blocks:
        block.forward = partial(_recomputed, block.forward)
    return len(blocks)


def _recomputed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)


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
