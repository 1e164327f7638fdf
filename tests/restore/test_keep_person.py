"""Keeping the person: the share that is taken, the report, and what cannot be read."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from bfr.errors import InputError
from bfr.faces.identity import Identity
from bfr.image.geometry import face_template
from bfr.restore import keep_person as module
from bfr.restore.keep_person import keep_person
from tests.portraits import face_at

LIMIT = 0.2


class Mean(torch.nn.Module):
    """Stands in for the recognition network: a face's mean colours are its person."""

    def forward(self, chips: Tensor) -> Tensor:
        return chips.mean((2, 3))


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Identity:
    monkeypatch.setattr(
        module, "calibrated_limit", lambda unsteady, amount: torch.full_like(unsteady, LIMIT)
    )
    template = tuple((x, y) for x, y in face_template(64).tolist())
    return Identity(Mean(), "means", 64, template)


def grey(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None, None].expand(-1, 3, 64, 64).clone()


FACES = [face_at(100, 100, 40), face_at(50, 50, 40), face_at(9, 9, 40)]


def test_as_much_is_taken_as_leaves_the_person(identity: Identity):
    crops, restored = grey(0.2, 0.2, 0.2), grey(0.2, 0.28, 0.6)
    before = crops.clone(), restored.clone()
    people = keep_person(crops, restored, FACES, identity)
    assert people.shares[:2] == (1, 1) and torch.equal(people.crops[:2], restored[:2])
    apart = math.sqrt(3) * 0.4  # between the embeddings of the third
    assert people.shares[2] == pytest.approx(LIMIT / apart, abs=1 / 32)
    assert people.distances[2] <= LIMIT < (people.shares[2] + 1 / 32) * apart + 1e-6
    assert people.distances[:2] == pytest.approx((0, 0.08 * math.sqrt(3)), abs=1e-4)
    assert torch.equal(crops, before[0]) and torch.equal(restored, before[1])
    singles = [
        keep_person(crops[n : n + 1], restored[n : n + 1], FACES[:1], identity).shares[0]
        for n in range(3)
    ]
    assert singles == pytest.approx(people.shares)


def test_an_amount_of_0_only_measures(identity: Identity):
    people = keep_person(grey(0.2), grey(0.9), FACES[:1], identity, 0)
    assert people.shares == (1,) and people.distances[0] == pytest.approx(1.21244, abs=1e-3)


def test_a_face_that_cannot_be_read_is_restored_whole_and_has_no_distance(identity: Identity):
    tiny = [face_at(100, 100, 4)]
    people = keep_person(grey(0.2), grey(0.9), tiny, identity)
    assert people.shares == (1,) and math.isnan(people.distances[0])
    assert people.entries() == [{"identity_distance": None, "restored_share": 1}]
    assert "unknown" in people.describe(0)
    unplaced = keep_person(grey(0.2), grey(0.9), None, identity)
    assert unplaced.shares[0] < 1, "crops without a place are all read"
    assert "%" in unplaced.describe(0)


def test_without_a_network_or_faces_nothing_is_done(identity: Identity):
    restored = grey(0.9)
    people = keep_person(grey(0.2), restored, FACES[:1], None)
    assert people.crops is restored and math.isnan(people.distances[0])
    assert keep_person(restored[:0], restored[:0], [], identity).shares == ()


def test_a_larger_amount_allows_less():
    unsteady = torch.tensor([0.0, 0.3])
    limits = [module.calibrated_limit(unsteady, amount) for amount in (0.1, 0.5, 1.0)]
    assert all((a > b).all() for a, b in pairwise(limits))
    assert all(limit[1] >= limit[0] for limit in limits), "damage widens it"


def test_bad_input_is_refused(identity: Identity):
    for amount in (-0.1, 1.1, math.nan):
        with pytest.raises(InputError, match="keep_person"):
            keep_person(grey(0.2), grey(0.2), FACES[:1], identity, amount)
    with pytest.raises(InputError, match="2 restored of 1 crop"):
        keep_person(grey(0.2), grey(0.2, 0.2), None, identity)
    with pytest.raises(InputError, match="3 places"):
        keep_person(grey(0.2), grey(0.2), FACES, identity)
