"""Photographs of 16 bits a channel, which Pillow cannot write in colour."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import TiffImagePlugin

from ..errors import ImageError, MissingPackageError


def decode_16_bit(path: Path) -> np.ndarray:
    """H×W×3 RGB or H×W×4 RGBA uint16; Pillow would cut the channels to 8 bits."""
    array = _opencv().imdecode(np.fromfile(path, np.uint8), -1)  # -1: as in the file
    if array is None or array.dtype != np.uint16 or array.ndim != 3:
        raise ImageError(f"{path} cannot be read at 16 bits. Save it with 8 bits a channel.")
    return array[..., [2, 1, 0, 3][: array.shape[2]]]


def encode_png(array: np.ndarray, profile: bytes | None) -> bytes:
    done, data = _opencv().imencode(".png", array[..., [2, 1, 0, 3][: array.shape[2]]])
    if not done:
        raise ValueError("16-bit PNG failed")
    png = data.tobytes()
    if profile is None:
        return png
    body = b"iCCP" + b"ICC profile\0\0" + zlib.compress(profile)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    header = 33  # the signature and the IHDR chunk, which comes first
    return png[:header] + chunk + png[header:]


def encode_tiff(array: np.ndarray, profile: bytes | None) -> bytes:
    """A TIFF 6.0 file of one deflated strip; alpha is unassociated."""
    height, width, channels = array.shape
    strip = zlib.compress(array.astype("<u2").tobytes())
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    tags[TiffImagePlugin.IMAGEWIDTH] = width
    tags[TiffImagePlugin.IMAGELENGTH] = height
    tags[TiffImagePlugin.BITSPERSAMPLE] = (16,) * channels
    tags[TiffImagePlugin.COMPRESSION] = 8  # Adobe deflate
    tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 2  # RGB
    tags[TiffImagePlugin.SAMPLESPERPIXEL] = channels
    tags[TiffImagePlugin.ROWSPERSTRIP] = height
    tags[TiffImagePlugin.STRIPBYTECOUNTS] = len(strip)
    tags[TiffImagePlugin.STRIPOFFSETS] = 0  # counted from the directory's end
    if channels == 4:
        tags[TiffImagePlugin.EXTRASAMPLES] = 2
    if profile is not None:
        tags.tagtype[TiffImagePlugin.ICCPROFILE] = 7  # bytes
        tags[TiffImagePlugin.ICCPROFILE] = profile
    buffer = io.BytesIO()
    tags.save(buffer)
    return buffer.getvalue() + strip


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingPackageError(
            "Colour photos of 16 bits a channel need OpenCV. "
            "Install it: pip install opencv-python-headless"
        ) from error
    return cv2
