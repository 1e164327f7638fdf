"""Photographs on disk: reading upright RGB, writing it back as it came, whole files or none."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import FaceRestorationError, ImageError, InputError, OutputError
from ..image.tensors import check_images
from .formats import FORMATS, IMAGE_SUFFIXES
from .photos16 import decode_16_bit, encode_png, encode_tiff
from .whole import atomic_path

_log = logging.getLogger(__name__)

MAX_PIXELS = 300_000_000
"""The largest photograph that is read: a float32 copy of it takes 3.6 GB."""

_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}
_ORIENTATION = 0x0112  # the EXIF tag
_pillow_limit = threading.Lock()


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph, upright, with what is needed to write it back as it came.

    Attributes:
        pixels: 1×3×H×W float32 RGB in [0, 1]; a grey photograph has three equal channels.
        alpha: 1×1×H×W float32 in [0, 1] (1 is opaque), or None.
        depth: bits a channel in the file, 8 or 16.
        grey: whether the file held a grey image.
        icc_profile: the embedded colour profile that ``pixels`` are in, or None.
        format: the file's format by Pillow's name ("JPEG", "PNG", …).
    """

    pixels: Tensor
    alpha: Tensor | None = None
    depth: int = 8
    grey: bool = False
    icc_profile: bytes | None = None
    format: str = "PNG"


def read_photo(path: str | Path) -> Photo:
    """Reads an image file; of a file with several frames, the first.

    The EXIF orientation is applied and EXIF is otherwise dropped. Palettes, CMYK and other
    colour models become RGB; a colour profile that describes neither RGB nor grey is dropped
    with them. RGB of 16 bits a channel is kept at depth in PNG and TIFF.

    Raises:
        ImageError: if the file is missing, truncated, no image or larger than MAX_PIXELS.
    """
    path = Path(path)
    try:
        with _without_pixel_limit(), Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(
                    f"{path} has {image.width}×{image.height} pixels; at most "
                    f"{MAX_PIXELS // 10**6} megapixels are read. Make it smaller first."
                )
            if getattr(image, "is_animated", False) and image.format != "MPO":
                _log.warning("%s holds several frames; only the first is read.", path)
            return _decode(image, path)
    except FaceRestorationError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist. Check the name.") from error
    except Exception as error:  # decoders fail in many ways: OSError, SyntaxError, IndexError …
        raise ImageError(
            f"{path} cannot be read as an image ({error}). It may be truncated or in a format "
            "that Pillow does not know: copy it again, or save it as PNG or JPEG."
        ) from error


