"""Pseudo-target sets: what is made, what is made again, and what an interruption leaves."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from bfr.errors import CancelledError, InputError, OutputError
from bfr.files.photos import Photo, read_photo
from bfr.files.sources import find_sources
from bfr.files.writing import write_photo
from bfr.pairs import stages
from bfr.pairs.build import build_pairs, build_pairs_from_crops
from bfr.pairs.folder import REJECTED, PairSet, read_image, read_pairs
from bfr.pairs.pair import Pair
from bfr.pairs.settings import PairSettings, paper_factor
from bfr.prior.constraint import Constraint
from tests.forks import begin
from tests.pair_sets import (
    SAMPLE,
    SETTINGS,
    alike,
    build,
    changed,
    detector,
    files,
    photograph,
    restorer,
    stand_in,
)
from tests.priors import tiny_prior


@pytest.fixture(autouse=True)
def searched(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    return stand_in(monkeypatch)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photographs with one face, one with two in a sub-folder, and one without."""
    folder = tmp_path / "photos"
    photograph(folder / "a.png")
    photograph(folder / "b.jpg")
    photograph(folder / "more" / "a.png", faces=2, seed=5)
    photograph(folder / "none.png", faces=0)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "pairs"


def with_constraint(**values: Any) -> PairSettings:
    constraint = replace(SAMPLE.constraint, **values)
    return replace(SETTINGS, sample=replace(SAMPLE, constraint=constraint))


def kinds(names: set[str]) -> set[str]:
    return {name.split("/")[0] for name in names}


# Making ----------------------------------------------------------------------------------------


def test_a_pair_for_each_face(photos: Path, out: Path):
    report = build(photos, out)
    pairs = report.pairs.pairs
    assert [(Path(pair.source).name, pair.face) for pair in pairs] == [
        ("a.png", 0),
        ("b.jpg", 0),
        ("a.png", 0),
        ("a.png", 1),
    ]
    assert (report.searched, report.guessed, report.sampled) == (4, 4, 4)
    assert report.faceless == [str(photos / "none.png")]
    assert not report.problems and not report.duplicates
    assert all(pair.complete and pair.status == "kept" for pair in pairs)
    names = {pair.name for pair in pairs}
    assert len(names) == 4
    images = {f"{kind}/{name}.png" for kind in ("lq", "guess", "target") for name in names}
    assert set(files(out)) == images | {"manifest.jsonl", "sources.jsonl"}
    assert read_pairs(out) == replace(report.pairs, pairs=read_pairs(out).pairs)
    assert len(read_pairs(out).kept) == 4


def test_images_are_what_the_stages_make(photos: Path, out: Path):
    pairs = build(photos, out).pairs
    pair = pairs.pairs[0]
    crop, guess = (read_image(out, kind, pair) for kind in ("lq", "guess"))
    assert crop.shape == (1, 3, 32, 32) and crop.std() > 0.05
    assert (guess - crop.lerp(torch.full_like(crop, 0.5), 0.3)).abs().max() <= 0.5 / 255 + 1e-6
    seeds = [pair.target["seed"]]
    wanted = stages.sample_targets(guess, tiny_prior(), SAMPLE, seeds=seeds).targets
    assert (read_image(out, "target", pair) - wanted).abs().max() <= 0.5 / 255 + 1e-6
    other = pairs.pairs[1]
    assert not torch.equal(read_image(out, "target", other), read_image(out, "target", pair))


def test_the_manifest_says_all_that_is_needed_to_make_it_again(photos: Path, out: Path):
    build(photos, out)
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    first = lines[0]
    assert first["source"] == str(photos / "a.png") and len(first["source_sha256"]) == 64
    assert len(first["image_to_crop"]) == 2 and len(first["landmarks"]) == 5
    assert first["crop"].keys() == {"detector", "score", "min_size", "size"}
    assert first["guess"]["restorer"]["name"] == "Other"
    assert first["target"]["constraint"] == {"factor": 4, "strength": 1.0, "start": 3, "stop": 1}
    assert first["target"]["prior"]["sha256"] and first["target"]["sampler"] == "ddpm"
    assert first["target"]["calls"] == 3 and first["target"]["steps"] == 20
    assert len({line["target"]["seed"] for line in lines}) == 4


