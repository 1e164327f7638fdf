"""The guard's verdict on sabotaged targets, with the two faces of the sample photographs.

A restorer tuned to them is simulated: half the way from the base's faces to the targets.
`benchmarks/guard.py` does the same with many faces, pseudo targets and real training.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.sabotage import LEARNED, REPORT, SIZE, TUNING, Case, Faces
from bfr.damage.degrade import degrade_faces
from bfr.faces.identity import Identity, load_identity
from bfr.finetune.figures import Figures, compare
from bfr.finetune.guard import judge
from bfr.finetune.look import Given, Look, look, look_at_given
from bfr.restore.load import load_restorer
from bfr.restore.restorer import restore_faces
from tests.portraits import samples

CASES = {
    name: case
    for name, case in {**TUNING, **REPORT}.items()
    if case.lr is None and case.damage == "gfpgan" and "pseudo" not in name
}


@pytest.fixture(scope="module")
def identity() -> Identity:
    return load_identity()


@pytest.fixture(scope="module")
def faces() -> Faces:
    pair = samples(SIZE)
    clean = torch.cat([pair, pair.flip(-1)])  # each damaged in another way
    lq = degrade_faces(clean, "gfpgan", 7)
    guess = restore_faces(lq, load_restorer())
    return Faces(lq, guess, guess, clean)


@pytest.fixture(scope="module")
def base(faces: Faces, identity: Identity) -> Look:
    return look(faces.guess, identity)


@pytest.fixture(scope="module")
def unchanged(base: Look) -> Figures:
    return compare(base, base)


@pytest.fixture(scope="module")
def given(faces: Faces, identity: Identity) -> Given:
    return look_at_given(faces.lq, identity)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_only_what_deserves_it_is_accepted(
    name: str, faces: Faces, identity: Identity, base: Look, unchanged: Figures, given: Given
):
    case: Case = CASES[name]
    restored = faces.guess.lerp(case.targets(faces), LEARNED).clamp(0, 1)
    figures = compare(base, look(restored, identity), given)
    verdict = judge(figures, unchanged)
    means = {key: round(sum(values) / len(values), 3) for key, values in figures.items()}
    assert verdict.better == case.good, (verdict.describe(), means)
