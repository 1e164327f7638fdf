"""The samplers alone, on networks that are formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bfr.choices import SAMPLERS
from bfr.prior.prior import Predicted, predict
from bfr.prior.samplers import Predict, ddim, ddpm, multistep, spread
from bfr.prior.schedule import Respaced, Schedule, noised, respace
from tests.priors import gaussian_share, tiny_prior

STEPS = respace(Schedule(), 250)
FIRST = Respaced(STEPS.timesteps[:12], STEPS.alphas_cumprod[:12])
SPREAD = torch.tensor(spread(150, 12)) - 1
FEW = Respaced(STEPS.timesteps[SPREAD], STEPS.alphas_cumprod[SPREAD])


def leave(x: Tensor, index: int, clean: Tensor) -> Tensor:
    return x


def drawn(seed: int = 0):
    """Noise by index, whatever is asked for in between."""

    def noise(index: int) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * seed + index)
        return torch.randn(2, 3, 32, 32, generator=generator)

    return noise


def run(
    sampler: str, x: Tensor, steps: Respaced, predict: Predict, after=leave, noise=None
) -> Tensor:
    noise = noise or drawn()
    if sampler == "ddpm":
        return ddpm(x, steps, predict, noise, after)
    if sampler.startswith("ddim"):
        return ddim(x, steps, predict, noise, after, float(sampler[4:] or 0))
    return multistep(x, steps, predict, after, sampler)


def exactly(face: Tensor, share: float = 0.0) -> Predict:
    return lambda x, index: Predicted(face.expand_as(x), share)


def gaussian(steps: Respaced, deviation: float = 0.5) -> Predict:
    """The exact answer where faces are normal noise: E[x_0 | x_t] is a share of x_t."""

    def predict(x: Tensor, index: int) -> Predicted:
        return Predicted(gaussian_share(deviation, float(steps.alphas_cumprod[index])) * x, 0.0)

    return predict


@pytest.mark.parametrize("steps", [FIRST, FEW], ids=["all", "few"])
@pytest.mark.parametrize("sampler", [*SAMPLERS, "ddim0.5", "ddim1"])
def test_an_exact_prior_gives_its_face(sampler: str, steps: Respaced):
    face = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    x = noised(torch.zeros(2, 3, 32, 32), float(steps.alphas_cumprod[-1]), drawn(5)(0))
    result = run(sampler, x, steps, exactly(face))
    assert torch.allclose(result, face.expand_as(x), atol=1e-5)


@pytest.mark.parametrize("sampler", [*SAMPLERS, "ddim1"])
def test_every_step_is_called_once_noisiest_first(sampler: str):
    called, after = [], []

    def predict(x: Tensor, index: int) -> Predicted:
        called.append(index)
        return Predicted(torch.full_like(x, index), 0.0)

    def see(x: Tensor, index: int, clean: Tensor) -> Tensor:
        after.append((index, float(clean[0, 0, 0, 0])))
        return x

    run(sampler, drawn()(0), FEW, predict, see)
    assert called == list(reversed(range(12)))
    assert after == [(index, index) for index in called]


@pytest.mark.parametrize("sampler", [*SAMPLERS, "ddim1"])
def test_what_after_gives_goes_on(sampler: str):
    seen = []

    def predict(x: Tensor, index: int) -> Predicted:
        seen.append(float(x.mean()))
        return Predicted(x, 0.0)

    result = run(
        sampler, drawn()(0), FEW, predict, lambda x, index, _: torch.full_like(x, index / 10)
    )
    assert seen[1:] == pytest.approx([index / 10 for index in range(11, 0, -1)])
    assert not result.any(), "index 0 gave the last"


@pytest.mark.parametrize("sampler", [*SAMPLERS, "ddim1"])
def test_a_constrained_gaussian_ends_at_its_posterior(sampler: str):
    """Faces are N(0, v) and the guess is one of them with noise: the posterior is known exactly."""
    deviation, error = 0.5, 0.3
    calls = 250 if sampler in ("ddpm", "ddim1") else 40
    steps = STEPS.at(torch.tensor(spread(250, calls)) - 1)
    guess = deviation * drawn(7)(0) + error * drawn(8)(0)

    def predict(x: Tensor, index: int) -> Predicted:
        alpha_bar = float(steps.alphas_cumprod[index])
        variance = (1 - alpha_bar) / alpha_bar
        spread_left = deviation**2 * variance / (deviation**2 + variance)
        free = gaussian_share(deviation, alpha_bar) * x
        return Predicted(torch.lerp(free, guess, spread_left / (spread_left + error**2)), 0.0)

    result = run(sampler, drawn(9)(0), steps, predict)
    slope = deviation**2 / (deviation**2 + error**2)
    assert float((result * guess).mean() / guess.square().mean()) == pytest.approx(slope, rel=0.03)
    left = float((result - slope * guess).std())
    assert left == pytest.approx(deviation * error / (deviation**2 + error**2) ** 0.5, rel=0.08)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large", "learned_range"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_every_sampler_with_every_prior(prediction: str, variance: str):
    prior = tiny_prior(prediction=prediction, variance=variance)
    x = drawn()(0)
    with torch.no_grad():
        for sampler in SAMPLERS:
            result = run(sampler, x, FEW, lambda x, index: predict(prior, x, FEW, index))
            assert result.abs().max() <= 1 + 1e-5, "the last clean face, which is clipped"
            assert result.std() > 0.1


def test_full_eta_is_ancestral_sampling_with_the_small_variance():
    prior = tiny_prior(variance="fixed_small")

    def ask(x: Tensor, index: int) -> Predicted:
        return predict(prior, x, FIRST, index)

    with torch.no_grad():
        ancestral = run("ddpm", drawn()(0), FIRST, ask)
        result = run("ddim1", drawn()(0), FIRST, ask)
    assert torch.allclose(ancestral, result, atol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_noise_is_drawn_only_where_it_counts(sampler: str):
    asked: list[int] = []

    def noise(index: int) -> Tensor:
        asked.append(index)
        return drawn()(index)

    run(sampler, drawn()(0), FEW, gaussian(FEW), noise=noise)
    assert asked == (list(range(11, 0, -1)) if sampler == "ddpm" else [])


@pytest.mark.parametrize("sampler", SAMPLERS[1:])
def test_few_steps_follow_the_path_of_many(sampler: str):
    """The deterministic samplers solve one equation; higher orders need fewer steps."""

    def end(sampler: str, calls: int) -> Tensor:
        chosen = torch.tensor(spread(150, calls)) - 1
        steps = Respaced(STEPS.timesteps[chosen], STEPS.alphas_cumprod[chosen])
        return run(sampler, x, steps, gaussian(steps))

    x = drawn()(0)
    exact = end("ddim", 150)
    error = float((end(sampler, 25) - exact).abs().mean() / exact.abs().mean())
    assert error < (0.08 if sampler == "ddim" else 0.02)
    assert (exact.std() / 0.5 - 1).abs() < 0.1, "the faces' own deviation"


def test_unipc_does_not_undo_a_change():
    """Its corrector starts from the sample before the change; it is off where there was one."""

    def end(changed: range) -> Tensor:
        seen: list[Tensor] = []

        def predict(x: Tensor, index: int) -> Predicted:
            seen.append(x)
            return Predicted(torch.zeros_like(x), 0.0)

        def push(x: Tensor, index: int, clean: Tensor) -> Tensor:
            return x + 1 if index == 11 else x

        multistep(torch.zeros(1, 3, 8, 8), FEW, predict, push, "unipc", changed)
        return seen[2]

    assert end(range(11, 12)).abs().min() > 0.5, "the change is still there a step later"
    assert not end(range(0)).any(), "else the corrector has undone it"


@pytest.mark.parametrize("start", [2, 9, 150, 250])
def test_calls_spread_over_all_steps(start: int):
    for calls in range(2, start + 1):
        steps = spread(start, calls)
        assert len(steps) == calls
        assert steps == sorted(set(steps))
        assert steps[0] >= 1
        assert steps[-1] == start
    assert spread(start, start) == list(range(1, start + 1))


@pytest.mark.parametrize("sampler", ["dpm-solver++", "unipc"])
def test_25_calls_keep_fine_detail(sampler: str):
    """Detail of 5/255, on a prior that knows it exactly; spread evenly, half of it is lost."""

    def detail(numbers: list[int]) -> float:
        chosen = torch.tensor(numbers) - 1
        steps = Respaced(STEPS.timesteps[chosen], STEPS.alphas_cumprod[chosen])
        return float(run(sampler, drawn()(0), steps, gaussian(steps, 0.04)).std() / 0.04)

    assert detail(spread(150, 25)) == pytest.approx(1, abs=0.1)
    assert detail(list(range(6, 151, 6))) < 0.7