def test_the_size_is_the_restorers_or_the_priors(photos: Path, out: Path, tmp_path: Path):
    automatic = replace(SETTINGS, size=None)
    pair = build(photos, out, automatic, prior=tiny_prior(size=40)).pairs.pairs[0]
    assert read_image(out, "target", pair).shape[-1] == 40
    own = replace(restorer(), size=24)
    other = tmp_path / "own"
    pair = build(photos, other, automatic, restorer=own).pairs.pairs[0]
    assert {read_image(other, kind, pair).shape[-1] for kind in ("lq", "guess", "target")} == {24}


def test_the_papers_factor():
    assert paper_factor(restorer(architecture="SwinIR")) == 16
    assert paper_factor(restorer(architecture="CodeFormer")) == paper_factor(None) == 8


def test_faces_of_all_photographs_share_batches(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
):
    counts: list[int] = []
    real = stages.sample_targets

    def sample_targets(guesses: Tensor, *rest: Any, **options: Any):
        counts.append(len(guesses))
        return real(guesses, *rest, **options)

    monkeypatch.setattr(stages, "sample_targets", sample_targets)
    build(photos, out, replace(SETTINGS, sample=replace(SAMPLE, batch_size=3)))
    assert counts == [3, 1]


def test_batch_sizes_and_order_change_nothing(photos: Path, out: Path, tmp_path: Path):
    build(photos, out)
    single = replace(SETTINGS, batch_size=1, sample=replace(SAMPLE, batch_size=1))
    build_pairs(
        find_sources([photos])[::-1], tmp_path / "b", detector(), restorer(), tiny_prior(), single
    )
    assert alike(files(out), files(tmp_path / "b"))


# Making again ----------------------------------------------------------------------------------


def test_a_second_run_does_nothing(photos: Path, out: Path, searched: list[Tensor]):
    build(photos, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    searched.clear()
    network, lines = restorer(), []
    report = build(photos, out, restorer=network, say=lines.append)
    assert (report.searched, report.guessed, report.sampled) == (0, 0, 0)
    assert not searched and not network.network.seen and not lines
    assert report.faceless, "still reported"
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("settings", "again"),
    [
        (with_constraint(start=4), {"target"}),
        (with_constraint(strength=0.5), {"target"}),
        (replace(SETTINGS, sample=replace(SAMPLE, seed=1)), {"target"}),
        (replace(SETTINGS, sample=replace(SAMPLE, sampler="ddim", calls=2)), {"target"}),
        (replace(SETTINGS, sample=replace(SAMPLE, batch_size=1)), set()),
        (replace(SETTINGS, sample=replace(SAMPLE, eta=0.5)), set()),
        (replace(SETTINGS, fidelity=0.1), set()),
        (replace(SETTINGS, size=48), {"lq", "guess", "target"}),
    ],
)
def test_a_parameter_changes_what_depends_on_it(
    photos: Path, out: Path, settings: PairSettings, again: set[str]
):
    build(photos, out)
    before = files(out)
    report = build(photos, out, settings)
    assert kinds(changed(before, files(out))) == again
    assert report.sampled == (4 if "target" in again else 0)
    assert report.guessed == (4 if "guess" in again else 0)
    assert all(pair.complete for pair in report.pairs.pairs)


def test_a_network_changes_what_depends_on_it(photos: Path, out: Path):
    build(photos, out)
    before = files(out)
    report = build(photos, out, prior=tiny_prior(seed=1))
    assert kinds(changed(before, files(out))) == {"target"} and report.guessed == 0
    report = build(photos, out, restorer=restorer(0.5), prior=tiny_prior(seed=1))
    assert report.guessed == report.sampled == 4 and report.searched == 0
    before = files(out)
    report = build(
        photos, out, detector=detector(0.7), restorer=restorer(0.5), prior=tiny_prior(seed=1)
    )
    assert report.searched == 4
    assert report.guessed == report.sampled == 0, "the faces it found are the same"
    assert not changed(before, files(out))


