"""The figures of a restorer, and the one number that says whether it is better."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bfr.errors import CancelledError, InputError
from bfr.finetune.validate import Panel, gain, make_panel, report, score, strip, table
from bfr.quality.likeness import consistency_psnr
from bfr.quality.niqe import niqe
from bfr.quality.perceptual import pyramid_distance
from bfr.quality.texture import sharpness
from tests.finetune_sets import SIZE, darker, faces, pairs_folder, tiny_restorer
from tests.pair_sets import restorer as grey_restorer

BASE = {
    "pairs distance": 0.4,
    "pairs niqe": 5.0,
    "pairs sharpness": 0.2,
    "pairs likeness": 33.0,
    "faces niqe": 6.0,
}


@pytest.fixture
def panel() -> Panel:
    target = faces(5)
    return Panel(darker(target), target, darker(target)[:4], faces(3, 1, 40))


def test_the_figures_are_those_of_evaluate(panel: Panel):
    restorer = tiny_restorer()
    figures, shown = score(restorer, panel)
    with torch.no_grad():
        restored = restorer.network(panel.lq).clamp(0, 1)
    wanted = {
        "pairs distance": pyramid_distance(restored, panel.target),
        "pairs niqe": niqe(restored),
        "pairs sharpness": sharpness(restored),
        "pairs likeness": consistency_psnr(restored, panel.lq, 1),
    }
    for name, values in wanted.items():
        assert figures[name] == pytest.approx(float(values.mean()), rel=1e-4), name
    assert torch.allclose(shown, restored[:4], atol=1e-5)
    assert {"faces niqe", "faces sharpness", "faces likeness"} == figures.keys() - wanted.keys()


def test_an_exact_copy_has_a_finite_likeness(panel: Panel):
    figures, _ = score(grey_restorer(0.0), replace(panel, faces=None))
    assert figures["pairs likeness"] == 100.0
    assert gain(figures, figures) == 0


def test_what_cannot_be_measured_is_no_gain():
    broken = {**BASE, "pairs niqe": None}
    assert gain(broken, BASE) == -math.inf
    assert gain(broken, broken) == 0
    assert gain({**BASE, "pairs distance": 0.2}, broken) == pytest.approx(0.5 / 3)
    assert " - " in table(broken, BASE)


def test_scoring_can_be_interrupted(panel: Panel):
    def stop(*_: object) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        score(tiny_restorer(), panel, stop)


def test_the_base_gains_nothing():
    assert gain(BASE, BASE) == 0.0


@pytest.mark.parametrize(
    ("name", "better"), [("pairs distance", 0.3), ("pairs niqe", 4.0), ("pairs sharpness", 0.3)]
)
def test_better_figures_gain(name: str, better: float):
    good = {**BASE, name: better}
    assert 0 < gain(good, BASE) == pytest.approx(-gain(BASE, good))
    assert gain({**good, "faces niqe": 5.0}, BASE) > gain(good, BASE)


def test_a_gain_is_a_mean_of_shares():
    assert gain({**BASE, "pairs distance": 0.2}, BASE) == pytest.approx(0.5 / 4)
    assert gain({**BASE, "pairs sharpness": 2.0}, BASE) == pytest.approx(0.9 / 4)
    ideal = {**BASE, "pairs distance": 0.0, "pairs niqe": 0.0, "faces niqe": 0.0}
    assert gain(ideal, BASE) == pytest.approx(3 / 4)
    assert gain({**BASE, "pairs sharpness": 0.0}, {**BASE, "pairs sharpness": 0.0}) == 0


def test_drifting_from_the_input_loses_all():
    good = {**BASE, "pairs distance": 0.1}
    assert gain({**good, "pairs likeness": 29.0}, BASE) == -math.inf
    assert gain({**good, "pairs likeness": 30.0}, BASE) > 0, "that is like enough"
    assert gain({**good, "pairs likeness": 60.0}, BASE) == gain(good, BASE), "and more is no gain"
    poor = {**BASE, "pairs likeness": 20.0}
    assert gain({**good, "pairs likeness": 17.5}, poor) > 0
    assert gain({**good, "pairs likeness": 16.5}, poor) == -math.inf


def test_the_table_says_what_is_better():
    lines = table(BASE, {**BASE, "pairs distance": 0.3, "pairs sharpness": 0.1}).splitlines()
    assert lines[0].split() == ["base", "tuned"] and len(lines) == 6
    assert lines[1].endswith("better") and lines[2].endswith("equal") and lines[3].endswith("worse")
    assert not lines[4].endswith(("better", "worse", "equal")), "likeness only guards"


def test_the_panel_is_read_from_the_pairs(tmp_path: Path):
    pairs = pairs_folder(tmp_path, 6)
    panel = make_panel(pairs, pairs.pairs[:5], faces(9, 2), most=7)
    assert panel.lq.shape == panel.target.shape == (5, 3, SIZE, SIZE)
    assert panel.guess.shape[0] == 4 and panel.faces is not None and len(panel.faces) == 7
    assert (darker(panel.target) - panel.lq).abs().max() < 1 / 255


@pytest.mark.parametrize(
    "wrong", [torch.zeros(2, 3, 32, 40), torch.full((1, 3, 32, 32), 1.5), torch.zeros(0, 3, 8, 8)]
)
def test_evaluation_faces_that_do_not_fit(tmp_path: Path, wrong: torch.Tensor):
    pairs = pairs_folder(tmp_path, 2)
    with pytest.raises(InputError, match="evaluation must"):
        make_panel(pairs, pairs.pairs, wrong, most=32)


def test_the_strip_shows_each_face_in_each_state(panel: Panel):
    base, now = panel.lq * 0.5, panel.lq * 0.25
    short, long = strip(panel), strip(panel, base=base, now=now)
    assert short.shape[0] == long.shape[0] == 1 and long.shape[-1] > short.shape[-1]
    for face in (panel.lq[3], panel.target[0], now[2], base[3]):
        assert face_in(long, face)
    assert not face_in(long, panel.lq[4]), "only the first four"


def face_in(picture: torch.Tensor, face: torch.Tensor) -> bool:
    """Whether a face is somewhere in a picture, to the bit."""
    corners = (picture[0] == face[:, :1, :1]).all(0).nonzero().tolist()
    return any(torch.equal(picture[0, :, y : y + SIZE, x : x + SIZE], face) for y, x in corners)


def test_the_report_warns(panel: Panel):
    base = {"step": 0, "figures": BASE, "gain": 0.0}
    better = {"step": 5, "figures": {**BASE, "pairs niqe": 4.0}, "gain": 0.05}
    worse = {"step": 9, "figures": {**BASE, "pairs niqe": 6.0}, "gain": -0.04}
    drifted = {**worse, "gain": None}
    assert "Better than the base: +5.0%" in report([base, better, worse], better, False)
    told = report([base, worse], base, False)
    assert "WARNING" in told and "the base is returned" in told and "-4.0%" in told
    assert "the last one is returned, as asked" in report([base, worse], base, True)
    assert "drifted from its input" in report([base, drifted], base, False)
    assert "before the base was scored" in report([], {}, False)
    assert panel.describe(held=True) == "5 pairs held back, and 3 evaluation faces"
    few = replace(panel, lq=panel.lq[:1], faces=None)
    assert few.describe(held=False) == "1 pair of these, which flatters: so few say little"
