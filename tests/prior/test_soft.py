"""The soft hold: where it ends under an exact prior, what it leaves free, and masks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bfr.choices import SAMPLERS
from bfr.errors import InputError
from bfr.image.lowpass import lowpass
from bfr.prior.noise import seeded_noise
from bfr.prior.sample import sample, sample_targets
from bfr.prior.schedule import Schedule, respace
from bfr.prior.settings import SampleSettings
from bfr.prior.soft import SoftHold, detail_in, fill, hold_softly
from tests.priors import gaussian_prior, ideal_prior, tiny_prior

STEPS = respace(Schedule(), 250)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("error", [0.2, 0.5])
def test_a_wide_gaussian_prior_gives_the_exact_posterior(sampler: str, error: float):
    """Under a flat prior the hold is Bayes' rule: the guess, give or take its error."""
    guess = 5 * noise(2, 3, 32, 32)
    hold = SoftHold(factor=1, start=120, error=error)
    calls = None if sampler == "ddpm" else 40
    settings = SampleSettings(hold, sampler=sampler, calls=calls)
    draws = seeded_noise([1, 2], 32, 250, torch.device("cpu"))
    left = sample(gaussian_prior(5.0), guess, settings, draws) - guess
    slope = float((left * guess).mean() / guess.square().mean())
    assert slope == pytest.approx(-(error**2) / (25 + error**2), abs=0.01)
    assert float(left.std()) == pytest.approx(error, rel=0.1)


def test_the_weight_fades_with_the_noise_and_with_the_error():
    clean, guess = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)

    def pull(alpha_bar: float, **changes: float) -> float:
        return float(hold_softly(clean, guess, alpha_bar, SoftHold(1, **changes)).mean())  # pyright: ignore[reportArgumentType]

    assert pull(0.5, error=1.0) == pytest.approx(0.5)
    assert pull(0.5, error=0.0) == pytest.approx(1.0)
    assert pull(0.5, error=1.0, strength=0.5) == pytest.approx(0.25)
    assert pull(0.99, error=1.0) < pull(0.5, error=1.0) < pull(0.01, error=1.0)
    assert pull(0.5, error=2.0) < pull(0.5, error=0.5)


def test_only_the_low_frequencies_are_held():
    clean, guess = noise(1, 3, 32, 32), noise(1, 3, 32, 32, seed=1)
    moved = hold_softly(clean, guess, 0.5, SoftHold(4, error=0.0)) - clean
    assert torch.allclose(moved, lowpass(guess - clean, 4), atol=1e-6)


def test_detail_sharpens_and_softens():
    clean = noise(1, 3, 32, 32)
    spread = [
        float(hold_softly(clean, clean, 0.5, SoftHold(4, detail=detail)).std())
        for detail in (-0.5, 0.0, 0.5)
    ]
    assert spread[0] < spread[1] < spread[2]


def test_edges_are_let_go_of_later_than_smooth_places():
    guess = torch.full((1, 3, 256, 256), -0.5)
    guess[..., 128:] = 0.5
    detail = detail_in(guess)
    assert float(detail[..., 126:130].min()) > 0.7 and float(detail[..., :100].max()) < 1e-3
    half = detail_in(guess[..., ::2, ::2])  # the same face in fewer pixels
    assert float(half.mean()) == pytest.approx(float(detail.mean()), rel=0.05)
    clean = torch.zeros_like(guess)

    def pull(edges: float) -> Tensor:
        hold = SoftHold(1, error=1.0, edges=edges)
        return hold_softly(clean, guess, 0.5, hold, detail=detail).abs().mean((0, 1, 2))

    assert torch.equal(pull(0.0), torch.full((256,), 0.25))
    assert float(pull(1.0)[128]) > float(pull(0.5)[128]) > 0.3
    assert torch.allclose(pull(1.0)[:100], torch.tensor(0.25), atol=1e-3)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_batch_equals_its_singles_and_the_input_stays(sampler: str):
    prior, guesses = tiny_prior(), torch.rand(3, 3, 32, 32, generator=torch.Generator())
    before = guesses.clone()
    hold = SoftHold(2, start=40, edges=1.0)
    settings = SampleSettings(hold, sampler=sampler, calls=4, seed=5)
    masks = torch.zeros(3, 1, 32, 32)
    masks[1, :, 10:14] = 1
    whole = sample_targets(guesses, prior, settings, masks=masks).targets
    for i in range(3):
        one = replace(settings, seed=5 + i)
        single = sample_targets(guesses[i : i + 1], prior, one, masks=masks[i : i + 1]).targets
        assert torch.allclose(single, whole[i : i + 1], atol=1e-4)
    assert torch.equal(guesses, before)