def test_back_and_forth_ends_as_it_began(photos: Path, out: Path):
    build(photos, out)
    before = files(out)
    build(photos, out, with_constraint(start=4))
    build(photos, out)
    assert files(out) == before


def test_one_more_photograph_changes_no_other_pair(photos: Path, out: Path, tmp_path: Path):
    build(photos, out)
    before = files(out)
    photograph(photos / "0.png")
    report = build(photos, out)
    assert report.sampled == 1
    (name,) = {pair.name for pair in report.pairs.pairs if pair.source.endswith("0.png")}
    assert changed(before, files(out)) == {f"{k}/{name}.png" for k in ("lq", "guess", "target")}
    build(photos, tmp_path / "at once")
    assert alike(files(out), files(tmp_path / "at once"))


@pytest.mark.parametrize("kind", ["lq", "guess", "target"])
@pytest.mark.parametrize("cut", [False, True])
def test_a_lost_file_is_made_again(photos: Path, out: Path, kind: str, cut: bool):
    pair = build(photos, out).pairs.pairs[2]
    before = files(out)
    path = out / kind / f"{pair.name}.png"
    path.write_bytes(b"") if cut else path.unlink()
    report = build(photos, out)
    assert alike(files(out), before)
    assert report.searched == (kind == "lq")
    assert report.guessed == (kind == "guess") and report.sampled == (kind == "target")


def test_a_changed_photograph_replaces_its_pairs(photos: Path, out: Path):
    old = {pair.name for pair in build(photos, out).pairs.pairs if "more" in pair.source}
    photograph(photos / "more" / "a.png", faces=1, seed=6)
    report = build(photos, out)
    now = {pair.name for pair in report.pairs.pairs}
    assert len(old) == 2 and not old & now and len(now) == 3
    assert report.removed == 2 and report.sampled == 1
    assert not [path for path in out.rglob("*.png") if path.stem in old]


def test_a_moved_or_touched_photograph_keeps_its_pairs(photos: Path, out: Path):
    build(photos, out)
    before = files(out)
    (photos / "a.png").rename(photos / "renamed.png")
    os.utime(photos / "b.jpg", (1, 1))
    report = build(photos, out)
    assert report.sampled == report.guessed == report.removed == 0
    assert not changed(before, files(out))
    assert str(photos / "renamed.png") in {pair.source for pair in report.pairs.pairs}
    assert build(photos, out).searched == 0


def test_pairs_of_other_photographs_stay(photos: Path, out: Path):
    before = build(photos, out).pairs.pairs
    report = build(photograph(photos.parent / "else" / "c.png").parent, out)
    assert report.sampled == 1 and len(report.pairs.pairs) == len(before) + 1


def test_names_that_collide(tmp_path: Path, out: Path):
    folder = tmp_path / "photos"
    for number, name in enumerate(
        ("a.png", "a.jpg", "x/a.png", "y/a.png", "A.PNG", "Größe 1.png", "写真.png", "con.png")
    ):
        photograph(folder / name, seed=number)
    sources = find_sources([folder / "x", folder / "y", folder])
    settings = (detector(), restorer(), tiny_prior(), SETTINGS)
    report = build_pairs(sources, out, *settings)
    assert not report.problems
    names = [pair.name for pair in report.pairs.pairs]
    assert len({name.lower() for name in names}) == 8
    assert all(name.isascii() and " " not in name for name in names)
    assert any(name.startswith("Groe-1-") or name.startswith("Gro-e-1-") for name in names)
    assert "Größe" in (out / "manifest.jsonl").read_text(encoding="utf-8")
    assert build_pairs(sources, out, *settings).sampled == 0


def test_a_copy_is_taken_once(photos: Path, out: Path):
    shutil.copy(photos / "a.png", photos / "copy.png")
    lines: list[str] = []
    report = build(photos, out, say=lines.append)
    assert report.duplicates == [(str(photos / "copy.png"), str(photos / "a.png"))]
    assert len(report.pairs.pairs) == 4 and any("taken once" in line for line in lines)


