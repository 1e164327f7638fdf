"""Guidance as people set it: old meanings, sliders, single values, and what each prior gets."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from bfr.errors import InputError
from bfr.faces.align import align_faces
from bfr.image.lowpass import lowpass
from bfr.prior.constraint import Constraint
from bfr.prior.guidance import Guidance
from bfr.prior.load import load_prior
from bfr.prior.sample import sample_targets
from bfr.prior.settings import SampleSettings, for_prior
from bfr.prior.soft import SoftHold
from tests.portraits import astronaut, only
from tests.priors import ideal_prior

PRIOR = ideal_prior(size=512)


@pytest.mark.parametrize(("start", "stop"), [(150, 90), (60, 40), (60, 0), (2, 1)])
@pytest.mark.parametrize("size", [128, 512])
def test_start_and_stop_of_older_workflows_mean_the_papers_hold(start: int, stop: int, size: int):
    old = {"start": start, "stop": stop, "factor": 8, "strength": 0.9, "sampler": "ddpm"}
    settings = Guidance(**old, calls=0).settings(prior := ideal_prior(size=size))
    paper = SampleSettings(Constraint(8, 0.9, start, stop))
    assert settings == for_prior(paper, prior)


def test_numbers_of_the_prior_itself_are_taken_as_they_are():
    guidance = Guidance(start=60, stop=40, factor=4, suit_prior=False, calls=15)
    expected = SampleSettings(Constraint(4, 1.0, 60, 40), sampler="dpm-solver++", calls=15)
    assert guidance.settings(ideal_prior(size=128)) == expected


def test_freedom_moves_error_start_and_factor_up():
    holds = [Guidance(freedom=n / 10).settings(PRIOR).constraint for n in range(11)]
    for low, high in pairwise(holds):
        assert isinstance(low, SoftHold) and isinstance(high, SoftHold)
        assert low.error < high.error and low.start < high.start and low.factor <= high.factor
    assert holds[5].factor == 2 < holds[-1].factor, "to the middle the least, which looks best"
    papers = [Guidance(freedom=n / 4, hold="paper").settings(PRIOR).constraint for n in range(5)]
    for low, high in pairwise(papers):
        assert isinstance(low, Constraint) and isinstance(high, Constraint)
        assert low.start < high.start and low.stop < high.stop and low.factor <= high.factor


def test_single_values_override_the_slider():
    given = Guidance(hold="soft", start=70, factor=16, error=0.5, freedom=0.9, detail=0.5)
    hold = given.settings(PRIOR).constraint
    assert isinstance(hold, SoftHold)
    assert (hold.start, hold.factor, hold.error) == (70, 16, 0.5) and hold.detail > 0


@pytest.mark.parametrize("size", [64, 256, 512])
@pytest.mark.parametrize("highest", [200, 640, 999])
@pytest.mark.parametrize("hold", ["soft", "paper"])
def test_automatic_values_suit_every_prior(size: int, highest: int, hold: str):
    prior = ideal_prior(size=size, highest_step=highest)
    for freedom in (0.0, 0.5, 1.0):
        for steps in (50, 250, 1000):
            Guidance(freedom=freedom, hold=hold, steps=steps).settings(prior)


def test_a_start_beyond_what_the_prior_has_learned_is_refused():
    with pytest.raises(InputError, match=r"50 of 250.*150"):
        Guidance(start=150).settings(ideal_prior(size=512, highest_step=200))


def test_edges_are_held_more_firmly_beyond_a_quarter_of_freedom():
    def edges(**values: float) -> float:
        hold = Guidance(**values).settings(PRIOR).constraint  # pyright: ignore[reportArgumentType]
        assert isinstance(hold, SoftHold)
        return hold.edges

    assert [edges(freedom=n / 8) for n in range(6)] == [0, 0, 0, 0.5, 1, 1]
    assert edges(freedom=0.5, error=0.4) == 0


def test_reports_speak_in_the_widgets_numbers():
    guess = torch.rand(1, 3, 64, 64)
    prior = ideal_prior(size=64)
    asked = Guidance(start=60, stop=40, factor=8, calls=5)
    report = sample_targets(guess, prior, asked.settings(prior)).report
    assert "start 60" in report and "stop 40" in report and "factor 8" in report
    assert f"step {asked.settings(prior).constraint.start} of 250" in report
    report = sample_targets(guess, prior, Guidance(freedom=0.5).settings(prior)).report
    assert "freedom 0.5" in report and "edges 1" in report


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"freedom": 1.1}, "freedom.*1.1"),
        ({"freedom": float("nan")}, "freedom.*nan"),
        ({"detail": -2}, "detail.*-2"),
        ({"hold": "hard"}, "soft.*'hard'"),
        ({"start": -1}, "start.*-1"),
        ({"error": float("inf")}, "error.*inf"),
        ({"hold": "soft", "stop": 40}, "stop.*40"),
        ({"hold": "paper", "error": 0.5}, "error.*0.5"),
        ({"start": 60, "stop": 40, "detail": 0.5}, "detail.*0.5"),
    ],
)
def test_values_without_sense_or_effect_are_refused(values: dict, message: str):
    with pytest.raises(InputError, match=message):
        Guidance(**values)


def test_from_one_end_of_the_slider_to_the_other_the_face_changes_step_by_step():
    """With the embedded prior: ever less like the guess, and clearly so at the end."""
    prior = load_prior()
    image, face = astronaut(2.0)
    guess = align_faces(image, only(face, image), 256)[0]
    coarse, fine = [], []
    for freedom in (0.0, 0.3, 0.6, 1.0):
        settings = replace(Guidance(freedom=freedom, calls=4).settings(prior), seed=3)
        target = sample_targets(guess, prior, settings).targets
        coarse.append(float(lowpass(target - guess, 8).square().mean().sqrt()))
        fine.append(float((target - guess).square().mean().sqrt()))
    assert coarse == sorted(coarse) and fine == sorted(fine)
    assert coarse[-1] > 4 * coarse[0] and fine[-1] > 2 * fine[0]
