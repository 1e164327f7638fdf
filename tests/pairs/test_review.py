"""Reviewing a set: what is flagged, rejecting and taking it back, contact sheets."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bfr.errors import InputError
from bfr.files.sources import find_sources
from bfr.image import sheets
from bfr.image.sheets import Sheet
from bfr.pairs.choose import choose_pairs
from bfr.pairs.contact_sheet import lay_out_pairs
from bfr.pairs.folder import PairSet, read_image, read_pairs
from bfr.pairs.pair import Pair
from bfr.pairs.review import BY_HAND, NO_FACE, RULES, check_pairs, find_flags, mark_pairs
from bfr.pairs.writer import PairWriter
from bfr.quality import face_batch, metrics
from tests.pair_sets import SAMPLE, SETTINGS, build, detector, files, photograph, stand_in

USUAL = {
    "identity": 0.3,
    "likeness": 35.0,
    "landmarks": 2.0,
    "niqe": 5.0,
    "sharpness": 3.0,
    "grain": 1.0,
    "clipped": 0.0,
}


def pair(number: int, **measures: float | None) -> Pair:
    return Pair(
        name=f"face-{number}",
        source="a.jpg",
        source_sha256="0",
        face=number,
        image_to_crop=(),
        landmarks=(),
        score=1.0,
        measures={**USUAL, **measures},
    )


def a_set(*last: Pair, count: int = 20) -> list[Pair]:
    """Pairs whose figures scatter a little, and others."""
    noise = torch.randn(count, 7, generator=torch.Generator().manual_seed(0)).tolist()
    scale = (0.03, 1.0, 0.5, 0.3, 0.2, 0.2, 0.2)
    usual = [
        pair(n, **{k: v + s * z for (k, v), s, z in zip(USUAL.items(), scale, row, strict=True)})
        for n, row in enumerate(noise)
    ]
    return [*usual, *last]


# Flags -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measure", "value", "flag"),
    [
        ("identity", 0.59, "somebody else"),
        ("likeness", 20.0, "drifted likeness"),
        ("landmarks", 30.0, "moved features"),
        ("niqe", 15.0, "unnatural texture"),
        ("sharpness", 9.0, "oversharp"),
        ("grain", 8.0, "grainy"),
        ("clipped", 30.0, "clipped"),
    ],
)
def test_what_stands_out_is_flagged(measure: str, value: float, flag: str):
    flags = find_flags(a_set(pair(99, **{measure: value})))
    assert flags.pop("face-99") == [flag]
    assert not any(flags.values()), "and nothing else"


def test_better_than_the_rest_is_not_flagged():
    better = {
        "identity": 0.0,
        "likeness": 60.0,
        "landmarks": 0.0,
        "niqe": 0.0,
        "sharpness": 0.0,
        "grain": 0.0,
    }
    assert not find_flags(a_set(pair(99, **better)))["face-99"]


def test_small_differences_in_an_even_set_are_not_flagged():
    even = [pair(n) for n in range(20)]
    slightly = {rule.metric: USUAL[rule.metric] + 0.9 * rule.worse * rule.slack for rule in RULES}
    assert not any(find_flags([*even, pair(99, **slightly)]).values())


def test_a_face_that_is_not_found_is_flagged_in_any_set():
    assert find_flags([pair(0), pair(1, landmarks=None)]) == {"face-0": [], "face-1": [NO_FACE]}


def test_somebody_else_is_flagged_first_and_in_any_set():
    changed = pair(99, identity=0.7, likeness=20.0, grain=8.0)
    assert find_flags([pair(0), changed])["face-99"] == ["somebody else"]
    assert find_flags(a_set(changed))["face-99"][0] == "somebody else"
    unknown = pair(99, identity=None)
    assert not find_flags(a_set(unknown))["face-99"], "what is not known is no fault"


def test_a_few_pairs_are_no_set_to_compare_with():
    assert not any(find_flags([pair(0), pair(1), pair(2, likeness=5.0)]).values())


def test_few_of_a_usual_set_are_flagged():
    flags = find_flags(a_set(count=400))
    assert sum(map(bool, flags.values())) <= 8


# A real set ------------------------------------------------------------------------------------


@pytest.fixture
def out(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A set of nine pairs; no face is found in the grey target of the third."""
    stand_in(monkeypatch)

    def find_landmarks(images: Tensor, network: nn.Module) -> Tensor:
        found = torch.eye(5, 2, dtype=torch.float64).expand(len(images), -1, -1)
        seen = images.flatten(1).std(1)[:, None, None] > 0.01
        return torch.where(seen, found + images.mean(), torch.nan)

    monkeypatch.setattr(face_batch, "find_landmarks", find_landmarks)
    monkeypatch.setattr(metrics, "niqe", lambda images: images.std().double()[None])
    for number in range(9):
        photograph(tmp_path / "photos" / f"{number}.png", seed=number)
    folder = tmp_path / "pairs"
    pairs = build(tmp_path / "photos", folder).pairs
    grey = torch.full_like(read_image(folder, "target", pairs.pairs[2]), 0.4)
    with PairWriter(folder) as writer:
        writer.put([writer.write_image(pairs.pairs[2], "target", grey)])
    return folder


def names(pairs: PairSet) -> list[str]:
    return [pair.name for pair in pairs.pairs]


