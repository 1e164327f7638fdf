"""How noisy guesses are by themselves, and what the network is told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bfr.faces.align import align_faces
from bfr.prior.calls import LEAST, MEASURED_AT, measured_shifts, noise_in
from bfr.prior.constraint import Constraint
from bfr.prior.guidance import Guidance
from bfr.prior.load import load_prior
from bfr.prior.sample import sample_targets
from bfr.prior.settings import SampleSettings, fingerprint
from tests.portraits import astronaut, only
from tests.priors import Ideal, ideal_prior

SHIFT = 25


@pytest.fixture(scope="module")
def face() -> Tensor:
    """A clean face, 1×3×256×256 in [-1, 1]."""
    image, found = astronaut()
    return align_faces(image, only(found, image), 256)[0] * 2 - 1


def test_the_noisier_a_guess_the_more_the_network_is_told(face):
    prior = replace(load_prior(), shift=60)
    noise = torch.randn(face.shape, generator=torch.Generator().manual_seed(0))
    guesses = torch.cat([face, face + 0.05 * noise, face + 0.1 * noise])
    shifts = measured_shifts(prior, guesses, 3).tolist()
    assert 0 < shifts[0] < shifts[1] < shifts[2] <= 60
    assert measured_shifts(replace(prior, shift=3), guesses, 3).tolist() == [3, 3, 3]


def test_the_noise_of_a_known_difference():
    """Grey noise counts as much in the colours as in their grey; opposite colours have no grey."""
    grey = torch.full((1, 3, 4, 4), 0.5)
    colours = torch.tensor([0.5, -0.5, 0.0])[None, :, None, None].expand(1, 3, 4, 4)
    assert noise_in(grey).item() == pytest.approx(0.5)
    assert noise_in(colours).item() == pytest.approx((1 / 3 + 0) / 2)


def test_what_the_prior_would_leave_as_it_is_counts_as_least():
    prior = ideal_prior(0.3, shift=SHIFT)
    least = int(measured_shifts(prior, torch.full((1, 3, 32, 32), 0.3), 1))
    assert prior.schedule.alphas_cumprod[least] <= 1 / (1 + LEAST**2)
    assert prior.schedule.alphas_cumprod[least - 1] > 1 / (1 + LEAST**2)


def test_the_soft_hold_looks_once_and_the_papers_does_not():
    guess = torch.full((1, 3, 32, 32), 0.65)
    paper = SampleSettings(Constraint(4, start=60, stop=30), calls=5)
    for shift, guidance in ((SHIFT, Guidance(calls=5)), (0, Guidance(calls=5)), (SHIFT, None)):
        prior = ideal_prior(0.3, shift=shift)
        settings = paper if guidance is None else guidance.settings(prior)
        report = sample_targets(guess, prior, settings).report
        assert isinstance(prior.network, Ideal)
        told = prior.network.timesteps
        looks = bool(shift and guidance)
        assert len(told) == 5
        assert (told[0] == MEASURED_AT) == looks
        assert ("see how noisy" in report) == looks


def test_a_folder_of_pairs_tells_how_the_network_was_told():
    """Targets that were made with one shift for all are out of date, those of the paper are not."""
    prior = ideal_prior(0.3, shift=SHIFT)
    assert "shift" in fingerprint(prior, Guidance().settings(prior))
    assert "shift" not in fingerprint(prior, SampleSettings(Constraint(4, start=60, stop=30)))
    unshifted = ideal_prior(0.3)
    assert "shift" not in fingerprint(unshifted, Guidance().settings(unshifted))