# Rejected pairs --------------------------------------------------------------------------------


def rejected(out: Path, pair: Pair, reason: str) -> None:
    from bfr.pairs.writer import PairWriter

    with PairWriter(out) as writer:
        writer.put([replace(pair, status=REJECTED, reason=reason)])


def test_what_was_rejected_by_hand_is_left_alone(photos: Path, out: Path):
    pair = build(photos, out).pairs.pairs[0]
    rejected(out, pair, "by hand")
    (out / "target" / f"{pair.name}.png").unlink()
    report = build(photos, out, with_constraint(start=4))
    assert report.sampled == 3
    assert report.pairs.pairs[0].status == REJECTED
    assert pair.name not in {kept.name for kept in report.pairs.kept}


def test_what_was_rejected_for_its_flags_gets_a_new_chance(photos: Path, out: Path):
    pair = build(photos, out).pairs.pairs[0]
    rejected(out, pair, "flagged: likeness")
    assert build(photos, out).pairs.pairs[0].status == REJECTED, "nothing changed"
    report = build(photos, out, with_constraint(start=4))
    assert report.sampled == 4 and report.pairs.pairs[0].status == "kept"


# Interruptions ---------------------------------------------------------------------------------


def stop_after(count: int, error: BaseException) -> Callable[..., None]:
    calls = 0

    def on_step(done: int, total: int, preview: Tensor | None) -> None:
        nonlocal calls
        calls += 1
        assert 0 <= done <= total
        if calls > count:
            raise error

    return on_step


@pytest.mark.parametrize("error", [KeyboardInterrupt(), CancelledError("stop")])
def test_an_interrupted_set_is_continued_to_the_same_bytes(
    photos: Path, out: Path, tmp_path: Path, error: BaseException
):
    build(photos, tmp_path / "whole")
    wanted = files(tmp_path / "whole")
    stopped = 0
    for count in range(40):
        with pytest.raises(type(error)):
            build(photos, out, on_step=stop_after(count, error))
        pairs = read_pairs(out)
        assert all(pairs.path("target", pair).is_file() for pair in pairs.kept)
        assert set(changed(files(out), wanted)) == wanted.keys() - files(out).keys() - {
            "manifest.jsonl"
        }
        stopped += 1
        if len(pairs.kept) >= 2:
            break
    assert 2 < stopped < 40
    report = build(photos, out)
    assert files(out) == wanted
    assert report.sampled == 4 - len(pairs.kept)


def test_progress_only_rises(photos: Path, out: Path):
    steps: list[tuple[int, int]] = []
    previews: list[Tensor] = []

    def on_step(done: int, total: int, preview: Tensor | None) -> None:
        steps.append((done, total))
        if preview is not None:
            previews.append(preview)

    build(photos, out, on_step=on_step)
    assert steps == sorted(steps) and steps[-1] == (1000, 1000)
    assert previews and previews[0].shape[-1] == 3 * 32


def test_what_a_kill_leaves_is_repaired(photos: Path, out: Path):
    build(photos, out)
    wanted = files(out)
    manifest = out / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(lines[0] + lines[1])
    (out / "manifest.part0.jsonl").write_bytes(lines[2] + lines[3][:99])
    (out / "sources.part1.jsonl").write_bytes(b'{"path": "x')
    for kind in ("lq", "guess", "target"):
        (out / kind / f".{'0123456789abcdef' * 2}.part").write_bytes(b"half an image")
    assert len(read_pairs(out).kept) == 3, "it can be read as it is"
    report = build(photos, out)
    assert report.sampled == 1 and alike(files(out), wanted)


def test_a_manifest_damaged_by_hand_is_told(photos: Path, out: Path):
    build(photos, out)
    lines = (out / "manifest.jsonl").read_text().splitlines()
    (out / "manifest.jsonl").write_text("\n".join([lines[0], "{oops", *lines[1:]]))
    with pytest.raises(InputError, match=r"Line 2 of .*manifest\.jsonl"):
        build(photos, out)
    (out / "manifest.jsonl").write_text('{"name": "x"}\n')
    with pytest.raises(InputError, match="Line 1"):
        read_pairs(out)


