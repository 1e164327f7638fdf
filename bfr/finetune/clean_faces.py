"""Folders of clean aligned faces, for the discriminator and for learned damage."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from PIL import Image

from ..errors import ImageError, InputError
from ..files.formats import IMAGE_SUFFIXES, decoders
from ..files.photos import prepare

UNREADABLE = (OSError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for files that are no pictures."""


def clean_faces(folder: Path) -> tuple[Path, ...]:
    """The files of a folder and its sub-folders, sorted.

    All are looked at, because one that cannot be used would stop a run in its middle.

    Raises:
        ImageError: if one is no square picture.
        InputError: if there is none.
    """
    named = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    found = sorted(path for path in named if not path.is_dir())
    for path in found:
        _check(path)
    if not found:
        raise InputError(
            f"{folder} must hold images of clean aligned faces, got none. Choose another folder, "
            "or none: the pseudo targets then serve instead."
        )
    return tuple(found)


def header_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels, from a picture's header; one of `UNREADABLE` if it has none."""
    with Image.open(path, formats=decoders()) as image:
        return image.height, image.width


def _check(path: Path) -> None:
    got = "none"
    with suppress(*UNREADABLE):
        prepare(path)
        if path.is_file():
            height, width = header_size(path)
            if height == width:
                return
            got = f"{width}×{height} pixels"
    raise ImageError(f"{path} must be a square clean face, got {got}. Take it out.")
