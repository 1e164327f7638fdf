"""The faces that restorers are scored on, and their figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bfr.errors import CancelledError, InputError
from bfr.faces.identity import load_identity
from bfr.finetune.figures import Figures
from bfr.finetune.validate import (
    Panel,
    first_looks,
    make_panel,
    means,
    measure,
    restore,
    strip,
    table,
)
from bfr.quality.likeness import consistency_psnr
from bfr.quality.niqe import niqe
from bfr.quality.perceptual import pyramid_distance
from tests.finetune_sets import SIZE, darker, faces, pairs_folder, tiny_restorer
from tests.pair_sets import restorer as grey_restorer

BASE = {"niqe": 5.0, "sharpness": 0.2, "distance": 0.4, "likeness": 33.0}


def measured(restored: list[torch.Tensor], panel: Panel) -> Figures:
    """The figures of restored faces against themselves."""
    identity = load_identity()
    return measure(restored, panel, first_looks(restored, panel, identity), identity)


@pytest.fixture
def panel() -> Panel:
    target = faces(5)
    return Panel(darker(target), target, darker(target)[:4], 3, faces(3, 1, 40))


def test_the_figures_are_those_of_evaluate(panel: Panel):
    restored = restore(replace(tiny_restorer(), precision="float32"), panel)
    with torch.no_grad():
        wanted = tiny_restorer().network(panel.lq).clamp(0, 1)
    assert torch.allclose(restored[0], wanted, atol=1e-5) and len(restored[1]) == 3
    found = measured(restored, panel)
    assert found["distance"] == pytest.approx(pyramid_distance(wanted, panel.target).tolist(), 1e-3)
    assert found["likeness"][:5] == pytest.approx(
        consistency_psnr(wanted, panel.lq, 1).tolist(), 1e-3
    )
    assert found["niqe"][5:] == pytest.approx(niqe(restored[1]).tolist(), 1e-3)
    assert {len(values) for name, values in found.items() if name != "distance"} == {8}
    assert max(found["moved"] + found["colour"]) == pytest.approx(0, abs=1e-6), "against itself"


def test_an_exact_copy_has_a_finite_likeness(panel: Panel):
    panel = replace(panel, faces=None)
    restored = restore(grey_restorer(0.0), panel)
    found = measured(restored, panel)
    assert set(found["likeness"]) == {100.0}


def test_scoring_can_be_interrupted(panel: Panel):
    def stop(*_: object) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        restore(tiny_restorer(), panel, stop)


def test_means_leave_out_what_cannot_be_measured():
    found = means({"niqe": [1.0, float("nan"), 3.0], "sharpness": [float("nan")]})
    assert found == {"niqe": 2.0, "sharpness": None}
    assert " - " in table(found, BASE)


def test_the_table_says_what_is_better():
    after = {**BASE, "niqe": 4.0, "sharpness": 0.1, "distance": 0.1}
    lines = table(BASE, after).splitlines()
    assert lines[0].split() == ["base", "tuned"] and len(lines) == 5
    assert lines[1].endswith("better") and lines[2].endswith("worse")
    assert not any(line.endswith(("better", "worse", "equal")) for line in lines[3:])


def test_the_panel_is_read_from_the_pairs(tmp_path: Path):
    pairs = pairs_folder(tmp_path, 20)
    panel = make_panel(pairs, pairs.pairs[:5], pairs.pairs[5:], faces(9, 2), most=7)
    assert panel.lq.shape == panel.target.shape == (16, 3, SIZE, SIZE) and panel.held == 5
    assert panel.guess.shape[0] == 4 and panel.faces is not None and len(panel.faces) == 7
    assert (darker(panel.target) - panel.lq).abs().max() < 1 / 255
    many = make_panel(pairs, pairs.pairs[:18], pairs.pairs[18:], None, most=7)
    assert len(many.lq) == many.held == 18


@pytest.mark.parametrize(
    "wrong", [torch.zeros(2, 3, 32, 40), torch.full((1, 3, 32, 32), 1.5), torch.zeros(0, 3, 8, 8)]
)
def test_evaluation_faces_that_do_not_fit(tmp_path: Path, wrong: torch.Tensor):
    pairs = pairs_folder(tmp_path, 2)
    with pytest.raises(InputError, match="evaluation must"):
        make_panel(pairs, pairs.pairs, (), wrong, most=32)


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


def test_the_panel_says_what_the_figures_rest_on(panel: Panel):
    assert panel.describe() == "3 faces held back, 2 faces trained with, 3 faces to evaluate"
    assert replace(panel, lq=panel.lq[:1], held=0, faces=None).describe() == "1 face trained with"
