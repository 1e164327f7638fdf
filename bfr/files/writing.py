"""Writing photographs back in their own format, as whole files or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, OutputError
from ..image.bands import bands
from ..image.tensors import check_images
from .encode import Extras, encode
from .formats import FORMATS, IMAGE_SUFFIXES
from .photos import Photo, peak, prepare, profile_fits
from .places import to_path
from .whole import atomic_path


def write_photo(path: str | Path, photo: Photo, overwrite: bool = True) -> None:
    """Writes a photograph in the format of the path's suffix; a whole file or none.

    The colour profile, resolution and gamma are kept where the format has them, alpha in all but
    JPEG and BMP, 16 bits in PNG and TIFF; other formats get 8 bits. A photograph that was grey and
    still is becomes a grey file. JPEG, AVIF and HEIC are written at quality 95 without chroma
    subsampling, JPEG 2000 without loss, WebP without loss if it was read so.

    Args:
        path: the file, in a folder that exists.
        photo: ``pixels`` and ``alpha`` are finite and in [0, 1].
        overwrite: whether a file of that name is replaced, as of `atomic_path`.

    Raises:
        InputError: if the pixels are not one RGB image in [0, 1].
        OutputError: for an unknown suffix, a full disk, a missing or read-only folder.
        MissingPackageError: if the format needs a package that is not installed.
    """
    write_levels(path, levels_of(path, photo), overwrite)


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """A photograph as a file is going to hold it, which takes a quarter of a `Photo`'s memory.

    Attributes:
        array: H×W×(1 to 4) uint8 or uint16.
        icc_profile: that the file gets, or None.
        extras: of the photograph.
    """

    array: np.ndarray
    icc_profile: bytes | None
    extras: Extras


def levels_of(path: str | Path, photo: Photo) -> Levels:
    """The first half of `write_photo`; of a large photograph the rest can be let go after it."""
    path = to_path(path)
    image_format = _format_of(path)
    check_images(photo.pixels, "photo.pixels")
    if len(photo.pixels) != 1:
        raise InputError(
            f"A photo must hold one image, got {len(photo.pixels)}. Write them one by one."
        )
    depth = photo.depth if image_format in ("PNG", "TIFF") else 8
    alpha = None if image_format in ("JPEG", "BMP") else photo.alpha
    planes = [photo.pixels] if alpha is None else [photo.pixels, alpha]
    # Grey with alpha at 16 bits is written as colour: neither library here writes it.
    grey = photo.grey and not (alpha is not None and depth == 16) and _is_grey(planes, depth)
    if grey:
        planes[0] = photo.pixels[:, :1]
    array = _quantise(planes, depth)
    profile = photo.icc_profile if profile_fits(photo.icc_profile, grey) else None
    return Levels(array, profile, photo.extras)


def write_levels(path: str | Path, levels: Levels, overwrite: bool = True) -> None:
    """The second half of `write_photo`, for the levels of the same path."""
    path = to_path(path)
    image_format = _format_of(path)
    try:
        encoded = encode(levels.array, image_format, levels.icc_profile, levels.extras)
    except (OSError, ValueError, RuntimeError) as error:
        raise OutputError(
            f"Cannot write {path}: the {image_format} encoder says '{error}'. "
            "Choose another format, such as .png."
        ) from error
    with atomic_path(path, overwrite) as partial:
        partial.write_bytes(encoded)


def _format_of(path: Path) -> str:
    """The format of a file's suffix, by Pillow's name, which Pillow can write after this."""
    image_format = FORMATS.get(path.suffix.lower())
    if image_format is None:
        raise OutputError(
            f"Cannot write {path}: the suffix must be one of {', '.join(IMAGE_SUFFIXES)}, got "
            f"'{path.suffix}'. Choose one of these."
        )
    prepare(path)
    return image_format


def _quantise(planes: Sequence[Tensor], depth: int) -> np.ndarray:
    """1×C×H×W in [0, 1] as H×W×C uint8 or uint16, their channels together."""
    height, width = planes[0].shape[2:]
    channels = sum(plane.shape[1] for plane in planes)
    array = np.empty((height, width, channels), np.uint8 if depth == 8 else np.uint16)
    for rows, levels in _in_bands(planes, depth):
        array[rows.start : rows.stop] = levels.permute(1, 2, 0).numpy()
    return array


def _in_bands(planes: Sequence[Tensor], depth: int) -> Iterator[tuple[range, Tensor]]:
    """The levels of some rows after the others, C×h×W of whole numbers."""
    height, width = planes[0].shape[2:]
    for rows in bands(range(height), width):
        part = torch.cat(
            [plane[0, :, rows.start : rows.stop].detach().float().cpu() for plane in planes]
        )
        levels = part.mul(peak(depth)).round_()
        if not (levels.min() >= 0 and levels.max() <= peak(depth)):  # also of NaN
            raise InputError(
                f"A photo's pixels must be in [0, 1], got {float(part.min()):.3g} to "
                f"{float(part.max()):.3g}. Clamp them first."
            )
        yield rows, levels


def _is_grey(planes: Sequence[Tensor], depth: int) -> bool:
    """True if three channels come to the same levels."""
    return all(
        torch.equal(levels[0], levels[1]) and torch.equal(levels[0], levels[2])
        for _, levels in _in_bands(planes, depth)
    )
