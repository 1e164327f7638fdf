"""Noise schedules, respacing and the posterior of a step."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from safetensors.torch import load_file

from benchmarks.published import GOLDEN
from bfr.errors import InputError
from bfr.prior.schedule import Respaced, Schedule, noised, posterior, respace

PUBLISHED = Schedule()
DIFFUSERS = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}


@pytest.mark.parity
@pytest.mark.parametrize("dialect", ["difface", "plain"])
def test_respacing_is_the_published_one(dialect: str):
    expected = load_file(GOLDEN / f"sampler_{dialect}.safetensors")["timestep_map"]
    assert torch.equal(respace(PUBLISHED, 250).timesteps, expected)


@pytest.mark.parity
@pytest.mark.parametrize("dialect", ["difface", "plain"])
def test_noise_of_the_start_is_the_published_one(dialect: str):
    """Ten steps follow, 9 to 0: the published code noises one step further than it begins."""
    run = load_file(GOLDEN / f"sampler_{dialect}.safetensors")
    start = noised(run["reference"], respace(PUBLISHED, 250).alphas_cumprod[10], run["noise"][0])
    assert (start - run["initial"]).abs().max() <= 1e-6


@pytest.mark.parametrize("shape", list(DIFFUSERS))
@pytest.mark.parametrize(("steps", "first", "last"), [(1000, 1e-4, 0.02), (200, 1e-3, 0.05)])
def test_schedule_is_that_of_diffusers(shape: str, steps: int, first: float, last: float):
    theirs = DDPMScheduler(steps, first, last, DIFFUSERS[shape])  # pyright: ignore[reportArgumentType]
    alpha_bar = Schedule(shape, steps, first, last).alphas_cumprod
    assert alpha_bar.dtype == torch.float64
    assert torch.allclose(alpha_bar, theirs.alphas_cumprod.double(), atol=1e-5)


@pytest.mark.parametrize("shape", list(DIFFUSERS))
def test_noise_only_grows(shape: str):
    alpha_bar = Schedule(shape).alphas_cumprod
    assert 0.999 < alpha_bar[0] < 1
    assert 0 < alpha_bar[-1] < 0.01
    assert bool((alpha_bar.diff() < 0).all())


@pytest.mark.parametrize("steps", [2, 3, 7, 250, 333, 999, 1000])
def test_respacing_goes_from_the_first_to_the_last_step(steps: int):
    respaced = respace(PUBLISHED, steps)
    assert len(respaced) == steps
    assert respaced.timesteps[0] == 0
    assert respaced.timesteps[-1] == 999
    assert bool((respaced.timesteps.diff() > 0).all())
    assert torch.equal(respaced.alphas_cumprod, PUBLISHED.alphas_cumprod[respaced.timesteps])


@pytest.mark.parametrize("steps", [0, 1, -5, 1001, 2.5, "250"])
def test_steps_that_cannot_be(steps):
    with pytest.raises(InputError, match="1000"):
        respace(PUBLISHED, steps)


def test_noised_at_both_ends():
    x, noise = torch.randn(2, 2, 3, 8, 8)
    assert torch.equal(noised(x, 1.0, noise), x)
    assert torch.equal(noised(x, 0.0, noise), noise)
    result = noised(x, PUBLISHED.alphas_cumprod[500], noise)
    assert result.dtype == torch.float32
    assert torch.allclose(result, noised(x, float(PUBLISHED.alphas_cumprod[500]), noise))


@pytest.mark.parametrize("index", [0, 1, 100, 249])
def test_posterior_is_bayes_rule(index: int):
    """q(x_{t-1} | x_t, x_0) is q(x_t | x_{t-1})·q(x_{t-1} | x_0), normalised."""
    steps = respace(PUBLISHED, 250)
    alpha_bar, before = float(steps.alphas_cumprod[index]), float(steps.alphas_cumprod_prev[index])
    beta = 1 - alpha_bar / before
    if index:
        precision = (1 - beta) / beta + 1 / (1 - before)
        clean, noisy = before**0.5 / (1 - before) / precision, (1 - beta) ** 0.5 / beta / precision
    else:  # the first step ends at the clean image
        clean, noisy = 1.0, 0.0
        second = 1 - float(steps.alphas_cumprod[1]) / alpha_bar
        precision = (1 - second) / second + 1 / (1 - alpha_bar)
    found = posterior(steps, index)
    assert found.clean == pytest.approx(clean)
    assert found.noisy == pytest.approx(noisy)
    assert found.log_variance == pytest.approx(-math.log(precision))
    assert found.log_beta == pytest.approx(math.log(beta))
    assert found.log_variance <= found.log_beta or index == 0


def test_posterior_is_that_of_diffusers():
    theirs = DDPMScheduler(variance_type="fixed_small_log", clip_sample=False)
    steps = respace(PUBLISHED, 1000)
    for t in (1, 400, 999):
        half = 0.5 * posterior(steps, t).log_variance
        found = float(theirs._get_variance(t))
        assert found == pytest.approx(math.exp(half), rel=1e-3)  # theirs is float32


def test_some_of_the_steps_are_steps_too():
    all_steps = respace(PUBLISHED, 1000)
    some = respace(PUBLISHED, 250)
    chosen = Respaced(all_steps.timesteps[some.timesteps], all_steps.alphas_cumprod[some.timesteps])
    assert posterior(chosen, 30) == posterior(some, 30)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"shape": "sigmoid"}, "linear, scaled_linear, cosine"),
        ({"steps": 1}, "got 1\\."),
        ({"steps": 10.5}, "got 10.5"),
        ({"first": 0.0}, "first"),
        ({"first": 0.03}, "first 0.03"),
        ({"last": 1.5}, "last 1.5"),
    ],
)
def test_wrong_schedule(wrong: dict, match: str):
    with pytest.raises(InputError, match=match):
        Schedule(**wrong)
