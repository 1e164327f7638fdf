"""``import bfr``: the public names, lazily, and the example of the README."""

from __future__ import annotations

import contextlib
import pickle
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import bfr
from bfr import errors


def test_every_public_name_has_its_place():
    assert len(set(bfr.__all__)) == len(bfr.__all__)
    assert set(bfr.__all__) == set(bfr.PLACES) <= set(dir(bfr))


@pytest.mark.parametrize("name", bfr.__all__)
def test_every_public_name_is_there_and_documented(name: str):
    assert (getattr(bfr, name).__doc__ or "").strip()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="restore_fotograf"):
        bfr.restore_fotograf  # noqa: B018


def test_import_alone_loads_nothing(root: Path):
    code = "import sys, bfr; print({'torch', 'numpy', 'PIL', 'kornia'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert run.stdout.strip() == "set()", run.stderr


def test_the_example_of_the_readme_runs(root: Path, tmp_path: Path):
    """The section "As a library", with its photographs damaged samples of ours."""
    section = (root / "README.md").read_text(encoding="utf-8").split("## As a library")[1]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[:1]
    (tmp_path / "scan.jpg").write_bytes((root / "samples/eileen_collins.jpg").read_bytes())
    (tmp_path / "example.py").write_text(code)
    with contextlib.chdir(tmp_path):
        runpy.run_path("example.py")
    assert (tmp_path / "restored.png").stat().st_size > 10_000


def test_errors_have_a_short_name_and_pass_between_processes():
    for kind in (bfr.FaceRestorationError, *bfr.FaceRestorationError.__subclasses__()):
        if kind.__name__ in vars(errors):
            assert kind.__module__ == "bfr"
            assert isinstance(pickle.loads(pickle.dumps(kind("why"))), kind)
    with pytest.raises(AttributeError):
        _ = bfr.NoSuchError
