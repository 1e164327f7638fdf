"""Photographs on disk: reading upright RGB, writing it back as it came, whole files or none."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import (
    FaceRestorationError,
    ImageError,
    InputError,
    MissingPackageError,
    OutputError,
)
from ..image.tensors import check_images
from .encode import Extras, encode, extras_of
from .formats import FORMATS, IMAGE_SUFFIXES
from .photos16 import decode_16_bit, stores_planes_of_16_bits
from .places import to_path
from .whole import atomic_path

_log = logging.getLogger(__name__)

BYTES_PER_PIXEL = 36
"""The memory that restoring a photograph takes, as measured; a float32 copy of it has 12."""

MEMORY_VARIABLE = "BFR_MEMORY_GB"
"""The environment variable with the memory in GB that one photograph may take."""

_MEMORY = 4.0  # GB, unless the variable says otherwise
_PLAIN = Extras()
_ORIENTATION = 0x0112  # the EXIF tag
_STRIP = 1 << 22  # pixels that are converted at once
_pillow_limit = threading.Lock()


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph, upright, with what is needed to write it back as it came.

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
            raise ImageError(f"{path} must be an image file, got a folder, a pipe or a device.")
        _prepare(path)
        with _without_pixel_limit(), Image.open(path) as image:
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


def write_photo(path: str | Path, photo: Photo) -> None:
    """Writes a photograph in the format of the path's suffix; a whole file or none.

    The colour profile, resolution and gamma are kept where the format has them, alpha in all but
    JPEG and BMP, 16 bits in PNG and TIFF; other formats get 8 bits. A photograph that was grey and
    still is becomes a grey file. JPEG, AVIF and HEIC are written at quality 95 without chroma
    subsampling, JPEG 2000 without loss, WebP without loss if it was read so.

    Args:
        path: the file, in a folder that exists; replaced if it is there.
        photo: ``pixels`` and ``alpha`` are finite and in [0, 1].

    Raises:
        InputError: if the pixels are not one RGB image in [0, 1].
        OutputError: for an unknown suffix, a full disk, a missing or read-only folder.
        MissingPackageError: if the format needs a package that is not installed.
    """
    path = to_path(path)
    image_format = FORMATS.get(path.suffix.lower())
    if image_format is None:
        raise OutputError(
            f"Cannot write {path}: the suffix must be one of {', '.join(IMAGE_SUFFIXES)}, got "
            f"'{path.suffix}'. Choose one of these."
        )
    _prepare(path)
    check_images(photo.pixels, "photo.pixels")
    if len(photo.pixels) != 1:
        raise InputError(
            f"A photo must hold one image, got {len(photo.pixels)}. Write them one by one."
        )
    depth = photo.depth if image_format in ("PNG", "TIFF") else 8
    keep_alpha = photo.alpha is not None and image_format not in ("JPEG", "BMP")
    array = _quantise(photo.pixels, depth)
    # Grey with alpha at 16 bits is written as colour: neither library here writes it.
    grey = photo.grey and not (keep_alpha and depth == 16) and _is_grey(array)
    if grey:
        array = array[..., :1]
    if keep_alpha and photo.alpha is not None:
        array = np.concatenate([array, _quantise(photo.alpha, depth)], axis=-1)
    profile = photo.icc_profile if _profile_fits(photo.icc_profile, grey) else None
    try:
        encoded = encode(array, image_format, profile, photo.extras)
    except (OSError, ValueError, RuntimeError) as error:
        raise OutputError(
            f"Cannot write {path}: the {image_format} encoder says '{error}'. "
            "Choose another format, such as .png."
        ) from error
    with atomic_path(path) as partial:
        partial.write_bytes(encoded)


def memory_limit() -> float:
    """The memory in bytes that one photograph may take.

    Raises:
        InputError: if the environment's value is no number.
    """
    text = os.environ.get(MEMORY_VARIABLE, "")
    try:
        return float(text or _MEMORY) * 1e9
    except ValueError as error:
        raise InputError(
            f"{MEMORY_VARIABLE} must be a number of GB, got {text!r}. Set it to, for example, 8."
        ) from error


def _check_size(image: Image.Image, path: Path) -> None:
    """Refuses a photograph before it is decoded if it needs more memory than it may take."""
    needed = image.width * image.height * BYTES_PER_PIXEL
    if needed > memory_limit():
        raise ImageError(
            f"{path} must need at most {memory_limit() / 1e9:.3g} GB of memory, got "
            f"{image.width}×{image.height} pixels, which need about {needed / 1e9:.3g} GB. Make it "
            f"smaller, or set {MEMORY_VARIABLE}={needed / 1e9 + 1:.0f} if the machine has that."
        )


def _prepare(path: Path) -> None:
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
        array, grey, depth = np.asarray(image)[..., None], True, 16
    elif sixteen:
        array = decode_16_bit(image, path)
    elif image.mode in ("I", "F"):
        raise ImageError(
            f"{path} must have 8 or 16 bits per channel, got 32. Save it with 8 or 16 bits first."
        )
    else:
        alpha = image.has_transparency_data
        model = ("LA" if alpha else "L") if grey else ("RGBA" if alpha else "RGB")
        array = np.asarray(image if image.mode == model else image.convert(model))
        array = array[..., None] if array.ndim == 2 else array
    channels = _channels(_upright(array, orientation), depth)
    colours = 1 if channels.shape[1] < 3 else 3
    profile = image.info.get("icc_profile")
    return Photo(
        pixels=channels[:, :1].repeat(1, 3, 1, 1) if colours == 1 else channels[:, :3].contiguous(),
        alpha=channels[:, colours:].contiguous() if channels.shape[1] > colours else None,
        depth=depth,
        grey=grey,
        icc_profile=profile if _profile_fits(profile, grey) else None,
        format=image.format or "PNG",
        extras=extras_of(image, path, turned),
    )


def _channels(array: np.ndarray, depth: int) -> Tensor:
    """H×W×C integers as 1×C×H×W float32 in [0, 1]."""
    channels = array.transpose(2, 0, 1)[None].astype(np.float32, order="C")
    channels /= _peak(depth)
    return torch.from_numpy(channels)


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation (1 to 8) to an H×W×C array."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def _peak(depth: int) -> int:
    return 2**depth - 1


def _quantise(tensor: Tensor, depth: int) -> np.ndarray:
    """1×C×H×W in [0, 1] as H×W×C uint8 or uint16, some rows at a time."""
    _, channels, height, width = tensor.shape
    array = np.empty((height, width, channels), np.uint8 if depth == 8 else np.uint16)
    rows = max(1, _STRIP // width)
    for start in range(0, height, rows):
        part = tensor[0, :, start : start + rows].detach().float().cpu()
        levels = part.mul(_peak(depth)).round_()
        if not (levels.min() >= 0 and levels.max() <= _peak(depth)):  # also of NaN
            raise InputError(
                f"A photo's pixels must be in [0, 1], got {float(part.min()):.3g} to "
                f"{float(part.max()):.3g}. Clamp them first."
            )
        array[start : start + rows] = levels.permute(1, 2, 0).numpy()
    return array


def _is_grey(array: np.ndarray) -> bool:
    return all(bool((array[..., 0] == array[..., n]).all()) for n in (1, 2))


def _profile_fits(profile: bytes | None, grey: bool) -> bool:
    """True if an ICC profile's colour space (bytes 16 to 19 of its header) is the pixels'."""
    return profile is not None and (
        profile[16:20] == b"RGB " or (grey and profile[16:20] == b"GRAY")
    )
