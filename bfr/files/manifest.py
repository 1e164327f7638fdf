"""The published weights that the package knows, and where they are on this machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..errors import MissingWeightsError

EMBEDDED_DIR = Path(__file__).resolve().parents[2] / "weights"
"""The folder of the weights that come with the package, and of the manifest."""


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """An entry of the manifest: weights that someone else publishes.

    Attributes:
        name: its name on the command line.
        file: the file's name.
        kind: "detector", "restorer", "parser", "prior" or "identity".
        url: where it is published.
        sha256: the file's checksum in hexadecimal, or None where it is not known for sure.
        licence: the terms of the weights.
        folder: the sub-folder of ComfyUI's models folder where it belongs.
        size: the file's length in bytes, or None.
        note: its strengths.
    """

    name: str
    file: str
    kind: str
    url: str
    sha256: str | None
    licence: str
    folder: str
    size: int | None = None
    note: str = ""


@lru_cache(maxsize=1)
def published() -> tuple[PublishedWeights, ...]:
    """The published weights that the package knows, from ``weights/manifest.json``."""
    entries = json.loads((EMBEDDED_DIR / "manifest.json").read_text(encoding="utf-8"))
    return tuple(PublishedWeights(**entry) for entry in entries)


def cache_dir() -> Path:
    """The folder that the command line downloads to; it need not exist."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "face-restoration-tuner"


def find(entry: PublishedWeights, folders: Iterable[str | Path]) -> Path | None:
    """The entry's file in the first of the folders that has it, or None."""
    candidates = (Path(folder) / entry.file for folder in folders)
    return next((path for path in candidates if path.is_file()), None)


def entry_of(file: str) -> PublishedWeights | None:
    return next((entry for entry in published() if entry.file == file), None)


def check_there(path: Path) -> None:
    """Refuses a weights file that is not there, and says where to get it.

    Raises:
        MissingWeightsError: if it is no file.
    """
    if not path.is_file():
        raise MissingWeightsError(
            f"{path} must be a weights file, got none. {where_from(path.name)}"
        )


def where_from(file: str) -> str:
    entry = entry_of(file)
    if entry is None:
        return "Check the name, or choose another file."
    return f"To download {entry.name}, save {entry.url} into ComfyUI's models/{entry.folder}."


def get_again(file: str) -> str:
    entry = entry_of(file)
    return f"Delete it and download it again{f' from {entry.url}' if entry else ''}."
