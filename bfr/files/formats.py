"""The formats of photographs that are read and written."""

from __future__ import annotations

FORMATS = {
    ".bmp": "BMP",
    ".jfif": "JPEG",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
IMAGE_SUFFIXES = tuple(FORMATS)
"""The suffixes, in lower case, of the files that are read from folders and can be written."""
