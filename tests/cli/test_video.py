"""The command ``video``: a folder of frames, with stand-ins for the two networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bfr.cli import frames, main
from bfr.faces import retinaface
from bfr.files import manifest, photos
from bfr.files.photos import Photo
from bfr.records import FaceSet
from bfr.restore import follow, load, stages
from bfr.restore.restorer import Restorer
from tests.portraits import face_at

NAMES = ("frame 8.png", "frame 9.png", "frame 10.png", "frame 11.png")


@pytest.fixture(autouse=True)
def stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    """Networks that find a face but in black frames; tells the corners of what was looked at."""
    looked: list[float] = []

    def detect_faces(images: Tensor, detector: Any, **options: Any) -> FaceSet:
        looked.append(float(images[0, 0, 0, 0]))
        faces = (face_at(60, 50, 20),) if looked[-1] else ()
        return FaceSet((faces,), (images.shape[2], images.shape[3]))

    monkeypatch.setattr(manifest, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(retinaface, "load_detector", lambda path: nn.Identity())
    identity = Restorer(nn.Identity(), size=64)
    monkeypatch.setattr(load, "load_restorer", lambda path, **_: identity)
    monkeypatch.setattr(follow, "detect_faces", detect_faces)
    monkeypatch.setattr(stages, "restore_faces", lambda crops, restorer, **options: 1 - crops)
    return looked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four frames, each a little brighter than the last; the last is black."""
    folder = tmp_path / "frames"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 200, (96, 120, 3), np.uint8)
    for i, name in enumerate(NAMES):
        pixels[0, 0] = 10 + i
        Image.fromarray(pixels * (i < 3)).save(folder / name)
    return folder


def run(*words: object) -> int:
    return main.main([str(word) for word in words])


def read(path: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(path))).int()


def test_frames_are_restored_in_the_order_of_their_numbers(
    folder: Path, tmp_path: Path, stand: list[float], capsys: pytest.CaptureFixture[str]
):
    out, report = tmp_path / "out", tmp_path / "report.json"
    assert run("video", folder, "-o", out, "--report", report, "--chunk", 2) == 0
    assert [round(255 * value) for value in stand] == [10, 11, 12, 0]
    assert sorted(path.name for path in out.iterdir()) == sorted(NAMES)
    assert (out / NAMES[3]).read_bytes() == (folder / NAMES[3]).read_bytes()
    for name in NAMES[:3]:
        given, found = read(folder / name), read(out / name)
        assert (given - found)[40:60, 50:70].abs().max() > 10
        assert torch.equal(given[:8, :8], found[:8, :8])
    images = json.loads(report.read_text("utf-8"))["images"]
    assert [Path(image["path"]).name for image in images] == list(NAMES)
    assert [len(image["faces"]) for image in images] == [1, 1, 1, 0]
    (face,) = images[0]["faces"]
    assert face["person"] == 1 and 0 <= face["restored_share"] <= 1 and "identity_distance" in face
    assert "1 face followed" in capsys.readouterr().err


def test_a_person_needs_a_network_that_knows_people(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = ("-o", tmp_path / "out", "--recognizer", "none", "--person", folder / NAMES[0])
    assert run("video", folder, *options) == 2
    assert "recognition network" in capsys.readouterr().err


def test_no_frame_is_read_more_than_twice(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Once to find its faces, and once to restore them."""
    read: list[str] = []

    def read_photo(path: Path) -> Photo:
        read.append(path.name)
        return photos.read_photo(path)

    monkeypatch.setattr(frames, "read_photo", read_photo)
    options = ("-o", tmp_path / "out", "--recognizer", "none", "--chunk", 2)
    assert run("video", folder, *options) == 0
    assert sorted(read) == sorted(2 * NAMES)


def test_chunks_do_not_change_the_files(folder: Path, tmp_path: Path):
    for chunk in (1, 16):
        assert run("video", folder, "-o", tmp_path / str(chunk), "--chunk", chunk) == 0
    for name in NAMES:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "16" / name).read_bytes()


def test_results_that_exist_are_not_replaced(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    out.mkdir()
    (out / NAMES[0]).write_bytes(b"mine")
    assert run("video", folder, "-o", out) == 2
    assert "must not exist" in capsys.readouterr().err
    assert run("video", folder, "-o", out, "--existing", "skip") == 0
    assert (out / NAMES[0]).read_bytes() == b"mine" and (out / NAMES[1]).exists()


def test_a_result_that_somebody_else_makes_meanwhile_is_theirs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    out, real = tmp_path / "out", frames.find_tracks

    def find_tracks(*words: Any) -> Any:
        (out / NAMES[2]).write_bytes(b"theirs")
        return real(*words)

    monkeypatch.setattr(frames, "find_tracks", find_tracks)
    assert run("video", folder, "-o", out) == 2
    assert "meanwhile" in capsys.readouterr().err
    assert (out / NAMES[1]).exists() and (out / NAMES[2]).read_bytes() == b"theirs"


def test_frames_of_another_size_stop_the_clip(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    Image.new("RGB", (64, 64)).save(folder / NAMES[2])
    assert run("video", folder, "-o", tmp_path / "out") == 2
    assert "got 64×64 pixels in frame 2" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())
