"""The command line: words, exit codes, files and reports."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch import Tensor, nn

from bfr.cli import main, restoring
from bfr.cli.arguments import pick_device
from bfr.errors import CorruptWeightsError, DownloadError
from bfr.faces import detect, parsing, retinaface
from bfr.faces import identity as faces_identity
from bfr.faces import occlusion as faces_occlusion
from bfr.faces import person as faces_person
from bfr.faces.person import Resemblance
from bfr.files import downloads, manifest
from bfr.records import Face, FaceSet
from bfr.restore import load, photo_file
from bfr.restore import photo as pipeline
from bfr.restore.keep_person import KeptPeople
from bfr.restore.restorer import Restorer
from bfr.restore.settings import RestoreSettings

FACE = Face(
    box=(30.0, 25.0, 80.0, 90.0),
    score=0.9,
    landmarks=((43.0, 50.0), (67.0, 51.0), (55.0, 64.0), (45.0, 76.0), (65.0, 76.5)),
)


class Named(nn.Identity):
    """A network that knows what it was loaded for."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name


@dataclass
class Stand:
    """Stand-ins for the networks; a picture whose first pixel is black has no face."""

    settings: RestoreSettings | None = None
    identity: Any = None
    occlusion: Any = None
    parser: Any = None
    person: Any = None


