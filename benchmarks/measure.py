"""Time and peak memory of one case, in a process of its own, so that its peak is its own."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

Make = Callable[..., Callable[[], object]]
"""Prepares a case and returns what is timed; a function of a module, so that it can be sent."""


def clock_for(threads: int) -> Callable[[], float]:
    """The clock of one thread's own work, which nothing else on the machine lengthens; with more
    threads, the wall's."""
    return time.process_time if threads == 1 else time.perf_counter


def in_own_process(
    make: Make,
    args: tuple[Any, ...],
    threads: int,
    repeats: int = 3,
    busy: bool = False,
    whole: bool = False,
    device: str = "cpu",
) -> tuple[float, float]:
    """The best of some times in seconds, and the peak memory above the start in MiB.

    On an accelerator the wall's time, and the memory of its tensors.

    Args:
        make: prepares the case.
        args: its arguments.
        threads: of torch.
        repeats: how often the case is timed.
        busy: let another process keep a core busy meanwhile, and take the wall's time.
        whole: give all memory of the process at its peak, in MB.
        device: where the case works.

    Raises:
        RuntimeError: if the process died; its own message stands on the error output.
    """
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    if os.name == "posix":
        context.set_forkserver_preload(["benchmarks.preloaded"])  # once, not for each case
    receive, send = context.Pipe(duplex=False)
    clock = time.perf_counter if busy or device != "cpu" else clock_for(threads)
    process = context.Process(
        target=_measure, args=(make, args, threads, repeats, clock, whole, device, send)
    )
    other = context.Process(target=_spin, daemon=True)
    if busy:
        other.start()
    process.start()
    send.close()
    try:
        return receive.recv()
    except EOFError as error:
        raise RuntimeError(f"{make.__name__}{args} died") from error
    finally:
        process.join()
        if busy:
            other.kill()


def _spin() -> None:
    while True:
        pass


def _measure(
    make: Make,
    args: tuple[Any, ...],
    threads: int,
    repeats: int,
    clock: Callable[[], float],
    whole: bool,
    device: str,
    out: Connection,
) -> None:
    torch.set_num_threads(threads)
    run = make(*args)
    start, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(repeats):
        began = clock()
        run()
        if device != "cpu":
            torch.cuda.synchronize(device)
        times.append(clock() - began)
    if device != "cpu":
        out.send((min(times), torch.cuda.max_memory_allocated(device) / 2**20))
        return
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    out.send((min(times), peak * 1.024e-3 if whole else (peak - start) / 1024))
