"""Reports and drawings, which never take the place of a picture or an input.

A shell that expands a star hands the first photograph to the option before it:
``--report photos/*.jpg``. So a report never has the name of a picture, and a drawing replaces only
what carries this program's mark.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, OutputError
from .formats import FORMATS, UNREAD_SUFFIXES
from .places import is_remote
from .whole import atomic_path

if TYPE_CHECKING:
    from torch import Tensor

_SOFTWARE = 0x0131  # the EXIF tag
_MARK = "Face Restoration Tuner"
_DRAWN = (".png", ".jpg", ".jpeg", ".webp")  # formats that carry the mark


def check_report(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuses a file for a report before any work is done for it.

    Args:
        path: where the text is to go.
        inputs: files that the work reads.

    Raises:
        InputError: if it has the name of a picture, is an input, or holds anything but text.
        OutputError: if its folder is missing.
    """
    if _is_picture_name(path):
        raise InputError(
            f"A report must be a text file, got {path}, the name of a picture. Name a file such "
            f"as {path.with_suffix('.json').name} (a star after the option hands it a photograph)."
        )
    _check_place(path, inputs)
    if path.exists() and not _is_text(path):
        raise InputError(
            f"A report must replace only text, got {path}, which holds something else. Choose "
            "another name."
        )


def check_drawing(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuses a file for a drawing before any work is done for it.

    Args:
        path: where the picture is to go.
        inputs: files that the work reads.

    Raises:
        InputError: if it is an input, another's picture, or of a format that is not drawn.
        OutputError: if its folder is missing.
    """
    if path.suffix.lower() not in _DRAWN:
        raise InputError(f"A drawing must end in one of {', '.join(_DRAWN)}, got {path}.")
    _check_place(path, inputs)
    if path.exists() and not _is_drawing(path):
        raise InputError(
            f"A drawing must replace only an earlier drawing, got {path}, which is another file. "
            "Choose another name, or delete it."
        )


def write_text(path: Path, text: str, inputs: Iterable[Path] = ()) -> None:
    """Writes a report as UTF-8, as a whole or not at all; see `check_report`.

    Raises:
        InputError: as of `check_report`.
        OutputError: if it cannot be written.
    """
    check_report(path, inputs)
    with atomic_path(path) as partial:
        partial.write_bytes(text.encode(errors="surrogateescape"))


def write_drawing(path: Path, picture: Tensor, inputs: Iterable[Path] = ()) -> None:
    """Writes a drawing with this program's mark, as a whole or not at all; see `check_drawing`.

    Args:
        path: the file.
        picture: 1×3×H×W RGB in [0, 1].
        inputs: as of `check_drawing`.

    Raises:
        InputError: as of `check_drawing`.
        OutputError: if it cannot be written.
    """
    from PIL import Image

    from ..image.tensors import to_uint8  # waits for torch

    check_drawing(path, inputs)
    mark = Image.Exif()
    mark[_SOFTWARE] = _MARK
    image = Image.fromarray(to_uint8(picture)[0])
    with atomic_path(path) as partial:
        image.save(partial, format=FORMATS[path.suffix.lower()], exif=mark, quality=95)


def _check_place(path: Path, inputs: Iterable[Path]) -> None:
    if is_remote(path):
        if str(path) in map(str, inputs):
            raise InputError(
                f"A result must not replace what is read, got {path}. Choose another name."
            )
        return
    if not path.parent.is_dir():
        raise OutputError(f"Cannot write {path}: there is no folder {path.parent}. Make it first.")
    if path.exists() and not path.is_file():
        raise InputError(
            f"{path} must be a file, got a folder, a pipe or a device. Choose another name."
        )
    if path.exists() and any(
        not is_remote(each) and each.exists() and path.samefile(each) for each in inputs
    ):
        raise InputError(
            f"A result must not replace what is read, got {path}. Choose another name."
        )


def _is_picture_name(path: Path) -> bool:
    kind, _ = mimetypes.guess_type(path.name)
    known = path.suffix.lower() in (*FORMATS, *UNREAD_SUFFIXES)
    return known or bool(kind and kind.startswith(("image/", "video/")))


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(4096)
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4 and b"\x00" not in head  # a letter that was cut
    return b"\x00" not in head


def _is_drawing(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.getexif().get(_SOFTWARE) == _MARK
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
