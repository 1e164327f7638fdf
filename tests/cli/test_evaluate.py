"""The command ``evaluate``: which files are compared, what is told, and what is written."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from bfr.cli import main
from bfr.faces import retinaface
from bfr.files.photos import Photo, read_photo
from bfr.files.writing import write_photo
from bfr.quality import face_batch, folders, measure, metrics, perceptual, tables
from bfr.quality.likeness import psnr
from bfr.quality.pyiqa_scores import Score
from bfr.records import FaceSet
from tests.finetune_sets import faces
from tests.portraits import face_at


@pytest.fixture(autouse=True)
def stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for what takes its time."""
    monkeypatch.setattr(metrics, "niqe", lambda images: images.double().mean((1, 2, 3)))
    monkeypatch.setattr(
        face_batch, "find_landmarks", lambda images, _: images[:, 0, :5, :2].double()
    )
    monkeypatch.setattr(retinaface, "load_detector", lambda path: torch.nn.Linear(1, 1))


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """Folders of three faces: clean, damaged, restored badly and well."""
    clean = faces(3, size=64)
    for name, images in (
        ("clean", clean),
        ("damaged", clean * 0.5),
        ("base", clean * 0.7),
        ("tuned", clean * 0.95),
    ):
        (tmp_path / name / "more").mkdir(parents=True)
        for place, image in zip(("a", "b", "more/c"), images, strict=True):
            write_photo(tmp_path / name / f"{place}.png", Photo(image[None]))
    return tmp_path


def run(*words: object) -> int:
    try:
        return main.main(["evaluate", *map(str, words), "--device", "cpu"])
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


def test_base_against_tuned(sets: Path, capsys: pytest.CaptureFixture[str]):
    beside = ["--reference", sets / "clean", "--input", sets / "damaged", "--distance", "pyramid"]
    files = {kind: sets / f"result.{kind}" for kind in ("csv", "json", "markdown")}
    words = [word for kind, path in files.items() for word in (f"--{kind}", path)]
    assert run(sets / "base", sets / "tuned", *beside, *words, "--plot", sets / "bars.png") == 0
    told = capsys.readouterr()
    head, *rows = told.out.splitlines()
    assert head.split() == ["better", "is", "base", "tuned", "faces", "better"]
    assert [row.split("  ")[0] for row in rows[:8]] == [
        "PSNR, dB",
        "SSIM",
        f"{perceptual.PYRAMID_NAME} distance",
        "likeness to the input, dB",
        "landmarks off the reference's, %",
        "identity, distance to the reference",
        "NIQE",
        "sharpness",
    ]
    assert rows[0].endswith("3 of 3") and "*" in rows[0].split()[-4]
    assert "tuned is better in" in told.out and "3 of 3 files measured" in told.err

    with files["csv"].open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["folder"], line["face"]) for line in lines] == [
        (folder, face) for folder in ("base", "tuned") for face in ("a", "b", "more/c")
    ]
    pixels = [read_photo(sets / folder / "b.png").pixels for folder in ("tuned", "clean")]
    assert float(lines[4]["psnr"]) == pytest.approx(psnr(*pixels).item(), rel=1e-5)
    found = json.loads(files["json"].read_text(encoding="utf-8"))
    assert (
        found["figures"]["psnr"]["best"] == "tuned" and len(found["folders"]["base"]["faces"]) == 3
    )
    assert (
        files["markdown"].read_text(encoding="utf-8").startswith("|  | better is | base | tuned |")
    )
    with Image.open(sets / "bars.png") as image:
        assert image.width > 500


def test_one_folder_alone(sets: Path, capsys: pytest.CaptureFixture[str]):
    assert run(sets / "base") == 0
    told = capsys.readouterr().out
    assert [line.split()[0] for line in told.splitlines()[1:]] == ["NIQE", "sharpness"]
    assert run(sets / "base", "--input", sets / "damaged", "--no-landmarks") == 0
    assert "landmarks" not in capsys.readouterr().out


def test_faces_that_not_all_folders_have_are_told(sets: Path, capsys: pytest.CaptureFixture[str]):
    (sets / "tuned" / "b.png").unlink()
    (sets / "base" / "more" / "c.png").write_bytes(b"\x89PNG")
    (sets / "clean" / "a.png").rename(sets / "clean" / "a.bmp")  # Pillow goes by the content
    assert run(sets / "base", sets / "tuned", "--reference", sets / "clean") == 1
    told = capsys.readouterr().err
    assert "b: left out: tuned lacks it" in told and "more/c: left out" in told
    assert "2 files were left out" in told and "Traceback" not in told
    (sets / "clean" / "b.png").unlink()
    assert run(sets / "base", "--reference", sets / "clean") == 1
    assert "b: left out: the reference lacks it" in capsys.readouterr().err


