"""The demo, which is the first thing that anyone runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from samples import demo


def test_demo_finds_every_face_and_writes_its_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    target = tmp_path / "demo.png"
    demo.main(target)
    told = capsys.readouterr().out.splitlines()
    count = len(demo.KINDS)
    assert told == [
        *(f"{name}: {count} faces in {count} damaged pictures" for name in demo.PHOTOGRAPHS),
        str(target),
    ]
    with Image.open(target) as picture:
        assert picture.width > 6 * demo.CELL and picture.height > count * demo.CELL
