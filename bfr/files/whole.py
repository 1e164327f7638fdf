"""Files written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import FaceRestorationError, OutputError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    On any error the temporary file is removed and ``path`` is left as it was. The temporary
    name is hidden and has no suffix, so name the format when you save to it.

    Raises:
        OutputError: for an OSError in the block or in the renaming.
    """
    path = Path(path)
    partial = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        partial.touch()
        mode = partial.stat().st_mode
        partial.unlink()
        yield partial
        with suppress(OSError):  # safetensors makes files that only their owner may read
            partial.chmod(mode)
        partial.replace(path)
    except FaceRestorationError:
        raise
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}. "
            "Check that its folder exists and can be written to, and that the disk is not full."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Makes the folder where it is missing, and tries whether files can be written there.

    Raises:
        OutputError: if they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"Cannot write into {folder} ({error.strerror}). Choose a folder that you may write to."
        ) from error


def copy_file(source: Path, target: Path) -> None:
    """Copies a file byte for byte, as a whole or not at all.

    Raises:
        OutputError: if it cannot be written.
    """
    with atomic_path(target) as partial:
        shutil.copyfile(source, partial)