def build_with_stand_ins(photos: Path, out: Path) -> None:
    """`build`, in a process of its own."""
    stand_in(pytest.MonkeyPatch())
    build(photos, out)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_at_any_moment(photos: Path, out: Path, tmp_path: Path):
    """kill -9 again and again: every time the folder can be read, and in the end it is whole."""
    build(photos, tmp_path / "whole")
    counts: list[int] = []
    for delay in (0.01 * 1.3**n for n in range(30)):  # to 20 s, on a busy machine
        process = begin(build_with_stand_ins, photos, out)
        time.sleep(delay)
        process.kill()
        process.join()
        if list(out.glob("manifest*.jsonl")):
            pairs = read_pairs(out)
            assert all(pairs.path("target", pair).is_file() for pair in pairs.kept)
            counts.append(len(pairs.kept))
        if counts and counts[-1] == 4:
            break
    assert counts[0] < 4 == counts[-1] and counts == sorted(counts)
    build(photos, out)
    assert alike(files(out), files(tmp_path / "whole"))


def test_a_full_disk_stops_the_work(photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch):
    from bfr.files import photos as images

    real, written = Path.write_bytes, []

    def write_bytes(path: Path, data: bytes) -> int:
        if path.suffix == ".part" and len(written) >= 5:
            raise OSError(28, "No space left on device")
        written.append(path)
        return real(path, data)

    monkeypatch.setattr(images.Path, "write_bytes", write_bytes)
    with pytest.raises(OutputError, match="No space left"):
        build(photos, out)
    monkeypatch.undo()
    assert not list(out.rglob(".*.part"))
    assert read_pairs(out).pairs


