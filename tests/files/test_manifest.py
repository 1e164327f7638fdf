"""The published weights that the package knows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.published.rule_weights import published_format
from bfr.files import manifest
from bfr.files.manifest import find, published


def test_manifest_is_sound():
    entries = published()
    assert len({entry.name for entry in entries}) == len(entries)
    assert len({entry.file for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.kind in ("detector", "restorer", "parser", "prior", "identity"), entry
        assert entry.url.startswith(("https://github.com/", "https://huggingface.co/")), entry
        assert entry.url.endswith("/" + entry.file), entry
        assert entry.licence, entry
        folders = ("facedetection", "facerestore_models", "face_priors", "insightface")
        assert entry.folder in folders, entry
        assert entry.sha256 is None or len(bytes.fromhex(entry.sha256)) == 32, entry


@pytest.mark.parametrize("file", ["swinir_gan_v1.pth", "iddpm_ffhq512_ema500000.pth"])
def test_manifest_agrees_with_the_recorded_formats(file: str):
    entry = next(entry for entry in published() if entry.file == file)
    assert entry.url == published_format(file)["url"]
    assert entry.licence == published_format(file)["licence"]


def test_find_takes_the_first_folder(tmp_path: Path):
    entry = published()[0]
    folders = [tmp_path / name for name in "abc"]
    assert find(entry, folders) is None
    for folder in folders[1:]:
        folder.mkdir()
        (folder / entry.file).touch()
    assert find(entry, folders) == folders[1] / entry.file


def test_cache_dir_follows_the_platform(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert manifest.cache_dir() == tmp_path / "face-restoration-tuner"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert manifest.cache_dir() == tmp_path / "local" / "face-restoration-tuner"
