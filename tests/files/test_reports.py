"""Reports and drawings never take the place of a picture or an input."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from bfr.errors import InputError, OutputError
from bfr.files.formats import FORMATS, UNREAD_SUFFIXES
from bfr.files.reports import check_drawing, check_report, write_drawing, write_text

PICTURE = torch.full((1, 3, 4, 5), 0.5)


@pytest.mark.parametrize("suffix", [*FORMATS, ".JPG", *UNREAD_SUFFIXES[:3], ".gif", ".mp4", ".psd"])
def test_a_report_has_no_pictures_name_even_if_the_file_is_new(tmp_path: Path, suffix: str):
    with pytest.raises(InputError, match="photo"):
        write_text(tmp_path / f"photo{suffix}", "{}")
    assert not any(tmp_path.iterdir())


def test_a_report_replaces_only_text_that_is_no_input(tmp_path: Path):
    path = tmp_path / "report"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    with pytest.raises(InputError, match="report"):
        write_text(path, "{}")
    assert path.read_bytes().startswith(b"\x89PNG")
    path.write_text("é" * 4000, encoding="utf-8")
    with pytest.raises(InputError, match="report"):
        write_text(path, "{}", [tmp_path / "gone", path])
    write_text(path, "{}")
    assert path.read_text() == "{}"
    with pytest.raises(InputError):
        check_report(tmp_path)
    with pytest.raises(OutputError, match="nowhere"):
        check_report(tmp_path / "nowhere" / "report.json")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_drawing_replaces_only_an_earlier_drawing(tmp_path: Path, suffix: str):
    path = tmp_path / f"sheet{suffix}"
    Image.new("RGB", (3, 3)).save(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="sheet"):
        write_drawing(path, PICTURE)
    assert path.read_bytes() == before
    path.unlink()
    write_drawing(path, PICTURE)
    write_drawing(path, torch.zeros(1, 3, 8, 8))
    with Image.open(path) as image:
        assert image.size == (8, 8)


def test_a_drawing_needs_a_format_that_can_be_drawn(tmp_path: Path):
    for name in ("sheet.json", "sheet", "sheet.bmp"):
        with pytest.raises(InputError):
            check_drawing(tmp_path / name)


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG, which claims a size."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def test_a_drawing_does_not_replace_a_picture_too_large_to_look_at(tmp_path: Path):
    path = tmp_path / "sheet.png"
    path.write_bytes(png_header(50_000, 50_000) + struct.pack(">I", 4) + b"IDAT" + bytes(8))
    with pytest.raises(InputError, match="sheet"):
        check_drawing(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes")
@pytest.mark.parametrize(("check", "name"), [(check_report, "r.json"), (check_drawing, "s.png")])
def test_pipes_and_devices_are_neither_replaced_nor_waited_for(
    tmp_path: Path, check: Callable[[Path], None], name: str
):
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="pipe"):
        check(tmp_path / name)
    (tmp_path / f"link{name}").symlink_to(os.devnull)
    with pytest.raises(InputError, match="device"):
        check(tmp_path / f"link{name}")