def test_a_folder_that_cannot_be_written_is_told(photos: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        build(photos, tmp_path / "file")


# Bad input -------------------------------------------------------------------------------------


def test_broken_photographs_are_told_and_skipped(photos: Path, out: Path):
    data = (photos / "a.png").read_bytes()
    (photos / "cut.png").write_bytes(data[: len(data) // 2])
    (photos / "empty.jpg").touch()
    lines: list[str] = []
    report = build(photos, out, say=lines.append)
    assert [Path(where).name for where, _ in report.problems] == ["cut.png", "empty.jpg"]
    assert sum("failed: " in line for line in lines) == 2
    assert len(report.pairs.kept) == 4
    (photos / "cut.png").write_bytes(photograph(photos.parent / "new.png").read_bytes())
    assert build(photos, out).sampled == 1


def test_an_unexpected_error_fails_one_photograph(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
):
    from bfr.pairs import crops as collect

    real = collect.align_faces

    def align_faces(images: Tensor, *rest: Any):
        if not images[0, 0, 0, 0]:
            raise ZeroDivisionError("a bug")
        return real(images, *rest)

    monkeypatch.setattr(collect, "align_faces", align_faces)
    report = build(photos, out)
    assert report.problems == [(str(photos / "none.png"), "ZeroDivisionError: a bug")]
    assert report.sampled == 4


def test_settings_are_refused_before_any_work(photos: Path, out: Path):
    large = PairSettings(sample=replace(SAMPLE, constraint=Constraint(factor=64)))
    for settings in (
        replace(SETTINGS, score=1.5),
        replace(SETTINGS, fidelity=-1),
        replace(SETTINGS, batch_size=0),
        replace(SETTINGS, size=8),
        large,
    ):
        with pytest.raises(InputError):
            build(photos, out, settings)
    with pytest.raises(InputError, match="one of the two"):
        build(photos, out, restorer=None)
    with pytest.raises(InputError, match="one of the two"):
        build(photos, out, guesses=photos, restorer=restorer())
    assert not out.exists()


def test_a_folder_that_is_no_set_is_told(tmp_path: Path):
    with pytest.raises(InputError, match="manifest"):
        read_pairs(tmp_path)
    with pytest.raises(InputError, match="manifest"):
        read_pairs(tmp_path / "absent")


# Guesses from elsewhere ------------------------------------------------------------------------


def lighter(path: Path, out: Path, scale: float = 1.0) -> None:
    """A "restored" photograph, lighter than it was, and scaled."""
    pixels = read_photo(path).pixels * 0.5 + 0.5
    pixels = F.interpolate(pixels, scale_factor=scale, mode="bicubic").clamp(0, 1)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_photo(out, Photo(pixels))


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_guesses_from_restored_photographs(photos: Path, out: Path, tmp_path: Path, scale: float):
    folder = tmp_path / "restored"
    for name, becomes in (("a.png", "a.png"), ("b.jpg", "b.png"), ("more/a.png", "more/a.webp")):
        lighter(photos / name, folder / becomes, scale)
    report = build(photos, out, guesses=folder)
    assert not report.problems and report.sampled == 4
    for pair in report.pairs.pairs:
        wanted = read_image(out, "lq", pair) * 0.5 + 0.5
        away = (read_image(out, "guess", pair) - wanted).abs()
        assert away.mean() < 0.02, "the guess lies where the crop lies"
    assert build(photos, out, guesses=folder).sampled == 0
    lighter(photos / "b.jpg", folder / "a.png", scale)
    report = build(photos, out, guesses=folder)
    assert (report.guessed, report.sampled) == (1, 1)


def test_guesses_from_aligned_faces(photos: Path, out: Path, tmp_path: Path):
    first = build(photos, out)
    folder = tmp_path / "results"
    folder.mkdir()
    for pair in first.pairs.pairs[:2]:
        with Image.open(out / "lq" / f"{pair.name}.png") as image:
            image.rotate(180).resize((64, 64)).save(folder / f"{pair.name}.png")
    report = build(photos, out, guesses=folder)
    assert (report.guessed, report.sampled) == (2, 2)
    assert [where for where, _ in report.problems] == [p.name for p in first.pairs.pairs[2:]]
    assert "got none" in report.problems[0][1]
    guess = read_image(out, "guess", report.pairs.pairs[0])
    turned = read_image(out, "lq", report.pairs.pairs[0]).flip(-1, -2)
    assert (guess - turned).abs().mean() < 0.05


def test_crops_are_there_for_the_other_tool(photos: Path, out: Path, tmp_path: Path):
    """First the crops; then the other tool works on them; then the targets."""
    folder = tmp_path / "results"
    photograph(folder / "unrelated.png")
    report = build(photos, out, guesses=folder)
    assert len(report.problems) == 4 and not report.pairs.kept
    shutil.rmtree(folder)
    shutil.copytree(out / "lq", folder)
    report = build(photos, out, guesses=folder)
    assert len(report.pairs.kept) == 4 and report.searched == 0


def test_guesses_that_may_be_anothers_are_refused(tmp_path: Path, out: Path):
    for seed, name in enumerate(("x/a.png", "y/a.png", "z/b.png", "z/b.jpg")):
        photograph(tmp_path / "photos" / name, seed=seed)
    sources = find_sources([tmp_path / "photos" / name for name in "xyz"])
    for name in ("a.png", "b.png"):
        photograph(tmp_path / "restored" / name, seed=99)
    report = build_pairs(
        sources, out, detector(), None, tiny_prior(), SETTINGS, guesses=tmp_path / "restored"
    )
    kept = [Path(pair.source).name for pair in report.pairs.kept]
    assert kept == ["b.png"], "only it has the very name"
    assert len(report.problems) == 3 and "got also" in report.problems[0][1]


def test_guesses_of_other_proportions_or_broken_are_told(photos: Path, out: Path, tmp_path: Path):
    folder = tmp_path / "restored"
    lighter(photos / "a.png", folder / "a.png")
    with Image.open(photos / "b.jpg") as image:
        image.crop((0, 0, 100, 120)).save(folder / "b.png")
    (folder / "more").mkdir()
    (folder / "more" / "a.png").write_bytes(b"\x89PNG")
    report = build(photos, out, guesses=folder)
    assert len(report.pairs.kept) == 1 and len(report.problems) == 3
    assert [name[:2] for name, text in report.problems if "100×120" in text] == ["b-"]
    with pytest.raises(InputError, match="got none"):
        (tmp_path / "empty").mkdir()
        build(photos, out, guesses=tmp_path / "empty")


# From crops ------------------------------------------------------------------------------------


def crops(count: int, seed: int = 0) -> Tensor:
    small = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(small, (32, 32), mode="bilinear")


def from_crops(images: Tensor, out: Path, **options: Any):
    options = {"restorer": None if "guesses" in options else restorer(), **options}
    return build_pairs_from_crops(images, out, prior=tiny_prior(), settings=SETTINGS, **options)


def test_crops_become_pairs(out: Path):
    images = crops(3)
    before = images.clone()
    report = from_crops(images, out)
    assert torch.equal(images, before)
    assert report.sampled == 3 and len(report.pairs.kept) == 3
    assert [pair.source for pair in report.pairs.pairs] == ["crop 0001", "crop 0002", "crop 0003"]
    for number, pair in enumerate(report.pairs.pairs):
        assert (read_image(out, "lq", pair) - images[number]).abs().max() <= 0.5 / 255 + 1e-6
    again = from_crops(torch.cat([crops(1, seed=1), images]), out)
    assert again.sampled == again.guessed == 1


def test_crops_with_guesses_of_their_own(out: Path):
    images = crops(2)
    report = from_crops(images, out, guesses=1 - images, names=["left", "right"])
    pair = report.pairs.pairs[1]
    assert pair.source == "right" and pair.name.startswith("right-")
    assert (read_image(out, "guess", pair) - (1 - images[1])).abs().max() <= 0.5 / 255 + 1e-6
    assert from_crops(images, out, guesses=1 - images, names=["left", "right"]).guessed == 0
    changed_one = torch.cat([1 - images[:1], images[1:]])
    report = from_crops(images, out, guesses=changed_one, names=["left", "right"])
    assert report.guessed == report.sampled == 1


def test_crops_without_a_face_are_named(out: Path):
    images = crops(3)
    images[:, 0, 0, 0] = torch.tensor([1, 0, 1]) / 255
    report = from_crops(images, out, detector=detector())
    ((where, problem),) = report.problems
    assert where == "crop 0002" and "must show a face, got none" in problem
    assert len(report.pairs.kept) == 2


def test_a_crop_that_comes_twice_is_taken_once(out: Path):
    report = from_crops(crops(2)[[0, 1, 0]], out)
    assert report.duplicates == [("crop 0003", "crop 0001")] and report.sampled == 2


def test_crops_that_do_not_fit_are_refused(out: Path):
    images = crops(2)
    for wrong in (
        {"guesses": images[:1]},
        {"guesses": images, "restorer": restorer()},
        {"restorer": None},
        {"names": ["one"]},
        {"images": images[..., :16]},
        {"images": images * torch.nan},
    ):
        with pytest.raises(InputError):
            from_crops(**{"images": images, "out": out, **wrong})
    assert not out.exists()


def test_both_ways_give_the_same_target(photos: Path, out: Path, tmp_path: Path):
    """A target follows from guess, settings and seed, whatever way the guess came."""
    pair = build(photos, out).pairs.pairs[0]
    crop = read_image(out, "lq", pair)
    other = from_crops(crop, tmp_path / "crops").pairs.pairs[0]
    first, second = read_image(out, "guess", pair), read_image(tmp_path / "crops", "guess", other)
    assert torch.equal(first, second) and pair.target["seed"] != other.target["seed"]


def test_the_set_is_a_record(photos: Path, out: Path):
    pairs = build(photos, out).pairs
    assert isinstance(pairs, PairSet)
    assert all(pairs.path(kind, pairs.pairs[0]).is_file() for kind in ("lq", "guess", "target"))
