"""The commands ``targets`` and ``review``: words, exit codes and what is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from bfr.cli import main
from bfr.faces import retinaface
from bfr.pairs import build, contact_sheet, stages
from bfr.pairs.folder import read_pairs
from bfr.pairs.settings import PairSettings
from bfr.pairs.writer import PairWriter
from bfr.prior import load as prior_files
from bfr.prior.constraint import Constraint
from bfr.prior.guidance import Guidance
from bfr.prior.load import save_prior
from bfr.prior.prior import Prior
from bfr.prior.settings import SampleSettings, for_prior
from bfr.quality import face_batch, metrics
from bfr.restore import load
from bfr.runtime import processes
from tests import pair_sets
from tests.pair_sets import photograph
from tests.priors import tiny_prior

WORDS = (
    "--size 32 --start 3 --stop 1 --steps 20 --factor 4 --no-suit-prior --batch-size 2 --device cpu"
).split()


def load_tiny(path: Path | None, *, preset: str, size: int = 32) -> Prior:
    assert preset == "auto"
    return tiny_prior(size)


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the networks."""
    pair_sets.stand_in(monkeypatch)
    monkeypatch.setattr(retinaface, "load_detector", lambda path: pair_sets.detector())
    monkeypatch.setattr(load, "load_restorer", lambda path, **_: pair_sets.restorer())
    monkeypatch.setattr(prior_files, "load_prior", load_tiny)
    monkeypatch.setattr(
        face_batch, "find_landmarks", lambda images, _: images[:, 0, :5, :2].double()
    )
    monkeypatch.setattr(metrics, "niqe", lambda images: images.double().std((1, 2, 3)))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    photograph(folder / "a.png", faces=2)
    photograph(folder / "more" / "b.png")
    photograph(folder / "none.png", faces=0)
    return folder


def run(*words: object) -> int:
    try:
        return main.main([str(word) for word in words])
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


