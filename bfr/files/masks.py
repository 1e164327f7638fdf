"""Masks on disk: what is painted over photographs, white on black."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..errors import InputError
from ..image.tensors import luma
from .formats import IMAGE_SUFFIXES
from .photos import read_photo


def find_mask(place: Path, name: Path) -> Path | None:
    """The mask of a photograph.

    Args:
        place: a mask, or a folder of masks.
        name: of the photograph below the folder it is in (`bfr.files.sources.Source`); its mask
            has the same name, of any suffix.

    Returns:
        Its file; None where the folder has none.

    Raises:
        InputError: if there is no such place, or there are several such masks.
    """
    if not place.exists():
        raise InputError(f"{place} must be a mask or a folder of masks, got none. Check the name.")
    if not place.is_dir():
        return place
    folder = (place / name).parent
    found = sorted(
        file
        for file in (folder.iterdir() if folder.is_dir() else ())
        if file.stem == name.stem and file.suffix.lower() in IMAGE_SUFFIXES
    )
    if len(found) > 1:
        raise InputError(
            f"{name} must have one mask, got {' and '.join(file.name for file in found)} in "
            f"{folder}. Remove one."
        )
    return found[0] if found else None


def read_mask(path: Path, size: tuple[int, int]) -> Tensor:
    """Reads a mask, 1×1×H×W in [0, 1]: 1 where it is white, 0 where black or transparent.

    Args:
        path: its file.
        size: height and width of its photograph.

    Raises:
        ImageError: if it is no image.
        InputError: if it has another size.
    """
    read = read_photo(path)
    if tuple(read.pixels.shape[-2:]) != size:
        height, width = read.pixels.shape[-2:]
        raise InputError(
            f"{path} must be {size[1]}×{size[0]} px like its photograph, got {width}×{height}. "
            "Paint it on this photograph, or resize it."
        )
    mask = luma(read.pixels)
    return mask if read.alpha is None else mask * read.alpha
