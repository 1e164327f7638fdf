"""The three lists of a pairs folder, and what their lines may hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from . import lines
from .lines import Kind

MANIFEST, SOURCES, MARKS = "manifest", "sources", "marks"
"""Pairs (`Pair`), photographs (`Photograph`), and which pairs were rejected or kept."""

KEPT, REJECTED = "kept", "rejected"
FLAGGED = "flagged"
"""How the reason begins where a pair was rejected for its flags, and not by hand."""

_FIELDS: Mapping[str, Mapping[str, Kind]] = {
    MANIFEST: {
        "name": lines.FILE_NAME,
        "source": lines.TEXT,
        "source_sha256": lines.TEXT,
        "face": lines.COUNT,
        "image_to_crop": lines.MATRIX,
        "landmarks": lines.ROWS,
        "score": lines.NUMBER,
        "crop": lines.OBJECT,
        "guess": lines.OBJECT,
        "target": lines.OBJECT,
        "sha256": lines.CHECKSUMS,
        "status": lines.one_of(KEPT, REJECTED),
        "reason": lines.TEXT,
        "flags": lines.TEXTS,
        "measures": lines.NUMBERS,
    },
    SOURCES: {
        "path": lines.TEXT,
        "bytes": lines.COUNT,
        "modified": lines.NUMBER,
        "sha256": lines.TEXT,
        "faces": lines.OPTIONAL_COUNT,
        "size": lines.SIZE,
        "crop": lines.OBJECT,
    },
    MARKS: {
        "name": lines.FILE_NAME,
        "status": lines.one_of(KEPT, REJECTED),
        "reason": lines.TEXT,
        "target": lines.TEXT,
    },
}
_NEEDED = {
    MANIFEST: "name source source_sha256 face image_to_crop landmarks score".split(),
    SOURCES: "path bytes modified sha256".split(),
    MARKS: "name status reason target".split(),
}
_REMOVED = {"name": lines.FILE_NAME, "removed": lines.TRUE}
"""The fields of a manifest's line that takes a pair out."""


def list_file(folder: Path, kind: str) -> Path:
    """The file of a list."""
    return folder / f"{kind}.jsonl"


def part_files(folder: Path, kind: str) -> list[Path]:
    """The parts of a list that running or interrupted processes have written."""
    part = re.compile(rf"{kind}\.part\d+\.jsonl")
    return sorted(path for path in folder.glob(f"{kind}.part*") if part.fullmatch(path.name))


def is_list(name: str) -> bool:
    """True if a file of this name is a list, or a part of one."""
    kinds = "|".join(_FIELDS)
    return re.fullmatch(rf"(?:{kinds})(?:\.part\d+)?\.jsonl", name) is not None


def read_entries(path: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of a list, or of a part of one, every field checked.

    Raises:
        InputError: for a line that is not what it should be; the message names it.
    """
    entries = []
    for number, line in lines.read_lines(path):
        where = f"Line {number} of {path}"
        removed = kind == MANIFEST and "removed" in line
        lines.check_line(line, _REMOVED if removed else _FIELDS[kind], where)
        needed = ["name"] if removed else _NEEDED[kind]
        if missing := [name for name in needed if name not in line]:
            raise InputError(
                f"{where} must have {', '.join(needed)}, got no {missing[0]}. Mend or delete it."
            )
        entries.append(line)
    return entries
