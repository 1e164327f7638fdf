"""Work in processes of its own, forked from this one, which has loaded all that it needs."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

import torch

# Elsewhere a fork is not safe, or there is none; then it is the same, but slower.
CONTEXT = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


def begin(work: Callable[..., object], *arguments: Any) -> BaseProcess:
    """Starts a function of a test module in a process with one thread."""
    process = CONTEXT.Process(target=_alone, args=(work, arguments), daemon=True)
    process.start()
    return process


def _alone(work: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)  # the threads of the process it was forked from are not here
    work(*arguments)


def launch(count: int, work: Callable[..., object], *arguments: Any) -> list[BaseProcess]:
    """Starts a function in several processes that are told of each other as by ``torchrun``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [begin(_ranked, rank, count, port, work, arguments) for rank in range(count)]


def together(count: int, work: Callable[..., object], *arguments: Any) -> None:
    """Runs a function in several processes of `launch`, until all have ended.

    Raises:
        AssertionError: if one of them fails; its error is on the standard error output.
    """
    processes = launch(count, work, *arguments)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count


def _ranked(
    rank: int, count: int, port: int, work: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    os.environ |= told_of(rank, count, port)
    work(*arguments)


def told_of(rank: int, count: int, port: int) -> dict[str, str]:
    """The variables by which a process knows of the others."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