def write_photo(path: str | Path, photo: Photo) -> None:
    """Writes a photograph in the format of the path's suffix; a whole file or none.

    The colour profile is kept, alpha where the format has it (PNG, TIFF, WebP), 16 bits in
    PNG and TIFF; other formats get 8 bits without alpha. A photograph that was grey and still
    is becomes a grey file. JPEG is written at quality 95 without chroma subsampling.

    Args:
        path: the file, in a folder that exists; replaced if it is there.
        photo: ``pixels`` and ``alpha`` are finite and in [0, 1].

    Raises:
        InputError: if the pixels are not one RGB image in [0, 1].
        OutputError: for an unknown suffix, a full disk, a missing or read-only folder.
    """
    path = Path(path)
    image_format = FORMATS.get(path.suffix.lower())
    if image_format is None:
        raise OutputError(
            f"Cannot write {path}: '{path.suffix}' is none of {', '.join(IMAGE_SUFFIXES)}. "
            "Choose one of these suffixes."
        )
    check_images(photo.pixels, "photo.pixels")
    if len(photo.pixels) != 1:
        raise InputError(f"A photo holds one image, and {len(photo.pixels)} came.")
    depth = photo.depth if image_format in ("PNG", "TIFF") else 8
    keep_alpha = photo.alpha is not None and image_format in ("PNG", "TIFF", "WEBP")
    array = _quantise(photo.pixels, depth)
    # Grey with alpha at 16 bits is written as colour: neither library here writes it.
    grey = photo.grey and not (keep_alpha and depth == 16) and _is_grey(array)
    if grey:
        array = array[..., :1]
    if keep_alpha and photo.alpha is not None:
        array = np.concatenate([array, _quantise(photo.alpha, depth)], axis=-1)
    profile = photo.icc_profile if _profile_fits(photo.icc_profile, grey) else None
    try:
        encoded = _encode(array, image_format, profile)
    except (OSError, ValueError) as error:
        raise OutputError(
            f"Cannot write {path}: the {image_format} encoder says '{error}'. "
            "Choose another format, such as .png."
        ) from error
    with atomic_path(path) as partial:
        partial.write_bytes(encoded)


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
    sixteen = ";16" in tiles
    image.load()  # raises on a truncated file
    # Pillow has turned a TIFF already and taken the tag away.
    orientation = image.getexif().get(_ORIENTATION, 1)
    grey = image.mode in ("1", "L", "LA", "La") or "LA;16" in tiles
    alpha = image.has_transparency_data
    if image.mode.startswith("I;16") or (image.mode == "I" and sixteen):
        array, grey, depth = np.asarray(image)[..., None], True, 16
    elif sixteen:
        array, depth = decode_16_bit(path), 16
    elif image.mode in ("I", "F"):
        raise ImageError(
            f"{path} has 32 bits a channel. Save it with 8 or 16 bits a channel first."
        )
    else:
        model = ("LA" if alpha else "L") if grey else ("RGBA" if alpha else "RGB")
        array, depth = np.asarray(image.convert(model)), 8
        array = array[..., None] if array.ndim == 2 else array
    planes = _upright(array, orientation).transpose(2, 0, 1)[None].astype(np.float32, order="C")
    planes /= _peak(depth)
    tensor = torch.from_numpy(planes)
    colours = 1 if tensor.shape[1] < 3 else 3
    profile = image.info.get("icc_profile")
    return Photo(
        pixels=tensor[:, :1].repeat(1, 3, 1, 1) if colours == 1 else tensor[:, :3].contiguous(),
        alpha=tensor[:, colours:].contiguous() if tensor.shape[1] > colours else None,
        depth=depth,
        grey=grey,
        icc_profile=profile if _profile_fits(profile, grey) else None,
        format=image.format or "PNG",
    )


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
    """1×C×H×W in [0, 1] as H×W×C uint8 or uint16."""
    levels = tensor[0].detach().float().cpu().mul(_peak(depth)).round_()
    if levels.min() < 0 or levels.max() > _peak(depth):
        raise InputError(
            f"A photo's pixels must be in [0, 1], and {float(tensor.min()):.3g} to "
            f"{float(tensor.max()):.3g} came. Clamp them first."
        )
    return levels.permute(1, 2, 0).numpy().astype(np.uint8 if depth == 8 else np.uint16)


def _is_grey(array: np.ndarray) -> bool:
    return bool((array == array[..., :1]).all())


def _profile_fits(profile: bytes | None, grey: bool) -> bool:
    """Whether an ICC profile's colour space (bytes 16 to 19 of its header) is the pixels'."""
    return profile is not None and (
        profile[16:20] == b"RGB " or (grey and profile[16:20] == b"GRAY")
    )


def _encode(array: np.ndarray, image_format: str, profile: bytes | None) -> bytes:
    """The bytes of a file with H×W×(1 to 4) uint8, or uint16 for PNG and TIFF."""
    if array.dtype == np.uint16 and array.shape[2] >= 3:
        return (encode_png if image_format == "PNG" else encode_tiff)(array, profile)
    buffer = io.BytesIO()
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    options = _SAVE_OPTIONS.get(image_format, {})
    image.save(buffer, format=image_format, icc_profile=profile, **options)
    return buffer.getvalue()
