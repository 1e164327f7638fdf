"""Several photographs at once on a processor, with results in their order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from .memory import free_bytes

Item = TypeVar("Item")
Result = TypeVar("Result")

_PHOTO_BYTES = 2 * 2**30  # that a large photograph takes while it is worked on


def share_cores(count: int, device: torch.device) -> int:
    """The number of items to work on at once; sets torch's threads to suit.

    Spreading small operators over threads costs more than it saves, and threads that wait for a
    busy core cost most of all. So on a processor each photograph gets one thread, as many at once
    as there are idle cores and memory for them; a single photograph gets the idle cores.

    Args:
        count: of the items.
        device: where the networks are; an accelerator works on one item at a time.
    """
    if device.type != "cpu":
        return 1
    cores = idle_cores()
    free = free_bytes(device)
    room = cores if free is None else max(1, free // _PHOTO_BYTES)
    at_once = max(1, min(count, cores, room))
    torch.set_num_threads(max(1, cores // at_once))
    return at_once


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Keeps torch to one thread of a processor, for work of many small operators.

    Aligning and pasting gain 1.2 to 1.3 times by a second thread if its core is idle, and take
    twice as long if it is not: the threads wait for one another at each operator.

    Args:
        device: where the work is; an accelerator is left alone.
    """
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if device.type == "cpu":
            torch.set_num_threads(before)


def idle_cores() -> int:
    """The cores that torch may use, less those that others keep busy; at least 1."""
    cores = torch.get_num_threads()  # obeys OMP_NUM_THREADS
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, min(cores, (os.cpu_count() or 1) - round(busy)))


def in_order(
    items: Iterable[Item], work: Callable[[Item], Result], at_once: int
) -> Iterator[tuple[Item, Result]]:
    """Works on several items at once, each in its own thread.

    Args:
        items: what is worked on; taken as it is needed.
        work: what is done with each; what it raises is raised here in the item's turn.
        at_once: the most items; 1 works in this thread.

    Yields:
        Each item and its result, in the order of the items. When this is closed, items that
        have begun are finished, and no other begins.
    """
    if at_once == 1:
        for item in items:
            yield item, work(item)
        return
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    # OpenMP counts the threads to work with in each of Python's, from as many as there are cores.
    pool = ThreadPoolExecutor(
        at_once, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)
    )
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) == 2 * at_once:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
