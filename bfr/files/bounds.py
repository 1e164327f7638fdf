"""A bound on the networks that files of weights are built into."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules import module

_MOST = 4  # times the numbers of a file
_SMALL = 50_000_000  # numbers that any network may have: 0.2 GB


@contextmanager
def no_larger_than(state: Mapping[str, Tensor]) -> Iterator[None]:
    """Stops what builds networks in the block, in this thread, when they outgrow their weights.

    A structure is read from the shapes of some tensors, so a small file can name a huge one. A
    layer is counted before its numbers are written, and so before it takes memory.

    Args:
        state: the weights of the network.

    Raises:
        ValueError: in the block, if the network is far larger.
    """
    most = _SMALL + _MOST * sum(tensor.numel() for tensor in state.values())
    thread, count = threading.get_ident(), 0

    def on_tensor(owner: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal count
        if threading.get_ident() != thread or tensor is None:
            return
        count += tensor.numel()
        if count > most:
            raise ValueError(f"a network of more than {most} numbers, far more than the file has")

    handles = (
        module.register_module_parameter_registration_hook(on_tensor),
        module.register_module_buffer_registration_hook(on_tensor),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