@pytest.fixture(autouse=True)
def stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stand:
    stand = Stand()

    def detect_faces(images: Tensor, detector: Any, **options: Any) -> FaceSet:
        faces = tuple((FACE,) if image[:, 0, 0].any() else () for image in images)
        return FaceSet(faces, (images.shape[2], images.shape[3]))

    def restore_photo(
        images: Tensor, detector: Any, restorer: Any, settings: Any, parser: Any, **more: Any
    ) -> pipeline.RestoredPhoto:
        stand.settings, stand.parser = settings, parser
        stand.identity, stand.occlusion = more["identity"], more["occlusion"]
        stand.person = more["person"]
        faces = detect_faces(images, detector)
        pasted = images.clone()
        pasted[..., 40:60, 40:60] = 1 - pasted[..., 40:60, 40:60]
        nothing: Any = None
        none = pipeline.no_faces(faces)
        found = Resemblance(((0.5,) * faces.count,), ((),)) if stand.person else None
        people = KeptPeople(images[:0], (0.75,) * faces.count, (0.25,) * faces.count)
        return pipeline.RestoredPhoto(
            pasted, nothing, faces, nothing, nothing, 1, none, people, (0.125,) * faces.count, found
        )

    monkeypatch.setattr(manifest, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(retinaface, "load_detector", lambda path: nn.Identity())
    monkeypatch.setattr(detect, "detect_faces", detect_faces)
    monkeypatch.setattr(load, "load_restorer", lambda path, **_: Restorer(nn.Identity()))
    monkeypatch.setattr(faces_identity, "load_identity", lambda path: nn.Identity())
    monkeypatch.setattr(faces_occlusion, "load_occlusion", lambda path: nn.Identity())
    monkeypatch.setattr(parsing, "load_parser", lambda path, region: Named(region))
    monkeypatch.setattr(photo_file, "restore_photo", restore_photo)
    return stand


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a JPEG, a PNG in a sub-folder, and a picture without a face."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(1, 256, (120, 160, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "a.jpg")
    Image.fromarray(pixels).save(folder / "more" / "b.png")
    Image.fromarray(pixels * 0).save(folder / "none.jpg", quality=75)
    return folder


def run(*words: object) -> int:
    """The exit code of a command, argparse's included."""
    try:
        return main.main([str(word) for word in words])
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


def entries(report: Path) -> list[dict[str, Any]]:
    return json.loads(report.read_text(encoding="utf-8"))["images"]


def test_restores_a_folder(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, report = tmp_path / "out", tmp_path / "report.json"
    before = {path: path.read_bytes() for path in photos.rglob("*.*")}
    assert run("restore", photos, "-o", out, "--report", report) == 0
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
    assert names == ["a.jpg", "more/b.png", "none.jpg"]
    assert {path: path.read_bytes() for path in photos.rglob("*.*")} == before
    begun, precision, *told = capsys.readouterr().err.splitlines()
    assert "3 photographs" in begun, "said before anything heavy is imported"
    assert "float32" in precision
    begins = [
        f"[1/3] {photos / 'a.jpg'}: 1 face restored",
        f"[2/3] {photos / 'more' / 'b.png'}: 1 face restored",
        f"[3/3] {photos / 'none.jpg'}: no face found",
    ]
    assert all(line.startswith(begin) for line, begin in zip(told, begins, strict=True))
    found = entries(report)
    assert [entry["path"] for entry in found] == [str(path) for path in sorted(before)]
    assert [len(entry["faces"]) for entry in found] == [1, 1, 0]
    assert found[0]["faces"][0]["box"] == list(FACE.box)
    assert found[0]["faces"][0]["landmarks"] == [list(point) for point in FACE.landmarks]


def test_a_photograph_without_faces_is_copied_byte_for_byte(photos: Path, tmp_path: Path):
    assert run("restore", photos / "none.jpg", "-o", tmp_path / "out") == 0
    result = tmp_path / "out" / "none.jpg"
    assert result.read_bytes() == (photos / "none.jpg").read_bytes()


def test_format_depth_profile_and_alpha_are_kept(tmp_path: Path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    generator = np.random.default_rng(0)
    rgba = generator.integers(1, 256, (120, 160, 4), np.uint8)
    Image.fromarray(rgba).save(tmp_path / "rgba.png", icc_profile=profile)
    deep = generator.integers(1, 65536, (120, 160), np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    out = tmp_path / "out"
    assert run("restore", tmp_path / "rgba.png", tmp_path / "deep.tif", "-o", out) == 0
    with Image.open(out / "rgba.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGBA", (160, 120))
        assert image.info["icc_profile"] == profile
        result = np.asarray(image)
    outside = np.ones((120, 160), bool)
    outside[40:60, 40:60] = False
    assert (result[outside] == rgba[outside]).all()
    assert (result[..., 3] == rgba[..., 3]).all()
    with Image.open(out / "deep.tif") as image:
        assert image.format == "TIFF" and image.mode == "I;16"
        result = np.asarray(image)
    assert (result[outside] == deep[outside]).all()
    assert (result[~outside] == 65535 - deep[~outside]).all()


def test_settings_of_the_words(photos: Path, tmp_path: Path, stand: Stand):
    words = "--score .7 --min-size 20 --fidelity .2 --strength .4 --lock .3 --colour lab"
    words += " --mask oval --feather .2 --batch-size 3 --enlarge 2 --grain .3 --doubtful"
    words += " --background .6 --faces 1 --numbering rows"
    assert run("restore", photos / "a.jpg", "-o", tmp_path / "out", *words.split()) == 0
    assert stand.settings == RestoreSettings(
        score=0.7,
        min_size=20,
        fidelity=0.2,
        strength=0.4,
        lock=0.3,
        colour="lab",
        mask="soft oval",
        feather=0.2,
        batch_size=3,
        enlarge=2,
        grain=0.3,
        doubtful=True,
        background=0.6,
        numbers=(1,),
        numbering="rows",
    )


def test_scratches_are_repaired_under_their_masks(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    """A photograph with a mask gets it; one without is restored as it is."""
    seen: list[int] = []

    def repair(images: Tensor, masks: Tensor, *_: Any) -> Tensor:
        seen.append(int(masks.sum()))
        return images

    monkeypatch.setattr(photo_file, "repair_scratches", repair)
    masks = tmp_path / "masks"
    (masks / "more").mkdir(parents=True)
    Image.fromarray(np.eye(120, 160, dtype=np.uint8) * 255).save(masks / "more" / "b.png")
    words = ("restore", photos, "--scratches")
    assert run(*words, masks, "-o", tmp_path / "out") == 0
    assert seen == [120]
    assert run(*words, masks / "more" / "b.png", "-o", tmp_path / "other") == 2
    assert "folder of masks" in capsys.readouterr().err
    assert run(*words, tmp_path / "none", "-o", tmp_path / "other") == 2
    assert not (tmp_path / "other").exists()


def test_only_whole_enlargements_are_taken(capsys: pytest.CaptureFixture[str]):
    for wrong in ("3", "0", "big"):
        with pytest.raises(SystemExit):
            main.build_parser().parse_args(["restore", "a", "-o", "b", "--enlarge", wrong])
        assert wrong in capsys.readouterr().err


def test_defaults_are_the_chains():
    options = main.build_parser().parse_args(["restore", "a.jpg", "-o", "out"])
    ours = RestoreSettings()
    for field in fields(RestoreSettings):
        if field.name in ("colour", "mask"):
            names = restoring.COLOUR_WORDS if field.name == "colour" else restoring.MASK_WORDS
            assert names[getattr(options, field.name)] == getattr(ours, field.name)
        elif field.name == "numbers":
            assert options.faces is None
        elif field.name not in ("crop_size", "seed", "enlarge", "grain", "doubtful"):
            assert getattr(options, field.name) == getattr(ours, field.name)
    assert (options.enlarge, options.grain, options.doubtful) == ("auto", 0.5, False)
    options = main.build_parser().parse_args(["video", "a.jpg", "-o", "out"])
    assert options.enlarge == 1, "a clip keeps its size"


def test_damaged_images_fail_alone(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = (photos / "a.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(data[: len(data) // 2])
    (photos / "empty.png").write_bytes(b"")
    out, report = tmp_path / "out", tmp_path / "report.json"
    assert run("restore", photos, "-o", out, "--report", report) == 1
    told = capsys.readouterr().err
    assert "cut.jpg: failed" in told and "empty.png: failed" in told
    assert "Traceback" not in told
    assert sorted(path.name for path in out.rglob("*.*")) == ["a.jpg", "b.png", "none.jpg"]
    assert [bool(entry["error"]) for entry in entries(report)] == [False, True, True, False, False]


def test_the_person_is_kept_and_reported(photos: Path, tmp_path: Path, stand: Stand):
    report = tmp_path / "report.json"
    words = ("restore", photos, "-o", tmp_path / "out", "--report", report)
    assert run(*words, "--keep-person", "0.8") == 0
    assert stand.settings and stand.settings.keep_person == 0.8 and stand.identity is not None
    (face,) = entries(report)[0]["faces"]
    assert face["identity_distance"] == 0.25 and face["restored_share"] == 0.75
    assert run(*words, "--existing", "overwrite", "--identity", "none") == 0
    assert stand.identity is None
    assert run(*words, "--existing", "overwrite", "--identity", "absent") == 2
    assert run(*words, "--keep-person", "2") == 2


def test_one_person_is_restored_and_reported(
    photos: Path, tmp_path: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(faces_person, "embed_person", lambda pixels, *_: pixels.mean((2, 3)))
    report, who = tmp_path / "report.json", (photos / "a.jpg", photos / "more" / "b.png")
    words = ("restore", photos, "-o", tmp_path / "out", "--report", report)
    assert run(*words, "--person-limit", "0.7", "--person", *who) == 0
    assert stand.person.photographs.shape == (2, 3) and stand.person.limit == 0.7
    (face,) = entries(report)[0]["faces"]
    assert face["person_distance"] == 0.5
    again = (*words, "--existing", "overwrite")
    assert run(*again) == 0 and stand.person is None
    assert "person_distance" not in entries(report)[0]["faces"][0]
    assert run(*again, "--recognizer", "none", "--person", who[0]) == 2
    assert run(*again, "--person", tmp_path / "absent.jpg") == 2


def test_what_is_in_front_is_kept_and_reported(photos: Path, tmp_path: Path, stand: Stand):
    report = tmp_path / "report.json"
    words = ("restore", photos, "-o", tmp_path / "out", "--report", report)
    assert run(*words, "--occlusion", "embedded") == 0 and stand.occlusion is not None
    (face,) = entries(report)[0]["faces"]
    assert face["covered_share"] == 0.125
    assert run(*words, "--existing", "overwrite") == 0
    assert stand.occlusion is None, "nothing is kept unless one asks for it"
    assert run(*words, "--existing", "overwrite", "--occlusion", "absent.onnx") == 2


def test_an_unexpected_error_fails_alone(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    real = photo_file.restore_photo

    def restore_photo(images: Tensor, *rest: Any, **more: Any) -> pipeline.RestoredPhoto:
        if not images.any():
            raise ZeroDivisionError("a bug")
        return real(images, *rest, **more)

    monkeypatch.setattr(photo_file, "restore_photo", restore_photo)
    assert run("restore", photos, "-o", tmp_path / "out") == 1
    told = capsys.readouterr().err
    assert "none.jpg: failed unexpectedly: ZeroDivisionError: a bug" in told
    assert "Traceback" not in told
    assert not (tmp_path / "out" / "none.jpg").exists()
    assert (tmp_path / "out" / "more" / "b.png").exists()


@pytest.mark.parametrize("existing", ["refuse", "overwrite"])
def test_a_result_that_somebody_else_makes_meanwhile_is_theirs(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    existing: str,
):
    real, out = photo_file.restore_photo, tmp_path / "out"

    def restore_photo(*images: Any, **more: Any) -> pipeline.RestoredPhoto:
        if not (out / "none.jpg").exists():
            for name in ("a.jpg", "none.jpg"):
                (out / name).write_bytes(b"theirs")
        return real(*images, **more)

    monkeypatch.setattr(photo_file, "restore_photo", restore_photo)
    words = ("restore", photos, "-o", out, "--existing", existing, "--at-once", 1)
    refused = existing == "refuse"
    assert run(*words) == (1 if refused else 0)
    assert ("meanwhile" in capsys.readouterr().err) == refused
    for name in ("a.jpg", "none.jpg"):
        assert ((out / name).read_bytes() == b"theirs") == refused
    assert (out / "more" / "b.png").exists(), "the others are made"


def test_interrupting_keeps_what_is_done(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real, seen = photo_file.restore_photo, []

    def restore_photo(images: Tensor, *rest: Any, **more: Any) -> pipeline.RestoredPhoto:
        if seen:
            raise KeyboardInterrupt
        seen.append(images)
        return real(images, *rest, **more)

    monkeypatch.setattr(photo_file, "restore_photo", restore_photo)
    out, report = tmp_path / "out", tmp_path / "report.json"
    assert run("restore", photos, "-o", out, "--report", report, "--at-once", 1) == 130
    assert [path.name for path in out.rglob("*.*")] == ["a.jpg"]
    assert len(entries(report)) == 1
    assert run("restore", photos, "-o", out) == 2, "results that exist are not replaced unasked"
    monkeypatch.setattr(photo_file, "restore_photo", real)
    assert run("restore", photos, "-o", out, "--existing", "skip", "--report", report) == 0
    assert len(entries(report)) == 3, "those of the interrupted run stay"


def test_bad_usage(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    cases: list[list[object]] = [
        [],
        ["repair", photos],
        ["restore", photos],
        ["restore", "-o", out],
        ["restore", tmp_path / "absent.jpg", "-o", out],
        ["restore", tmp_path / "empty", "-o", out],
        ["restore", photos, "-o", photos],
        ["restore", photos / "a.jpg", "-o", photos],
        ["restore", photos / "a.jpg", "-o", tmp_path / "file"],
        ["restore", photos, "-o", out, "--strength", "1.5"],
        ["restore", photos, "-o", out, "--feather", "0.6"],
        ["restore", photos, "-o", out, "--batch-size", "0"],
        ["restore", photos, "-o", out, "--fidelity", "high"],
        ["restore", photos, "-o", out, "--mask", "circle"],
        ["restore", photos, "-o", out, "--mask", "parsing"],
        ["restore", photos, "-o", out, "--restorer", "no-such-restorer"],
        ["restore", photos, "-o", out, "--device", "toaster"],
        ["restore", photos, "-o", out, "--report", tmp_path / "absent" / "report.json"],
        ["restore", photos, "-o", out, "--report", photos / "a.jpg"],
        ["restore", photos, "-o", out, "--report", out / "new.jpg"],
        ["detect"],
        ["detect", photos, "--detector", "no-such-detector"],
        ["models", "upload"],
        ["models", "download"],
        ["models", "download", "no-such-weights"],
    ]
    for words in cases:
        assert run(*words) == 2, words
        told = capsys.readouterr().err
        assert told.strip() and "Traceback" not in told, words
    assert not list(out.rglob("*.*")) if out.exists() else True


def test_weights_that_do_not_load_are_bad_usage(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def load_restorer(path: Path, **_: object) -> nn.Module:
        raise CorruptWeightsError(f"{path} is truncated. Download it again.")

    monkeypatch.setattr(load, "load_restorer", load_restorer)
    (tmp_path / "mine.pth").write_bytes(b"")
    words = ["restore", photos, "-o", tmp_path / "out", "--restorer", tmp_path / "mine.pth"]
    assert run(*words) == 2
    assert "mine.pth is truncated" in capsys.readouterr().err


def test_detect_prints_faces(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run("detect", photos, "--report", tmp_path / "report.json") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{photos / 'a.jpg'}: 1 face",
        "  1: 30 25 80 90, score 0.90",
        f"{photos / 'more' / 'b.png'}: 1 face",
        "  1: 30 25 80 90, score 0.90",
        f"{photos / 'none.jpg'}: no faces",
    ]
    assert [len(entry["faces"]) for entry in entries(tmp_path / "report.json")] == [1, 1, 0]


def test_published_weights_that_are_not_here_name_the_command(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    entry = next(entry for entry in manifest.published() if entry.kind == "restorer")
    assert run("restore", photos, "-o", tmp_path / "out", "--restorer", entry.name) == 2
    assert f"python -m bfr models download {entry.name}" in capsys.readouterr().err


def test_models_list_names_all_with_licences(capsys: pytest.CaptureFixture[str]):
    assert run("models", "list") == 0
    told = capsys.readouterr().out
    assert run("models") == 0
    assert capsys.readouterr().out == told
    assert manifest.published()
    for entry in manifest.published():
        assert entry.name in told and entry.licence in told


def test_models_download_goes_on_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    first, second = manifest.published()[:2]

    def download(entry: Any, folder: Path, on_step: Any = None) -> Path:
        if entry == first:
            raise DownloadError("no connection; try again later")
        on_step(50, 100, None)
        return folder / entry.file

    monkeypatch.setattr(downloads, "download", download)
    assert run("models", "download", first.name, second.name) == 1
    told = capsys.readouterr()
    assert f"{first.name}: failed: no connection" in told.err
    assert f"{second.name}: 50 %" in told.err
    assert told.out.strip() == str(tmp_path / "cache" / second.file)
    assert run("models", "download", second.name) == 0


def test_models_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    good, bad, absent = manifest.published()[:3]

    def verify(path: Path, entry: Any) -> str:
        if entry == bad:
            raise CorruptWeightsError("wrong checksum")
        return "abc"

    found = {good.name: tmp_path / "good", bad.name: tmp_path / "bad"}
    monkeypatch.setattr(manifest, "find", lambda entry, folders: found.get(entry.name))
    monkeypatch.setattr(downloads, "verify", verify)
    assert run("models", "verify", good.name) == 0
    assert run("models", "verify", good.name, bad.name) == 1
    assert run("models", "verify", absent.name) == 1
    told = capsys.readouterr().out
    assert (
        f"{good.name}: good, as published, sha256 abc" in told
        and f"{bad.name}: bad: wrong checksum" in told
    )
    assert f"{absent.name}: not downloaded" in told


def test_parsing_weights_are_used_where_they_are(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand: Stand
):
    words = ["restore", photos / "a.jpg", "--existing", "overwrite", "-o", tmp_path / "out"]
    assert run(*words) == 0 and stand.parser is None
    monkeypatch.setattr(manifest, "find", lambda entry, folders: tmp_path / "parser.pth")
    assert run(*words) == 0 and stand.parser is not None
    assert run(*words, "--region", "without-hair") == 0 and stand.parser.name == "without hair"
    assert run(*words, "--mask", "oval") == 0 and stand.parser is None
    assert run(*words, "--mask", "oval", "--region", "eyes") == 2, "an oval has no eyes"


def test_auto_takes_a_device_that_works():
    assert torch.zeros(1, device=pick_device("auto")).sum() == 0


# Files of the user, and odd surroundings --------------------------------------------------------


def test_a_star_after_report_replaces_no_photograph(photos: Path, tmp_path: Path):
    files = [path for path in sorted(photos.iterdir()) if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    assert run("detect", "--report", *files) == 2
    assert run("restore", photos, "-o", tmp_path / "out", "--report", photos / "a.jpg") == 2
    assert {path: path.read_bytes() for path in files} == before
    assert not (tmp_path / "out").exists()


def test_formats_that_are_not_read_are_named(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (photos / "moving.gif").touch()
    (photos / "raw.CR2").touch()
    (photos / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (photos / "grey.pgm").touch()
    (tmp_path / "elsewhere").mkdir()
    (photos / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (photos / "notes.txt").touch()
    assert run("detect", photos) == 0
    said = capsys.readouterr().err
    assert all(n in said for n in ("moving.gif", "raw.CR2", "lost.jpg", "grey.pgm", "linked"))
    assert "notes.txt" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes among the files")
def test_a_pipe_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert run("detect", tmp_path / "pipe.jpg") == 2
    assert "pipe.jpg" in capsys.readouterr().err


def test_names_cannot_steer_the_terminal(photos: Path, capsys: pytest.CaptureFixture[str]):
    (photos / "a.jpg").rename(photos / "a\x1b[31m\u202egpj\nerror.jpg")
    assert run("detect", photos) == 0
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err and "\u202e" not in told.out + told.err
    assert "a\\x1b[31m\\u202egpj\\nerror.jpg" in told.out


def test_a_narrow_output_encoding_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
):
    photo = tmp_path / "Größe 写真 ×.png"
    Image.new("RGB", (64, 64)).save(photo)
    written = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(written, "cp1251", write_through=True))
    assert run("detect", photo) == 0
    told = written.getvalue().decode("cp1251")
    assert "no faces" in told and r"Gr\xf6\xdfe \u5199\u771f" in told


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_termination_is_an_interruption(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = signal.getsignal(signal.SIGTERM)

    def terminated(*_: object, **__: object) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it goes on")

    monkeypatch.setattr(photo_file, "restore_photo", terminated)
    report = tmp_path / "report.json"
    assert run("restore", photos, "-o", tmp_path / "out", "--report", report) == 143
    assert entries(report) == [] and signal.getsignal(signal.SIGTERM) == before
