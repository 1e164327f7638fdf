"""How noisy guesses are by themselves, and what the network is told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bfr.faces.align import align_faces
from bfr.prior.calls import LEAST, MEASURED_AT, measured_noise, noise_in, shifts_for
from bfr.prior.constraint import Constraint
from bfr.prior.guidance import Guidance
from bfr.prior.load import load_prior
from bfr.prior.sample import sample_targets
from bfr.prior.settings import SampleSettings, fingerprint
from bfr.prior.soft import SoftHold, hold_softly
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
    own = measured_noise(prior, guesses, 3)
    assert LEAST <= own[0] < own[1] < own[2]
    shifts = shifts_for(prior, own).tolist()
    assert 0 < shifts[0] < shifts[1] < shifts[2] <= 60
    assert shifts_for(replace(prior, shift=3), own).tolist() == [3, 3, 3]


def test_the_noise_of_a_known_difference():
    """Grey noise counts as much in the colours as in their grey; opposite colours have no grey."""
    grey = torch.full((1, 3, 4, 4), 0.5)
    colours = torch.tensor([0.5, -0.5, 0.0])[None, :, None, None].expand(1, 3, 4, 4)
    assert noise_in(grey).item() == pytest.approx(0.5)
    assert noise_in(colours).item() == pytest.approx((1 / 3 + 0) / 2)


def test_what_the_prior_would_leave_as_it_is_counts_as_least():
    prior = ideal_prior(0.3, shift=SHIFT)
    own = measured_noise(prior, torch.full((1, 3, 32, 32), 0.3), 1)
    assert own.item() == pytest.approx(LEAST)
    least = int(shifts_for(prior, own))
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


def test_noisy_guesses_are_let_go_of_earlier():
    """At the usual noise as if the error were √2 times as large; an error of 0 never lets go."""
    guess, clean = torch.ones(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    noise = torch.tensor([0.05, 0.0])
    held = hold_softly(clean, guess, 0.99, SoftHold(1, error=0.1), noise=noise)
    for face, error in zip(held, (0.1 * 2**0.5, 0.1), strict=True):
        alone = hold_softly(clean[:1], guess[:1], 0.99, SoftHold(1, error=error))
        assert torch.allclose(face, alone[0], atol=1e-6)
    assert torch.equal(hold_softly(clean, guess, 0.99, SoftHold(1, error=0), noise=noise), guess)