@pytest.mark.usefixtures("stand")
def test_targets_and_review(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "pairs"
    assert run("targets", photos, "-o", out, *WORDS) == 0
    told = capsys.readouterr().err
    assert f"{photos / 'a.png'}: 2 faces" in told and "3 of 3 targets sampled" in told
    assert "3 to train with, 0 rejected, 0 unfinished" in told
    assert "without a face: 1 photograph." in told and "Traceback" not in told
    assert run("targets", photos, "-o", out, *WORDS) == 0
    assert "Sampled now: 0 targets" in capsys.readouterr().err

    assert run("review", out, "--reject", "2", "--sheet", tmp_path / "sheet.png") == 0
    told = capsys.readouterr()
    pairs = read_pairs(out)
    assert told.out.splitlines() == [
        f"2: {pairs.pairs[1].name}: rejected (by hand)",
        str(tmp_path / "sheet.png"),
    ]
    assert "3 pairs: 2 to train with, 0 flagged." in told.err
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width > 900
    assert run("review", out, "--keep", pairs.pairs[1].name) == 0
    assert len(read_pairs(out).kept) == 3
    assert run("review", out, "--show", "rejected", "--sheet", tmp_path / "none.png") == 0
    assert "no such pair" in capsys.readouterr().err and not (tmp_path / "none.png").exists()


@pytest.mark.usefixtures("stand")
def test_many_pairs_fill_several_sheets(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(contact_sheet, "PAIRS_A_SHEET", 2)
    run("targets", photos, "-o", tmp_path / "pairs", *WORDS)
    assert run("review", tmp_path / "pairs", "--sheet", tmp_path / "sheet.jpg") == 0
    assert sorted(path.name for path in tmp_path.glob("*.jpg")) == ["sheet-2.jpg", "sheet.jpg"]


@pytest.mark.usefixtures("stand")
def test_settings_of_the_words(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    given: dict[str, Any] = {}

    def build_pairs(sources: Any, out: Path, *networks: Any, **options: Any):
        given.update(options, settings=networks[3], prior=networks[2], restorer=networks[1])
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "build_pairs", build_pairs)
    words = "--score .7 --min-size 20 --size 64 --fidelity .2 --start 120 --stop 40 --factor 8 "
    words += "--strength .5 --steps 200 --sampler ddim --calls 20 --eta .3 --seed 7 "
    words += "--batch-size 3 --precision bfloat16 --no-suit-prior"
    assert run("targets", photos, "-o", tmp_path / "pairs", *words.split()) == 130
    assert given["settings"] == PairSettings(
        score=0.7,
        min_size=20,
        size=64,
        fidelity=0.2,
        sample=SampleSettings(Constraint(8, 0.5, 120, 40), 200, "ddim", 20, 0.3, 7, 3),
    )
    assert next(given["prior"].network.parameters()).dtype == torch.bfloat16
    assert run("targets", photos, "-o", tmp_path / "pairs") == 130
    tiny = given["prior"]
    defaults = PairSettings(sample=PairSettings().sampled_by(tiny))
    assert given["settings"] == defaults, "the core's"
    words = "--freedom .7 --detail .5 --error 2".split()
    assert run("targets", photos, "-o", tmp_path / "pairs", *words) == 130
    expected = Guidance(freedom=0.7, detail=0.5, error=2).settings(tiny)
    assert given["settings"].sample == expected


@pytest.mark.usefixtures("stand")
def test_the_papers_factor_follows_the_restorer(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given: dict[str, Any] = {}

    def build_pairs(sources: Any, out: Path, *networks: Any, **options: Any):
        given.update(options, settings=networks[3], prior=networks[2], restorer=networks[1])
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "build_pairs", build_pairs)
    papers = "--start 150 --stop 90 --sampler ddpm --calls 0".split()
    swinir = pair_sets.restorer(architecture="SwinIR")
    monkeypatch.setattr(load, "load_restorer", lambda path, **_: swinir)
    assert run("targets", photos, "-o", tmp_path / "pairs", *papers) == 130
    tiny = given["prior"]
    assert given["settings"].sample == for_prior(SampleSettings(Constraint(factor=16)), tiny)
    options = ["--guesses", photos, *papers]
    assert run("targets", photos, "-o", tmp_path / "pairs", *options) == 130
    assert given["restorer"] is None and given["guesses"] == photos
    assert given["settings"].sample == for_prior(SampleSettings(Constraint(factor=8)), tiny)


@pytest.mark.usefixtures("stand")
def test_failures_are_told_and_the_rest_is_done(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (photos / "cut.png").write_bytes(b"\x89PNG")
    assert run("targets", photos, "-o", tmp_path / "pairs", *WORDS) == 1
    told = capsys.readouterr().err
    assert "cut.png: failed" in told and "1 thing failed" in told and "Traceback" not in told
    assert len(read_pairs(tmp_path / "pairs").kept) == 3


@pytest.mark.usefixtures("stand")
def test_interrupting_keeps_what_is_done(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real, batches = stages.sample_targets, []

    def sample_targets(*rest: Any, **options: Any) -> Any:
        if batches:
            raise KeyboardInterrupt
        batches.append(rest)
        return real(*rest, **options)

    monkeypatch.setattr(stages, "sample_targets", sample_targets)
    assert run("targets", photos, "-o", tmp_path / "pairs", *WORDS) == 130
    assert len(read_pairs(tmp_path / "pairs").kept) == 2


@pytest.mark.usefixtures("stand")
def test_each_process_takes_its_share_and_device(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    mine = processes.Share(rank=1, count=2, device="meta")
    asked: list[bool] = []

    def launched_share(cpu: bool, patience: float) -> processes.Share:
        asked.append(cpu)
        return mine

    def build_pairs(sources: Any, out: Path, *networks: Any, **options: Any):
        assert options["share"] is mine
        devices.append(next(networks[2].network.parameters()).device.type)
        options["say"]("half way")
        raise KeyboardInterrupt

    devices: list[str] = []
    monkeypatch.setattr(processes, "launched_share", launched_share)
    monkeypatch.setattr(build, "build_pairs", build_pairs)
    assert run("targets", photos, "-o", tmp_path / "pairs", "--device", "cpu") == 130
    assert run("targets", photos, "-o", tmp_path / "pairs") == 130
    assert asked == [True, False] and devices == ["cpu", "meta"]
    assert "(2) half way" in capsys.readouterr().err


@pytest.mark.usefixtures("stand")
def test_bad_usage(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "pairs"
    (tmp_path / "empty").mkdir()
    targets_of: list[object] = ["targets", photos, "-o", out, "--device", "cpu"]
    cases: list[list[object]] = [
        ["targets", photos],
        ["targets", "-o", out],
        ["targets", tmp_path / "empty", "-o", out],
        ["targets", photos, "-o", photos],
        [*targets_of, "--start", "50", "--stop", "90"],
        [*targets_of, "--no-suit-prior", "--factor", "5"],
        [*targets_of, "--no-suit-prior", "--factor", "64"],
        [*targets_of, "--size", "8"],
        [*targets_of, "--start", "150", "--stop", "90", "--calls", "200"],
        [*targets_of, "--calls", "1"],
        [*targets_of, "--hold", "soft", "--stop", "40"],
        [*targets_of, "--freedom", "1.5"],
        [*targets_of, "--sampler", "euler"],
        [*targets_of, "--strength", "2"],
        [*targets_of, "--prior", "no-such-prior"],
        [*targets_of, "--guesses", tmp_path / "empty"],
        [*targets_of, "--guesses", photos, "--restorer", "mine.pth"],
        [*targets_of, "--guesses", photos, "--ray", "local"],
        ["targets", "memory://photographs", "-o", out],
        ["review"],
        ["review", tmp_path / "empty"],
        ["review", tmp_path / "absent", "--reject", "1"],
    ]
    for words in cases:
        assert run(*words) == 2, words
        told = capsys.readouterr().err
        assert told.strip() and "Traceback" not in told, words
    assert not list(out.rglob("*.png"))


def test_help_does_not_wait_for_torch(root: Path):
    code = (
        "import sys; from bfr.cli import main\n"
        "for command in ('targets', 'review'):\n"
        "    try: main.main([command, '--help'])\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stderr.split() == ["False"], done.stderr
    assert "exactly this face" in " ".join(done.stdout.split())


def test_real_photographs_from_end_to_end(root: Path, tmp_path: Path):
    """The shipped portraits through the embedded detector and restorer, with a tiny prior."""
    facts = {"licence": "none", "provenance": "by rule"}
    save_prior(tmp_path / "prior.safetensors", tiny_prior(64), facts)
    out = tmp_path / "pairs"
    words = ["--prior", tmp_path / "prior.safetensors", "--size", "64", *WORDS[2:]]
    assert run("targets", root / "samples", "-o", out, *words) == 0
    assert run("review", out, "--device", "cpu", "--sheet", tmp_path / "sheet.png") == 0
    pairs = read_pairs(out)
    assert [Path(pair.source).stem for pair in pairs.pairs] == ["eileen_collins", "grace_hopper"]
    assert all(pair.complete and pair.score > 0.8 for pair in pairs.pairs)
    assert all(pair.measures["likeness"] for pair in pairs.pairs)
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


@pytest.mark.usefixtures("stand")
def test_a_sheet_replaces_no_photograph(photos: Path, tmp_path: Path):
    assert run("targets", photos, "-o", tmp_path / "pairs", *WORDS) == 0
    photo = sorted(photos.rglob("*.png"))[0]
    before = photo.read_bytes()
    assert run("review", tmp_path / "pairs", "--sheet", photo) == 2
    assert photo.read_bytes() == before


@pytest.mark.usefixtures("stand")
def test_pairs_can_be_rejected_while_the_set_is_written(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "pairs"
    assert run("targets", photos, "-o", out, *WORDS) == 0
    with PairWriter(out):
        assert run("review", out, "--reject", "1") == 0
        assert "process" in capsys.readouterr().err, "it says who writes"
        assert run("targets", photos, "-o", out, *WORDS) == 2
    assert read_pairs(out).pairs[0].status == "rejected"
