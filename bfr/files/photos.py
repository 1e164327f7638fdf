"""Photographs on disk, read as upright RGB."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import FaceRestorationError, ImageError, InputError, MissingPackageError
from ..image.bands import bands
from .encode import Extras, extras_of
from .formats import FORMATS, decoders
from .photos16 import decode_16_bit, stores_planes_of_16_bits

_log = logging.getLogger(__name__)

BYTES_PER_PIXEL = 36
"""What restoring a photograph with its background takes, as measured; its faces alone take 16."""

MEMORY_VARIABLE = "BFR_MEMORY_GB"
"""The environment variable with the memory in GB that one photograph may take."""

_MEMORY = 4.0  # GB, unless the variable says otherwise
_PLAIN = Extras()
_ORIENTATION = 0x0112  # the EXIF tag
_pillow_limit = threading.Lock()


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph, upright, with what is needed to write it back in its own format.

    Attributes:
        pixels: 1×3×H×W float32 RGB in [0, 1]; a grey photograph has three equal channels.
        alpha: 1×1×H×W float32 in [0, 1] (1 is opaque), or None.
        depth: bits per channel in the file, 8 or 16.
        grey: whether the file held a grey image.
        icc_profile: the embedded colour profile that ``pixels`` are in, or None.
        format: the file's format by Pillow's name ("JPEG", "PNG", …).
        extras: what else the file says about its pixels.
    """

    pixels: Tensor
    alpha: Tensor | None = None
    depth: int = 8
    grey: bool = False
    icc_profile: bytes | None = None
    format: str = "PNG"
    extras: Extras = _PLAIN


def read_photo(path: str | Path) -> Photo:
    """Reads an image file; of a file with several frames, the first.

    The EXIF orientation is applied and EXIF is otherwise dropped. Palettes, CMYK and other
    colour models become RGB; a colour profile that describes neither RGB nor grey is dropped
    with them. RGB of 16 bits per channel is kept at depth in PNG and TIFF.

    Raises:
        ImageError: if the file is missing, truncated, no image, or too large for the memory that
            a photograph may take (`BYTES_PER_PIXEL`, `MEMORY_VARIABLE`).
        MissingPackageError: if its format needs a package that is not installed.
    """
    path = Path(path)
    try:
        if not path.is_file() and path.exists():
            raise ImageError(
                f"{path} must be an image file, got a folder, a pipe or a device. Name a file."
            )
        prepare(path)
        with _without_pixel_limit(), Image.open(path, formats=decoders()) as image:
            _check_size(image, path)
            if getattr(image, "is_animated", False) and image.format != "MPO":
                _log.warning("%s holds several frames; only the first is read.", path)
            return _decode(image, path)
    except FaceRestorationError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{path} must be an image file, got none. Check the name.") from error
    except Exception as error:  # decoders fail in many ways: OSError, SyntaxError, IndexError …
        raise ImageError(
            f"{path} must be a whole image, got one that cannot be read ({error}). It may be "
            "truncated or of an unknown format: copy it again, or save it as PNG or JPEG."
        ) from error


def memory_limit() -> float:
    """The memory in bytes that one photograph may take.

    Raises:
        InputError: if the environment's value is no number above 0.
    """
    text = os.environ.get(MEMORY_VARIABLE, "")
    try:
        limit = float(text or _MEMORY) * 1e9
    except ValueError:
        limit = 0.0
    if not limit > 0:  # also NaN, which nothing would exceed
        raise InputError(
            f"{MEMORY_VARIABLE} must be a number of GB, got {text!r}. Set it to, for example, 8."
        )
    return limit


def _check_size(image: Image.Image, path: Path) -> None:
    """Refuses a photograph before it is decoded if it needs more memory than it may take."""
    needed = image.width * image.height * BYTES_PER_PIXEL
    if needed > memory_limit():
        raise ImageError(
            f"{path} must fit into {memory_limit() / 1e9:.3g} GB of memory, got "
            f"{image.width}×{image.height} pixels, which need about {needed / 1e9:.3g} GB. Make it "
            f"smaller, or set {MEMORY_VARIABLE}={needed / 1e9 + 1:.0f} if the machine has that."
        )


def prepare(path: Path) -> None:
    """Teaches Pillow the format of a file's suffix, where another package has it."""
    if FORMATS.get(path.suffix.lower()) != "HEIF":
        return
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise MissingPackageError(
            f"{path} needs the package pillow-heif. Install it: pip install pillow-heif"
        ) from error
    register_heif_opener()