def test_faces_of_several_sizes(sets: Path, monkeypatch: pytest.MonkeyPatch):
    """Each is measured at its own size; and not too many are read at once."""
    write_photo(sets / "base" / "b.png", Photo(faces(1, size=32)))
    seen: list[tuple[int, ...]] = []
    real = folders.measure_sets

    def measure_sets(restored: dict[str, Tensor], **options: Any) -> dict[str, tables.Table]:
        seen.append(tuple(next(iter(restored.values())).shape))
        return real(restored, **options)

    monkeypatch.setattr(folders, "measure_sets", measure_sets)
    assert run(sets / "base", "--json", sets / "result.json") == 0
    assert [(shape[0], shape[-1]) for shape in seen] == [(1, 64), (1, 32), (1, 64)]
    assert list(json.loads((sets / "result.json").read_text())["folders"]["base"]["faces"]) == [
        "a",
        "b",
        "more/c",
    ]
    seen.clear()
    monkeypatch.setattr(folders, "AT_ONCE", 2)
    assert run(sets / "tuned") == 0
    assert [shape[0] for shape in seen] == [2, 1]
    assert run(sets / "base", "--reference", sets / "clean") == 1


def test_whole_photographs(
    sets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The faces of the reference are looked for, and cut out of all folders alike."""
    searched: list[Tensor] = []

    def detect_faces(images: Tensor, detector: Any) -> FaceSet:
        searched.append(images)
        count = (2, 0, 1)[len(searched) - 1]
        found = [face_at(40.0 + 20 * n, 40.0, 22.0, 5.0) for n in range(count)]
        return FaceSet((tuple(found),), (images.shape[2], images.shape[3]))

    monkeypatch.setattr(folders, "detect_faces", detect_faces)
    for folder in ("base", "clean"):
        for name in ("a", "b", "more/c"):
            pixels = read_photo(sets / folder / f"{name}.png").pixels
            wide = torch.nn.functional.interpolate(pixels, (90, 130))
            write_photo(sets / folder / f"{name}.png", Photo(wide))
    words = [sets / "base", "--reference", sets / "clean", "--json", sets / "result.json"]
    assert run(*words) == 2
    assert "choose --align" in capsys.readouterr().err
    assert run(*words, "--align", "--size", "48") == 1
    told = capsys.readouterr().err
    assert "b: left out: the reference must show a face" in told
    assert torch.equal(searched[0], read_photo(sets / "clean" / "a.png").pixels)
    found = json.loads((sets / "result.json").read_text())["folders"]["base"]["faces"]
    assert list(found) == ["a#1", "a#2", "more/c"]


def test_scores_of_pyiqa(sets: Path, monkeypatch: pytest.MonkeyPatch):
    def load_score(name: str, device: Any) -> Score:
        return Score(name, False, False, True, lambda images, _: images.mean()[None])

    monkeypatch.setattr(measure, "load_score", load_score)
    words = [sets / "base", "--json", sets / "result.json", "--extra", "fid"]
    assert run(*words) == 0
    assert "pyiqa_fid" in json.loads((sets / "result.json").read_text())["figures"]
    write_photo(sets / "base" / "b.png", Photo(faces(1, size=32)))
    assert run(*words) == 2


def test_folders_of_one_name(sets: Path, capsys: pytest.CaptureFixture[str]):
    (sets / "other").mkdir()
    (sets / "tuned").rename(sets / "other" / "base")
    assert run(sets / "base", sets / "other" / "base") == 0
    assert str(sets / "other" / "base") in capsys.readouterr().out


def test_bad_usage(sets: Path, capsys: pytest.CaptureFixture[str]):
    (sets / "empty").mkdir()
    base = sets / "base"
    (sets / "alien").mkdir()
    write_photo(sets / "alien" / "x.png", Photo(faces(1)))
    (sets / "twice").mkdir()
    for name in ("x.png", "x.bmp"):
        write_photo(sets / "twice" / name, Photo(faces(1)))
    cases: list[list[object]] = [
        [],
        [sets / "absent"],
        [sets / "empty"],
        [base, base],
        [base, "--reference", sets / "alien"],
        [sets / "twice"],
        [base, "--csv", sets / "absent" / "result.csv"],
        [base, "--extra", "fid"],
        [base, "--distance", "magic"],
        [base, "--reference", sets / "clean", "--distance", "lpips"],
        [base, "--plot", sets / "bars.gif"],
    ]
    for words in cases:
        assert run(*words) == 2, words
        told = capsys.readouterr().err
        assert told.strip() and "Traceback" not in told, words
