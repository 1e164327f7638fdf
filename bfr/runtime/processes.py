"""Several processes on one task: who does which part.

``accelerate launch`` starts the processes, and the environment gives each of them its number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import InputError, LostProcessError, MissingPackageError

T = TypeVar("T")

PATIENCE_VARIABLE = "BFR_PATIENCE_MINUTES"
"""The environment variable with the minutes that a process waits for the others."""

_LAST_CALL = timedelta(seconds=10)  # to answer, once a step has failed


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


def launched_share(cpu: bool = False, patience: float = 60.0) -> Share:
    """The share of this process, if ``accelerate launch`` or ``torchrun`` started several.

    Args:
        cpu: work on the processor even where there are accelerators.
        patience: minutes after which another process that does not come is given up, and ``wait``
            and ``average`` raise LostProcessError; the environment (`PATIENCE_VARIABLE`) has
            precedence. It must be longer than one may have to do more than another.

    Raises:
        MissingPackageError: if there are several, and accelerate is not installed.
        InputError: if they cannot find one another, or the environment's value is no number.
    """
    count = int(os.environ.get("WORLD_SIZE") or 1)
    if count < 2:
        return Share()
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise MissingPackageError(
            "Work shared among processes needs the package accelerate. Install it: pip install "
            "accelerate; or start a single process."
        ) from error
    cpu = cpu or not torch.cuda.is_available()  # it must be told, or each would work alone
    limit = _patience(patience)
    state = PartialState(cpu=cpu, timeout=limit)
    if state.num_processes != count:
        raise InputError(
            f"accelerate must join the {count} processes that were started, got "
            f"{state.num_processes}. Start them with: "
            "accelerate launch --multi_gpu --num_processes N"
        )
    roll_call: Any = torch.distributed.new_group(backend="gloo", timeout=limit)

    def wait() -> None:
        with _naming_the_lost(roll_call, count, ask=False):
            torch.distributed.monitored_barrier(roll_call, limit, wait_all_ranks=True)

    def average(tensors: Sequence[Tensor]) -> None:
        with _naming_the_lost(roll_call, count, ask=True):
            _average(tensors)

    return Share(state.process_index, count, str(state.device), wait, average)


def _patience(minutes: float) -> timedelta:
    text = os.environ.get(PATIENCE_VARIABLE) or str(minutes)
    try:
        if (minutes := float(text)) > 0:
            return timedelta(minutes=minutes)
    except ValueError:
        pass
    raise InputError(
        f"{PATIENCE_VARIABLE} must be a number of minutes above 0, got {text!r}. Correct or "
        "unset it."
    )


@contextmanager
def _naming_the_lost(roll_call: Any, count: int, ask: bool) -> Iterator[None]:
    """Turns the failure of a joint step into an error that says which process is missing.

    Args:
        roll_call: the gloo group of all processes, which can tell who does not answer.
        count: how many processes there are.
        ask: whether the failed step does not know who is missing.
    """
    try:
        yield
    except RuntimeError as error:
        reason = error
        if ask:
            try:
                torch.distributed.monitored_barrier(roll_call, _LAST_CALL, wait_all_ranks=True)
            except RuntimeError as named:
                reason = named
        raise LostProcessError(
            f"Cannot go on, because one of {count} processes died or does not answer: "
            f"{str(reason).splitlines()[0].rstrip('.')}. Read its output, end them all and run the "
            f"same again: what was saved is kept. If it only needs longer, set {PATIENCE_VARIABLE}."
        ) from error


@torch.no_grad()
def _average(tensors: Sequence[Tensor]) -> None:
    sums = [torch.distributed.all_reduce(tensor, async_op=True) for tensor in tensors]
    for tensor, summing in zip(tensors, sums, strict=True):
        assert summing is not None
        summing.wait()
        tensor /= torch.distributed.get_world_size()
