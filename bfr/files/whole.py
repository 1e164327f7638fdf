"""Files written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import unicodedata
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import FaceRestorationError, OutputError
from .places import is_remote, to_path, upload

_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_PARTIAL = re.compile(r"\.(?:(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-)?[0-9a-f]{32}\.part")
_OLD = 24 * 3600  # seconds after which no writer is believed to be still at work


@contextmanager
def atomic_path(path: str | Path, overwrite: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    On any error the temporary file is removed and ``path`` is left as it was. The content is on
    the disk before it takes the place, so that a power cut leaves the old file or the new one. The
    temporary name is hidden and has no suffix, so name the format when you save to it. A remote
    file is written locally and sent (`upload`).

    Args:
        path: the file, in a folder that exists.
        overwrite: whether a local file of that name is replaced. Otherwise one that was made while
            the block ran is left as it is.

    Raises:
        OutputError: for an OSError in the block or in the renaming, or for a file that is not to
            be replaced.
    """
    path = to_path(path)
    if is_remote(path):
        with upload(path) as partial:
            yield partial
        return
    partial = path.with_name(f".{_MACHINE}-{os.getpid()}-{uuid.uuid4().hex}.part")
    try:
        partial.touch()
        mode = partial.stat().st_mode
        partial.unlink()
        yield partial
        with suppress(OSError):  # safetensors makes files that only their owner may read
            partial.chmod(mode)
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        if overwrite:
            partial.replace(path)
        else:
            _rename_new(partial, path)
    except FaceRestorationError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        if isinstance(error, ValueError) and "null" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"Cannot write {path}: {reason}. "
            "Check that its folder exists and can be written to, and that the disk is not full."
        ) from error
    finally:
        with suppress(OSError, ValueError):
            partial.unlink(missing_ok=True)


def _rename_new(partial: Path, path: Path) -> None:
    """Gives a file a name that no file has.

    Raises:
        OutputError: if one has it.
    """
    try:
        os.link(partial, path)
    except OSError:
        if os.path.lexists(path):
            raise OutputError(
                f"{path} must not exist yet, got one that somebody else made meanwhile, which "
                "stays. Choose another folder, or --existing overwrite or skip."
            ) from None
        partial.replace(path)  # a disk without hard links


def remove_leftovers(folder: Path, locked: bool = False) -> None:
    """Removes the temporary files of `atomic_path` that killed processes left in a folder.

    Args:
        folder: without its sub-folders; need not exist.
        locked: whether nobody else may be writing there now. Otherwise the files of running
            processes stay, and those of other machines until they are a day old.
    """
    if not folder.is_dir():
        return
    for path in folder.glob(".*.part"):
        match = _PARTIAL.fullmatch(path.name)
        if match and (locked or _is_abandoned(path, match["machine"], match["process"])):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def is_leftover(name: str) -> bool:
    """True if a file of this name is a temporary one of `atomic_path`."""
    return _PARTIAL.fullmatch(name) is not None


def _is_abandoned(path: Path, machine: str | None, process: str | None) -> bool:
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > _OLD:
            return True
    if machine != _MACHINE or process is None or sys.platform == "win32":
        return False
    try:
        os.kill(int(process), 0)  # sends nothing, and asks whether there is such a process
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def check_writable(folder: Path) -> None:
    """Makes the folder where it is missing, and verifies that files can be written there.

    Raises:
        OutputError: if they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"Cannot write into {folder}: {error.strerror}. Choose a folder that you may write to."
        ) from error


def prepare_folders(out: Path, files: Iterable[Path]) -> None:
    """Makes the folders of results, and removes what killed processes left in them.

    Args:
        out: the folder of all results; verified to be writable unless it is remote.
        files: the results below it.

    Raises:
        OutputError: if a folder cannot be made or written to, or its disk takes the names of two
            results for one.
    """
    if is_remote(out):
        return  # object stores have no folders, and leave nothing half-written
    files = list(files)
    for folder in dict.fromkeys([out, *(file.parent for file in files)]):
        check_writable(folder)
        remove_leftovers(folder)
    alike: dict[str, Path] = {}
    for file in files:
        other = alike.setdefault(unicodedata.normalize("NFC", str(file)).casefold(), file)
        if other != file and _folds_case(other.parent, file.parent):
            raise OutputError(
                f"Each result must have its own name, got {other} and {file}, which are one on "
                "this disk. Restore them into different folders, or rename one."
            )


def _folds_case(folder: Path, same: Path) -> bool:
    """Whether what is made in one folder is found by its name in capitals in the other."""
    with suppress(OSError), tempfile.NamedTemporaryFile(dir=folder, prefix=".case") as file:
        return (same / Path(file.name).name.upper()).exists()
    return False


def copy_file(source: Path, target: Path, overwrite: bool = True) -> None:
    """Copies a file byte for byte, as a whole or not at all.

    Args:
        source: a local file.
        target: where the copy goes.
        overwrite: as of `atomic_path`.

    Raises:
        OutputError: if it cannot be written.
    """
    with atomic_path(target, overwrite) as partial:
        shutil.copyfile(source, partial)
