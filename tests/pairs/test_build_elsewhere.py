"""Targets made elsewhere: any diffusion model's pictures in the place of the prior's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bfr.errors import CancelledError, InputError
from bfr.files.photos import Photo, read_photo
from bfr.files.writing import write_photo
from bfr.pairs.build import BuildReport, build_pairs_from_crops
from bfr.pairs.folder import read_image
from tests.pair_sets import SETTINGS, build, files, photograph, restorer, stand_in
from tests.priors import tiny_prior


@pytest.fixture(autouse=True)
def searched(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    return stand_in(monkeypatch)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "pairs"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    photograph(folder / "a.png")
    photograph(folder / "more" / "b.png", faces=2, seed=5)
    return folder


def crops(count: int) -> Tensor:
    small = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return F.interpolate(small, (32, 32), mode="bilinear")


def from_crops(images: Tensor, out: Path, **options: Any) -> BuildReport:
    options = {"restorer": restorer(), "prior": None, **options}
    return build_pairs_from_crops(images, out, settings=SETTINGS, **options)


def test_targets_come_as_images_beside_the_crops(out: Path):
    images = crops(3)
    report = from_crops(images, out, targets=1 - images)
    assert (report.guessed, report.sampled, len(report.pairs.kept)) == (3, 3, 3)
    for number, pair in enumerate(report.pairs.pairs):
        found = read_image(out, "target", pair)
        assert (found - (1 - images[number])).abs().max() <= 0.5 / 255 + 1e-6
    manifest = (out / "manifest.jsonl").read_text().splitlines()
    assert json.loads(manifest[0])["target"].keys() == {"guess", "image"}


def test_only_targets_that_changed_are_taken_again(out: Path):
    images = crops(3)
    from_crops(images, out, targets=1 - images)
    before = files(out)
    again = from_crops(images, out, targets=1 - images)
    assert (again.guessed, again.sampled) == (0, 0) and files(out) == before
    others = torch.cat([1 - images[:2], images[2:]])
    assert from_crops(images, out, targets=others).sampled == 1


def test_going_over_to_the_prior_makes_the_targets_again(out: Path):
    images = crops(2)
    from_crops(images, out, targets=1 - images)
    report = from_crops(images, out, prior=tiny_prior())
    assert (report.guessed, report.sampled) == (0, 2)


def test_targets_come_from_a_folder_of_repainted_photographs(
    photos: Path, out: Path, tmp_path: Path
):
    folder = tmp_path / "repainted"
    for name in ("a.png", "more/b.png"):
        pixels = F.interpolate(1 - read_photo(photos / name).pixels, scale_factor=2.0)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_photo(folder / name, Photo(pixels))
    report = build(photos, out, prior=None, targets=folder)
    assert not report.problems and report.sampled == 3
    for pair in report.pairs.pairs:
        away = read_image(out, "target", pair) - (1 - read_image(out, "lq", pair))
        assert away.abs().mean() < 0.03
    assert build(photos, out, prior=None, targets=folder).sampled == 0


def test_a_target_that_is_missing_is_reported_and_the_others_are_taken(
    photos: Path, out: Path, tmp_path: Path
):
    folder = tmp_path / "repainted"
    folder.mkdir()
    shutil.copy(photos / "a.png", folder)
    report = build(photos, out, prior=None, targets=folder)
    assert report.sampled == 1 and len(report.problems) == 2
    assert "target of more/b.png" in report.problems[0][1].replace("\\", "/")


@pytest.mark.parametrize(
    "wrong",
    [
        {"prior": None},
        {"prior": "tiny", "targets": "images"},
        {"targets": "one"},
        {"targets": "small"},
        {"targets": "nan"},
    ],
)
def test_targets_that_do_not_fit_are_refused(wrong: dict[str, Any], out: Path):
    images = crops(2)
    known = {
        "tiny": tiny_prior(),
        "images": images,
        "one": images[:1],
        "small": images[..., :16, :16],
        "nan": images * torch.nan,
        None: None,
    }
    with pytest.raises(InputError):
        from_crops(images, out, **{name: known[value] for name, value in wrong.items()})
    assert not out.exists()


def test_a_restorer_of_many_steps_can_be_cancelled_within_a_guess(out: Path):
    from dataclasses import replace

    def slow(network, faces, fidelity, on_step):
        for step in range(1, 5):
            on_step(step, 4, None)
        return network(faces)

    seen: list[int] = []

    def stop(done: int, total: int, preview: Tensor | None) -> None:
        seen.append(done)
        if len(seen) == 3:
            raise CancelledError

    images = crops(1)
    with pytest.raises(CancelledError):
        from_crops(
            images, out, targets=images, restorer=replace(restorer(), watched=slow), on_step=stop
        )
    assert seen == sorted(seen)
