"""Photographs of 16 bits per channel, which Pillow neither reads nor writes in colour."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from ..errors import ImageError
from ..image.opencv import load_opencv

_NEED = "Colour photos of 16 bits per channel"

# Tags of TIFF 6.0
_BITS = 258
_COMPRESSION, _STRIPS, _SAMPLES, _STRIP_BYTES, _PLANAR = 259, 273, 277, 279, 284
_PREDICTOR, _EXTRA = 317, 338
_PLAIN, _DEFLATED = (1,), (8, 32946)
_ASSOCIATED = 1  # the kind of an extra sample: alpha, with which the colours are multiplied


def decode_16_bit(image: Image.Image, path: Path) -> np.ndarray:
    """The pixels of an image whose head Pillow has read.

    Returns:
        H×W×3 RGB or H×W×4 RGBA uint16; alpha is straight.

    Raises:
        ImageError: if they cannot be read at 16 bits.
        MissingPackageError: if OpenCV is not installed.
    """
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    if stores_planes_of_16_bits(image):
        array = _decode_planes(image, tags, path)
    else:
        array = load_opencv(_NEED).imdecode(np.fromfile(path, np.uint8), -1)  # -1: as in it
        if array is None or array.dtype != np.uint16 or array.ndim != 3:
            raise ImageError(
                f"{path} must be readable at 16 bits, got an unusual layout. Save it with 8 bits "
                "per channel."
            )
        array[..., 0], array[..., 2] = array[..., 2], array[..., 0].copy()  # BGR to RGB
    if array.shape[2] == 4 and _ASSOCIATED in tuple(tags.get(_EXTRA, ())):
        return _straight(array)
    return array


def stores_planes_of_16_bits(image: Image.Image) -> bool:
    """True for a colour TIFF that stores one channel of 16 bits after the other."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, ())
    return tags.get(_PLANAR) == 2 and len(bits) > 2 and set(bits) == {16}


def _decode_planes(image: Image.Image, tags: Mapping[int, Any], path: Path) -> np.ndarray:
    """The pixels of a TIFF that stores planes, which Pillow and OpenCV mix up."""
    width, height, channels = image.width, image.height, int(tags.get(_SAMPLES, 1))
    compression = tags.get(_COMPRESSION, 1)
    if _STRIPS not in tags or channels not in (3, 4) or compression not in _PLAIN + _DEFLATED:
        raise ImageError(
            f"{path} must hold its channels pixel by pixel, got one after the other, packed by "
            f"method {compression}. Save it again with interleaved channels."
        )
    plane = height * width * 2
    data = bytearray()
    with path.open("rb") as file:
        for offset, length in zip(tags[_STRIPS], tags[_STRIP_BYTES], strict=True):
            if len(data) > plane * channels:  # strips may all name the same bytes
                break
            file.seek(offset)
            strip = file.read(min(length, 2 * plane + 1024))  # packed noise is hardly longer
            if compression in _DEFLATED:
                strip = zlib.decompressobj().decompress(strip, plane)  # never more than a plane
            data += strip
    if len(data) != plane * channels:
        raise ImageError(
            f"{path} must hold {plane * channels} bytes of pixels, got {len(data)} or more. Copy "
            "it again."
        )
    order = ">" if getattr(image, "tag_v2").prefix == b"MM" else "<"  # noqa: B009
    planes = np.frombuffer(data, f"{order}u2").astype(np.uint16)
    planes = planes.reshape(channels, height, width)
    if tags.get(_PREDICTOR) == 2:  # differences from the pixel to the left
        planes = np.cumsum(planes, axis=2, dtype=np.uint16)
    return planes.transpose(1, 2, 0)


def _straight(array: np.ndarray) -> np.ndarray:
    """Divides colours by the alpha that they were multiplied by; where it is 0 they stay."""
    alpha = array[..., 3:].astype(np.float64)
    colours = array[..., :3] * (65535 / np.where(alpha > 0, alpha, 65535))
    return np.concatenate([colours.round().clip(0, 65535).astype(np.uint16), array[..., 3:]], -1)


def encode_png(array: np.ndarray, profile: bytes | None, chunks: Mapping[bytes, bytes]) -> bytes:
    """A PNG of an H×W×3 or H×W×4 uint16 array, with further chunks before the pixels."""
    done, data = load_opencv(_NEED).imencode(".png", array[..., [2, 1, 0, 3][: array.shape[2]]])
    if not done:
        raise ValueError("16-bit PNG failed")
    png = data.tobytes()
    if profile is not None:
        chunks = {b"iCCP": b"ICC profile\0\0" + zlib.compress(profile), **chunks}
    header = 33  # the signature and the IHDR chunk, which comes first
    extra = b"".join(_chunk(kind, body) for kind, body in chunks.items())
    return png[:header] + extra + png[header:]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def encode_tiff(array: np.ndarray, profile: bytes | None, dpi: tuple[float, float] | None) -> bytes:
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
    if dpi is not None:
        tags[TiffImagePlugin.RESOLUTION_UNIT] = 2  # inches
        tags[TiffImagePlugin.X_RESOLUTION], tags[TiffImagePlugin.Y_RESOLUTION] = dpi
    if profile is not None:
        tags.tagtype[TiffImagePlugin.ICCPROFILE] = 7  # bytes
        tags[TiffImagePlugin.ICCPROFILE] = profile
    buffer = io.BytesIO()
    tags.save(buffer)
    return buffer.getvalue() + strip
