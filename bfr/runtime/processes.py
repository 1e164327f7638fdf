"""Several processes that work on one thing: who does which part.

``accelerate launch`` starts the processes, and the environment tells each of them which it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import InputError, MissingPackageError

T = TypeVar("T")

_PATIENCE = timedelta(days=30)  # for the others: one may have far more to do than another


@dataclass(frozen=True, slots=True)
class Share:
    """One process's share of the work; by default all of it.

    Attributes:
        rank: this process's number, from 0.
        count: how many processes there are.
        device: the device that this process was given; None leaves the choice.
        wait: returns when all processes have called it.
        average: replaces tensors by their mean over all processes, in place; returns when all
            have called it with tensors of the same shapes.
    """

    rank: int = 0
    count: int = 1
    device: str | None = None
    wait: Callable[[], None] = lambda: None
    average: Callable[[Sequence[Tensor]], None] = lambda tensors: None

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of a list that is the same in all of them."""
        return items[self.rank :: self.count]


def launched_share(cpu: bool = False) -> Share:
    """The share of this process, if ``accelerate launch`` or ``torchrun`` started several.

    Args:
        cpu: work on the processor even where there are accelerators.

    Raises:
        MissingPackageError: if there are several, and accelerate is not installed.
        InputError: if they cannot find one another.
    """
    count = int(os.environ.get("WORLD_SIZE") or 1)
    if count < 2:
        return Share()
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise MissingPackageError(
            "Sharing the work among several processes needs accelerate. Install it: pip install "
            "accelerate (or start a single process)."
        ) from error
    cpu = cpu or not torch.cuda.is_available()  # it must be told, or each would work alone
    state = PartialState(cpu=cpu, timeout=_PATIENCE)
    if state.num_processes != count:
        raise InputError(
            f"{count} processes were started, and accelerate joins {state.num_processes}. Start "
            "them with: accelerate launch --multi_gpu --num_processes N"
        )
    return Share(state.process_index, count, str(state.device), state.wait_for_everyone, _average)


@torch.no_grad()
def _average(tensors: Sequence[Tensor]) -> None:
    sums = [torch.distributed.all_reduce(tensor, async_op=True) for tensor in tensors]
    for tensor, summing in zip(tensors, sums, strict=True):
        assert summing is not None
        summing.wait()
        tensor /= torch.distributed.get_world_size()