@contextmanager
def _without_pixel_limit() -> Iterator[None]:
    """Lifts Pillow's limit of 89 megapixels, which is global, for one file at a time."""
    with _pillow_limit:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _decode(image: Image.Image, path: Path) -> Photo:
    tiles = str(getattr(image, "tile", ""))  # names the layout in the file, as in 'RGB;16B'
    planes = stores_planes_of_16_bits(image)  # which Pillow mixes up
    sixteen = planes or ";16" in tiles
    turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    if not planes:
        image.load()  # raises on a truncated file
    # Pillow has turned a TIFF already and taken the tag away.
    orientation = image.getexif().get(_ORIENTATION, 1)
    grey = image.mode in ("1", "L", "LA", "La") or "LA;16" in tiles
    depth = 16 if sixteen else 8
    if image.mode.startswith("I;16") or (image.mode == "I" and sixteen):
        strips, grey, depth = _rows_of(np.asarray(image)[..., None]), True, 16
    elif sixteen:
        image.close()  # what was loaded is of 8 bits, and as large as the photograph
        strips = _rows_of(decode_16_bit(image, path))
    elif image.mode in ("I", "F"):
        raise ImageError(
            f"{path} must have 8 or 16 bits per channel, got 32. Save it with 8 or 16 bits first."
        )
    else:
        strips = _strips(image, grey)
    pixels, alpha = _upright_planes(strips, image.size, depth, orientation)
    profile = image.info.get("icc_profile")
    return Photo(
        pixels=pixels,
        alpha=alpha,
        depth=depth,
        grey=grey,
        icc_profile=profile if profile_fits(profile, grey) else None,
        format=image.format or "PNG",
        extras=extras_of(image, path, turned),
    )


def _strips(image: Image.Image, grey: bool) -> Iterator[np.ndarray]:
    """h×W×C uint8, grey or RGB, with or without alpha: an image of 8 bits from top to bottom."""
    alpha = image.has_transparency_data
    model = ("LA" if alpha else "L") if grey else ("RGBA" if alpha else "RGB")
    for rows in bands(range(image.height), image.width):
        strip = image.crop((0, rows.start, image.width, rows.stop))
        array = np.asarray(strip if strip.mode == model else strip.convert(model))
        yield array[..., None] if array.ndim == 2 else array


def _rows_of(array: np.ndarray) -> Iterator[np.ndarray]:
    return (array[rows.start : rows.stop] for rows in bands(range(len(array)), array.shape[1]))


def _upright_planes(
    strips: Iterable[np.ndarray], size: tuple[int, int], depth: int, orientation: int
) -> tuple[Tensor, Tensor | None]:
    """A photograph's pixels and alpha as `Photo` has them.

    Args:
        strips: h×W×C integers from top to bottom, C being 1 or 3, and one more with alpha.
        size: width and height of the image as it is stored.
        depth: bits of the integers.
        orientation: of EXIF, 1 to 8.
    """
    sides = size if orientation in (5, 6, 7, 8) else (size[1], size[0])
    planes: dict[str, np.ndarray] = {"pixels": np.empty((1, 3, *sides), np.float32)}
    top = 0
    for strip in strips:
        values = strip.astype(np.float32)
        values /= peak(depth)
        colours = 1 if strip.shape[2] < 3 else 3
        if strip.shape[2] > colours and "alpha" not in planes:
            planes["alpha"] = np.empty((1, 1, *sides), np.float32)
        for name, part in zip(planes, (values[..., :colours], values[..., colours:]), strict=False):
            stored = _as_stored(planes[name][0].transpose(1, 2, 0), orientation)
            stored[top : top + len(strip)] = part
        top += len(strip)
    tensors = {name: torch.from_numpy(plane) for name, plane in planes.items()}
    return tensors["pixels"], tensors.get("alpha")


def _as_stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """A view of an upright H×W×C array as a file of an EXIF orientation (1 to 8) stores it."""
    if orientation in (2, 3, 6, 7):
        upright = upright[:, ::-1]
    if orientation in (3, 4, 7, 8):
        upright = upright[::-1]
    if orientation in (5, 6, 7, 8):
        upright = upright.swapaxes(0, 1)
    return upright


def peak(depth: int) -> int:
    return 2**depth - 1


def profile_fits(profile: bytes | None, grey: bool) -> bool:
    """True if an ICC profile's colour space (bytes 16 to 19 of its header) is the pixels'."""
    return profile is not None and (
        profile[16:20] == b"RGB " or (grey and profile[16:20] == b"GRAY")
    )