def test_checking_writes_figures_and_flags(out: Path):
    before = read_pairs(out)
    steps: list[int] = []
    checked = check_pairs(out, detector(), on_step=lambda done, total, _: steps.append(done))
    assert steps == list(range(1, 10)) and names(checked) == names(before)
    assert checked == read_pairs(out)
    assert all(set(pair.measures) == {rule.metric for rule in RULES} for pair in checked.pairs)
    assert checked.pairs[2].flags[0] == NO_FACE
    assert [NO_FACE in pair.flags for pair in checked.pairs].count(True) == 1
    assert len(checked.kept) == 9, "flagged is not rejected"
    steps.clear()
    again = files(out)
    check_pairs(out, detector(), on_step=lambda done, total, _: steps.append(done))
    assert not steps and files(out) == again, "known figures are not measured again"


def test_an_interrupted_check_keeps_what_it_measured(out: Path):
    def on_step(done: int, total: int, preview: Any) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_pairs(out, detector(), on_step=on_step)
    assert sum(bool(pair.measures) for pair in read_pairs(out).pairs) == 4


def test_rejecting_and_taking_it_back(out: Path):
    before = read_pairs(out)
    by_name = names(before)[5]
    marked = mark_pairs(out, reject=["1", "3-4", by_name, f"{by_name}.png"])
    rejected = [n for n, pair in enumerate(marked.pairs, 1) if pair.status == "rejected"]
    assert rejected == [1, 3, 4, 6] and len(marked.kept) == 5
    assert all(marked.path(kind, marked.pairs[0]).is_file() for kind in ("lq", "target"))
    marked = mark_pairs(out, keep=["1", "3-4", "6"])
    assert len(marked.kept) == 9
    assert [replace(pair, reason="") for pair in marked.pairs] == list(before.pairs)


def test_flagged_pairs_are_rejected_only_when_asked(out: Path):
    check_pairs(out, detector())
    assert len(mark_pairs(out).kept) == 9
    marked = mark_pairs(out, reject_flagged=True)
    assert marked.pairs[2].reason.startswith(f"flagged: {NO_FACE}")
    mark_pairs(out, keep=["3"])
    marked = mark_pairs(out, reject_flagged=True)
    assert marked.pairs[2].status == "kept", "what was kept by hand stays"
    assert marked.pairs[2].reason == BY_HAND


def test_a_new_target_is_judged_anew(out: Path, tmp_path: Path):
    check_pairs(out, detector())
    mark_pairs(out, reject_flagged=True)
    other = replace(SETTINGS, sample=replace(SAMPLE, seed=1))
    report = build(tmp_path / "photos", out, other)
    assert report.pairs.pairs[2].status == "kept" and not report.pairs.pairs[2].flags
    assert not any(pair.measures for pair in report.pairs.pairs)
    assert not check_pairs(out, detector()).pairs[2].flags


def test_pairs_that_do_not_exist_are_told(out: Path, tmp_path: Path):
    pairs = read_pairs(out)
    for word in ("0", "10", "8-10", "5-3", "nobody", ""):
        with pytest.raises(InputError, match="1 to"):
            choose_pairs(pairs, [word])
    with pytest.raises(InputError, match="both"):
        mark_pairs(out, reject=["1-3"], keep=["2"])
    for use in (lambda: mark_pairs(tmp_path), lambda: check_pairs(tmp_path, detector())):
        with pytest.raises(InputError, match="manifest"):
            use()
    assert not list(tmp_path.glob("*.jsonl"))


def test_the_contact_sheet_shows_all_three(out: Path, monkeypatch: pytest.MonkeyPatch):
    check_pairs(out, detector())
    mark_pairs(out, reject=["1"])
    pairs = read_pairs(out)
    given: dict[str, Any] = {}
    real = sheets.lay_out

    def lay_out(images: Any, labels: Any, **options: Any) -> Sheet:
        given.update(options, labels=labels, count=len(images))
        return real(images, labels, **options)

    monkeypatch.setattr(sheets, "lay_out", lay_out)
    drawn = lay_out_pairs(pairs, cell=32).picture
    assert drawn.shape[:2] == (1, 3) and drawn.min() >= 0 and drawn.max() <= 1
    assert given["count"] == 27 and given["column_labels"][:3] == given["column_labels"][3:]
    assert given["labels"][0] == f"1: rejected by hand\n{pairs.pairs[0].name}"
    assert given["labels"][3] == f"2\n{pairs.pairs[1].name}" and "dB" in given["labels"][5]
    assert given["labels"][6].startswith(f"3: {NO_FACE}")
    assert given["frames"][2] == sheets.RED and given["frames"][8] == sheets.AMBER
    laid = lay_out_pairs(pairs, cell=32, verdicts=False)
    assert laid.picture.shape == drawn.shape and len(laid.boxes) == 9
    assert laid.boxes[1][0] > laid.boxes[0][2] > 3 * 32 and laid.boxes[2][1] > laid.boxes[0][3]
    assert "rejected" not in given["labels"][0] and given["frames"][2] != sheets.RED
    assert given["frames"][8] == sheets.AMBER, "flags are told all the same"
    few = lay_out_pairs(pairs, pairs.pairs[:1], cell=32).picture
    assert few.shape[2] < drawn.shape[2] and few.shape[3] < drawn.shape[3]


def test_unfinished_pairs_are_left_out_of_sheets(out: Path, tmp_path: Path):
    shutil.rmtree(tmp_path / "photos")
    photograph(tmp_path / "photos" / "only.png")
    with pytest.raises(InputError, match="finished pairs"):
        lay_out_pairs(PairSet(out, ()))
    guesses = photograph(tmp_path / "guesses" / "unrelated.png").parent
    folder = tmp_path / "other"
    pairs = build(tmp_path / "photos", folder, guesses=guesses).pairs
    assert len(pairs.pairs) == 1 and find_sources([folder / "lq"])
    with pytest.raises(InputError, match="finished pairs"):
        lay_out_pairs(pairs)
    assert not check_pairs(folder, detector()).pairs[0].measures
