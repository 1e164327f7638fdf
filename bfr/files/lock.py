"""One folder, one writer."""

from __future__ import annotations

import json
import os
import platform
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import BusyError, InputError, OutputError

LOCK = ".lock"
_HOLDER = ".lock.holder"  # a file of its own: taking a lock may empty the lock's file


@contextmanager
def only_writer(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Holds a folder while the block runs, so that nobody else writes there.

    The system releases the lock when the process ends, however it ends. Readers need no lock.

    Args:
        folder: an existing folder.
        wait: seconds to wait for another writer, of this process or of another.

    Raises:
        BusyError: if another writer holds the folder; the message says who.
        InputError: if a link, a pipe or anything else has the name of the lock's files.
        OutputError: if the lock cannot be made there.
    """
    from filelock import FileLock, Timeout

    for name in (LOCK, _HOLDER):
        _refuse_other(folder / name)
    lock = FileLock(folder / LOCK, timeout=wait, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(
            f"{folder} must have one writer at a time, got a second: {_holder(folder)} is writing "
            "there. Wait until it has finished or stop it, or choose another folder."
        ) from error
    except OSError as error:
        raise OutputError(
            f"Cannot lock {folder}: {error.strerror or error}. Choose a folder that you may "
            "write to."
        ) from error
    try:
        _sign(folder)
        yield
    finally:
        with suppress(OSError):
            (folder / _HOLDER).unlink(missing_ok=True)
        lock.release()


def _refuse_other(path: Path) -> None:
    """Refuses what would be emptied or written to through a folder that a stranger has made."""
    try:
        mode = path.lstat().st_mode
    except OSError:  # none yet, or its holder has just let go
        return
    if not stat.S_ISREG(mode):
        raise InputError(
            f"{path} must be a file that shows who writes there, got a link, a pipe or a folder. "
            "Delete it."
        )


def _sign(folder: Path) -> None:
    """Records who holds the lock, for messages; the lock does not depend on it."""
    facts = {
        "process": os.getpid(),
        "machine": platform.node(),
        "command": Path(sys.argv[0]).name,
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    with suppress(OSError):
        (folder / _HOLDER).write_text(json.dumps(facts), encoding="utf-8")


def _holder(folder: Path) -> str:
    try:
        facts = json.loads((folder / _HOLDER).read_bytes())
        return (
            f"process {int(facts['process'])} ({facts['command']!s:.80}) on "
            f"{facts['machine']!s:.80}, since {facts['since']!s:.40},"
        )
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return "another process"
