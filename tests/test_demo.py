"""The demo, which is the first thing that anyone runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from samples import demo


def test_demo_finds_every_face_and_writes_its_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(demo, "KINDS", ["low resolution", "faded print"])
    target = tmp_path / "demo.png"
    demo.main(target)
    *told, path = capsys.readouterr().out.splitlines()
    count = len(demo.KINDS)
    assert path == str(target)
    for line, name in zip(told, demo.PHOTOGRAPHS, strict=True):
        found = re.fullmatch(rf"{name}: (\d+) faces in {count} damaged pictures", line)
        assert found and int(found[1]) >= count
    with Image.open(target) as picture:
        assert picture.width > 6 * demo.CELL and picture.height > count * demo.CELL