def test_a_prior_of_another_size_gets_the_same_hold():
    hold = SoftHold(8, start=100, error=0.2, detail=0.3)
    assert hold.suited(512, STEPS) == hold
    small = hold.suited(256, STEPS)
    assert (small.factor, small.error, small.detail) == (4, pytest.approx(0.1), 0.3)
    ratio = STEPS.sigmas[small.start - 1] / STEPS.sigmas[hold.start - 1]
    assert float(ratio) == pytest.approx(0.5, rel=0.03)


def test_under_a_mask_the_prior_paints_and_elsewhere_the_guess_holds():
    guess, mask = torch.full((1, 3, 32, 32), 0.8), torch.zeros(1, 1, 32, 32)
    mask[..., 12:20, :] = 1
    guess[..., 12:20, :] = 0.0  # the scratch
    settings = SampleSettings(SoftHold(2, start=60, error=0.0), sampler="dpm-solver++", calls=6)
    prior = ideal_prior(0.2)  # of 0.6 in [0, 1]
    painted = sample_targets(guess, prior, settings, masks=mask).targets
    assert torch.allclose(painted[..., 13:19, :], torch.tensor(0.6), atol=0.02)
    assert torch.allclose(painted[..., :10, :], torch.tensor(0.8), atol=0.02)
    scratched = sample_targets(guess, prior, settings).targets
    assert float(scratched[..., 14:18, :].max()) < 0.2, "without a mask the scratch is held"


def test_a_hole_is_filled_from_around_it():
    guess, mask = torch.full((1, 3, 32, 32), 0.5), torch.zeros(1, 1, 32, 32)
    guess[..., 4:28, 10:20], mask[..., 4:28, 10:20] = -1.0, 1.0
    assert torch.allclose(fill(guess, mask), torch.tensor(0.5), atol=0.02)
    image = noise(1, 3, 32, 32)
    assert torch.equal(fill(image, torch.zeros(1, 1, 32, 32)), image)
    assert bool(torch.isfinite(fill(image, torch.ones(1, 1, 32, 32))).all())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"error": -0.1}, "error.*-0.1"),
        ({"error": float("inf")}, "error.*inf"),
        ({"error": float("nan")}, "error.*nan"),
        ({"detail": 1.5}, "detail.*1.5"),
        ({"edges": 1.5}, "edges.*1.5"),
        ({"factor": 0}, "factor.*0"),
        ({"start": 1}, "start.*1"),
        ({"strength": 2.0}, "strength.*2"),
    ],
)
def test_values_that_cannot_be(values: dict, message: str):
    with pytest.raises(InputError, match=message):
        SoftHold(**values)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (torch.zeros(1, 32, 32), "1×32×32"),
        (torch.zeros(1, 1, 32, 30), "32×30"),
        (torch.zeros(3, 1, 32, 32), "got 3"),
        (torch.full((1, 1, 32, 32), 2.0), "2 to 2"),
        (torch.full((1, 1, 32, 32), float("nan")), "nan"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks: Tensor, message: str):
    guesses, soft = torch.rand(2, 3, 32, 32), SampleSettings(SoftHold(2, start=10))
    with pytest.raises(InputError, match=message):
        sample_targets(guesses, tiny_prior(), soft, masks=masks)


def test_the_papers_hold_takes_no_mask():
    with pytest.raises(InputError, match="soft hold"):
        mask = torch.zeros(1, 1, 32, 32)
        sample_targets(torch.rand(1, 3, 32, 32), tiny_prior(), SampleSettings(), masks=mask)
