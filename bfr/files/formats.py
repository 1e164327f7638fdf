"""The formats of photographs that are read and written."""

from __future__ import annotations

FORMATS = {
    ".avif": "AVIF",
    ".bmp": "BMP",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".jfif": "JPEG",
    ".jp2": "JPEG2000",
    ".jpe": "JPEG",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
"""Pillow's name of each format by the suffix, in lower case; what is read can be written."""

IMAGE_SUFFIXES = tuple(FORMATS)
"""The suffixes of the files that are read from folders and can be written."""

_READ_ONLY = ("GIF", "PPM", "TGA")  # only if a file is named
_RAW = """
    .3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mrw .nef .nrw .orf .pef .raf .raw .rw2
    .rwl .srw .x3f
"""
_OTHER = """
    .apng .avifs .dcx .dib .eps .exr .gif .hdr .heics .heifs .hif .j2c .j2k .jpc .jpf .jpx .jxl
    .jxr .mpo .pam .pbm .pcx .pdf .pgm .pict .pnm .ppm .psb .psd .svg .tga .wdp .xcf
"""
UNREAD_SUFFIXES = (*_RAW.split(), *_OTHER.split())
"""The suffixes of other pictures, which are named and left out."""


def decoders() -> list[str]:
    """Pillow's names of the formats that a file is read as, whatever its suffix.

    Others are left out because not all are plain pictures: EPS is drawn by Ghostscript, a program.
    """
    from PIL import Image

    Image.init()
    names = dict.fromkeys((*FORMATS.values(), *_READ_ONLY))
    return [name for name in names if name in Image.OPEN]
