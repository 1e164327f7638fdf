"""Lists of JSON lines that a stranger may have written: read strictly, replaced as a whole.

A pairs folder is shared as data. So every line is checked before anything believes it, and a line
that is wrong is an error that names it; nothing here follows what a line says.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ImageError, InputError, OutputError
from ..files.names import RESERVED
from ..files.whole import atomic_path

log = logging.getLogger(__name__)

_LONGEST = 1 << 20  # bytes of a line
_NAME = re.compile(r"[^\x00-\x1f/\\:]{1,200}")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value: what it is called in messages, and what belongs to it."""

    words: str
    accepts: Callable[[Any], bool]


def read_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The numbered lines of a list; none if there is no such file.

    A last line that was cut off while it was being written is logged and left out.

    Raises:
        InputError: if another line is no JSON object, or the file is a link, a pipe or not to be
            read.
    """
    refuse_link(path)
    try:
        texts = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"{path} must be a readable file, got: {error.strerror or error}. Check its "
            "permissions."
        ) from error
    lines: list[tuple[int, dict[str, Any]]] = []
    for number, text in enumerate(texts, 1):
        try:
            lines.append((number, _parse(text)))
        except (ValueError, RecursionError) as error:
            if number < len(texts):
                raise InputError(
                    f"Line {number} of {path} must be a JSON object, got damage ({error}). Mend "
                    "or delete it: the next run makes that pair again."
                ) from error
            log.warning("The last line of %s was cut off and does not count.", path)
    return lines


def _parse(text: bytes) -> dict[str, Any]:
    if len(text) > _LONGEST:
        raise ValueError(f"{len(text)} bytes")
    line = json.loads(text, parse_constant=_no_number)
    if not isinstance(line, dict):
        raise ValueError(f"a {type(line).__name__}")
    return line


def _no_number(word: str) -> Any:
    raise ValueError(f"{word}, which is no number")


def write_lines(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Replaces a list as a whole; one that would not change is left alone.

    Raises:
        OutputError: if it cannot be written.
    """
    content = b"".join(map(as_line, entries))
    if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
        return
    with atomic_path(path) as partial:
        partial.write_bytes(content)


def as_line(entry: Mapping[str, Any]) -> bytes:
    """One line of a list."""
    text = json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="surrogatepass")  # a file's name may be no text


def check_line(line: Mapping[str, Any], fields: Mapping[str, Kind], where: str) -> None:
    """Checks the values of a line.

    Args:
        line: what was read.
        fields: the kind of each field that it may have.
        where: "Line 3 of …", for the message.

    Raises:
        InputError: if a field is unknown or its value is not of its kind.
    """
    for name, value in line.items():
        try:
            good = name in fields and fields[name].accepts(value)
        except RecursionError:
            good = False
        if not good:
            known = f"{name} as {fields[name].words}" if name in fields else "no unknown names"
            raise InputError(
                f"{where} must have {known}, got {name} = {_shown(value)}. It was changed by hand "
                "or written by another version: mend or delete the line."
            )


def refuse_link(path: Path) -> None:
    """Refuses a link in a shared folder, which could lead anywhere, and a pipe, which may block.

    Raises:
        InputError: if the path is a link, a pipe or a device.
    """
    if path.is_symlink() or getattr(path, "is_junction", bool)():
        raise InputError(
            f"{path} must be a file or folder of the set, got a link. Put what it points to in "
            "its place."
        )
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(
            f"{path} must be a file or folder of the set, got a pipe or a device. Delete it."
        )


def check_image_file(path: Path) -> None:
    """Refuses an image that is a link, as `refuse_link` does.

    Raises:
        ImageError: if the path is a link.
    """
    try:
        refuse_link(path)
    except InputError as error:
        raise ImageError(str(error)) from error


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # also a number of thousands of digits
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}…"


def _is_file_name(value: Any) -> bool:
    plain = isinstance(value, str) and _NAME.fullmatch(value) and value == value.strip(". ")
    return bool(plain) and not RESERVED.fullmatch(value) and _fits_a_disk(value)


def _fits_a_disk(name: str) -> bool:
    """True if a disk takes a name of these letters with a suffix: they are text, and not too long.

    A name may have 255 bytes on most of them.
    """
    try:
        return len(name.encode()) <= 240
    except UnicodeEncodeError:
        return False


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) < 10_000 and "\x00" not in value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_flat(value: Any, levels: int = 20) -> bool:
    """True if objects and lists lie in each other no deeper than ours, which copying could bear."""
    if not isinstance(value, dict | list):
        return True
    items = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_flat(item, levels - 1) for item in items)


def _is_number(value: Any) -> bool:
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and abs(value) < 1e300 and math.isfinite(value)


def _are(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Lists of a kind of values, or objects with such values."""

    def check(value: Any) -> bool:
        items = value.values() if isinstance(value, dict) else value
        return isinstance(value, dict | list) and all(map(accepts, items))

    return check


def _of(kind: type, accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind) and accepts(value)


FILE_NAME = Kind("a file name without folders", _is_file_name)
TEXT = Kind("text", _is_text)
COUNT = Kind("a whole number from 0", _is_count)
OPTIONAL_COUNT = Kind("a whole number from 0, or null", lambda v: v is None or _is_count(v))
NUMBER = Kind("a finite number", _is_number)
NUMBERS = Kind("an object of numbers", _of(dict, _are(lambda v: v is None or _is_number(v))))
ROWS = Kind("a list of lists of numbers", _of(list, _are(_of(list, _are(_is_number)))))
SIZE = Kind("two whole numbers", _of(list, lambda v: len(v) == 2 and _are(_is_count)(v)))
MATRIX = Kind("2×3 numbers", lambda v: ROWS.accepts(v) and [len(row) for row in v] == [3, 3])
OBJECT = Kind("an object of few levels", _of(dict, _is_flat))
TEXTS = Kind("a list of texts", _of(list, _are(_is_text)))
CHECKSUMS = Kind("an object of checksums", _of(dict, _are(_is_text)))
TRUE = Kind("true", lambda value: value is True)


def one_of(*choices: str) -> Kind:
    """One of some words."""
    return Kind(" or ".join(choices), lambda value: isinstance(value, str) and value in choices)


def append_lines(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Appends lines in one go; what a full disk cuts off is taken back."""
    content = b"".join(map(as_line, entries))
    try:
        with path.open("ab") as file:
            size = file.tell()
            try:
                file.write(content)
                file.flush()
            except OSError:
                os.truncate(path, size)
                raise
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}. Make room on the disk or check "
            "the folder, and run the same again: what is done is kept."
        ) from error
