"""Encoding photographs, and what a file says about its pixels besides their values."""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from .photos16 import encode_png, encode_tiff

_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "HEIF": {"quality": 95, "chroma": 444},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}
_LOSSLESS_WEBP: dict[str, Any] = {
    "lossless": True,
    "exact": True,
}  # exact: also what is fully transparent
_WITH_RESOLUTION = ("BMP", "JPEG", "PNG", "TIFF")


@dataclass(frozen=True, slots=True)
class Extras:
    """The facts about its pixels that a file keeps when it is written back.

    Attributes:
        dpi: horizontal and vertical resolution, or None.
        gamma: of a PNG without a colour profile, or None.
        chromaticity: of a PNG: x and y of white, red, green and blue; or None.
        lossless: whether a WebP file is compressed without loss.
    """

    dpi: tuple[float, float] | None = None
    gamma: float | None = None
    chromaticity: tuple[float, ...] | None = None
    lossless: bool = False


def extras_of(image: Image.Image, path: Path, turned: bool) -> Extras:
    """The facts that the file of an opened image states.

    Args:
        image: as Pillow opened it.
        path: its file.
        turned: whether turning it upright exchanges its sides, and so its resolutions.
    """
    dpi = _positive(image.info.get("dpi"), 2)
    gamma = _positive((image.info.get("gamma"),), 1)
    chromaticity = _positive(image.info.get("chromaticity"), 8)
    return Extras(
        dpi=(dpi[1], dpi[0]) if dpi and turned else (dpi[0], dpi[1]) if dpi else None,
        gamma=gamma[0] if gamma else None,
        chromaticity=chromaticity,
        lossless=image.format == "WEBP" and _is_lossless_webp(path),
    )


def _positive(values: Any, count: int) -> tuple[float, ...] | None:
    """``count`` positive finite numbers, or None."""
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    good = len(numbers) == count and all(0 < n < 1e6 and math.isfinite(n) for n in numbers)
    return numbers if good else None


def _is_lossless_webp(path: Path) -> bool:
    """True if the first picture in a RIFF file is compressed by VP8L."""
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            kind, length = head[:4], int.from_bytes(head[4:], "little")
            if kind in (b"VP8L", b"VP8 "):
                return kind == b"VP8L"
            # A frame of an animation holds its picture after 16 bytes of its own.
            file.seek(16 if kind == b"ANMF" else length + length % 2, io.SEEK_CUR)
    return False


def encode(array: np.ndarray, image_format: str, profile: bytes | None, extras: Extras) -> bytes:
    """The bytes of an image file.

    Args:
        array: H×W×(1 to 4) uint8, or uint16 for PNG and TIFF.
        image_format: by Pillow's name.
        profile: an ICC profile, or None.
        extras: what else to say, as far as the format can.
    """
    if array.dtype == np.uint16 and array.shape[2] >= 3:
        if image_format == "PNG":
            return encode_png(array, profile, _png_chunks(extras, profile, resolution=True))
        return encode_tiff(array, profile, extras.dpi)
    options = dict(_SAVE_OPTIONS.get(image_format, {}))
    if image_format == "WEBP" and extras.lossless:
        options = dict(_LOSSLESS_WEBP)
    if extras.dpi is not None and image_format in _WITH_RESOLUTION:
        options["dpi"] = extras.dpi
    if image_format == "PNG":
        options["pnginfo"] = info = PngImagePlugin.PngInfo()
        for kind, data in _png_chunks(extras, profile).items():
            info.add(kind, data)
    buffer = io.BytesIO()
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    image.save(buffer, format=image_format, icc_profile=profile, **options)
    return buffer.getvalue()


def _png_chunks(
    extras: Extras, profile: bytes | None, resolution: bool = False
) -> dict[bytes, bytes]:
    """The chunks of a PNG that Pillow does not write by itself; a profile overrides gamma."""
    chunks: dict[bytes, bytes] = {}
    if extras.gamma is not None and profile is None:
        chunks[b"gAMA"] = struct.pack(">I", round(extras.gamma * 100_000))
    if extras.chromaticity is not None and profile is None:
        chunks[b"cHRM"] = struct.pack(">8I", *(round(v * 100_000) for v in extras.chromaticity))
    if extras.dpi is not None and resolution:
        per_metre = (round(value / 0.0254) for value in extras.dpi)
        chunks[b"pHYs"] = struct.pack(">IIB", *per_metre, 1)
    return chunks
