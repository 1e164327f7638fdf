"""Pseudo targets: whole runs, their invariants, and what can go wrong in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.published import GOLDEN
from benchmarks.published.priors import published_unet
from bfr.choices import SAMPLERS
from bfr.errors import (
    CancelledError,
    FaceRestorationError,
    InputError,
    OutOfMemoryError,
    WeightsError,
)
from bfr.image.lowpass import lowpass
from bfr.prior.constraint import Constraint
from bfr.prior.load import load_prior
from bfr.prior.noise import seeded_noise
from bfr.prior.sample import SampledTargets, sample, sample_targets
from bfr.prior.settings import SampleSettings, for_prior
from tests.priors import Ideal, ideal_prior, tiny_prior

SHORT = SampleSettings(Constraint(start=8, stop=4))
FEW = SampleSettings(Constraint(start=150, stop=60), calls=6)
CPU = torch.device("cpu")


def guesses(count: int, size: int = 32) -> Tensor:
    """Smooth faces in [0.2, 0.8]."""
    small = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    return F.interpolate(small, (size, size), mode="bilinear") * 0.6 + 0.2


def settings(sampler: str, base: SampleSettings = FEW, **constraint) -> SampleSettings:
    changed = replace(base.constraint, **constraint)
    name, eta = ("ddim", 0.6) if sampler == "ddim with noise" else (sampler, 0.0)
    return replace(base, sampler=name, eta=eta, constraint=changed)


ALL = [*SAMPLERS, "ddim with noise"]


# Parity ----------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("dialect", ["difface", "plain"])
def test_matches_the_published_run(dialect: str, tmp_path: Path):
    published = published_unet(dialect)
    save_file(published.state(), tmp_path / "small.safetensors")
    prior = load_prior(tmp_path / "small.safetensors", **published.facts)
    with safe_open(GOLDEN / f"sampler_{dialect}.safetensors", "pt") as file:
        facts = file.metadata()
        recorded = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert prior.variance == facts["variance"]
    constraint = Constraint(
        factor=int(facts["lowpass_factor"]),
        start=int(facts["start"]),
        stop=int(facts["constraint_stop"]),
    )
    left, asked, reached = list(recorded["noise"]), [], []

    def noise(purpose: str, step: int) -> Tensor:
        asked.append((purpose, step))
        return left.pop(0)

    def see(x: Tensor, step: int, clean: Tensor) -> None:
        assert (x - recorded["samples"][len(reached)]).abs().max() <= 1e-3
        reached.append(step)

    run = SampleSettings(constraint, steps=int(facts["respacing"]))
    result = sample(prior, recorded["reference"], run, noise, see)
    assert (result - recorded["final"]).abs().max() <= 1e-3
    assert reached == list(reversed(range(constraint.start)))
    assert len(left) == 1, "the published code draws once more, and multiplies by 0"
    assert asked[:4] == [("initial", 0), ("step", 9), ("constraint", 9), ("step", 8)]
    assert asked[-2:] == [("step", 2), ("step", 1)]


# Invariants ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 48])
@pytest.mark.parametrize("sampler", ALL)
def test_an_exact_prior_gives_its_face(sampler: str, size: int):
    prior = ideal_prior(0.3, highest_step=639)
    result = sample_targets(guesses(2, size), prior, settings(sampler))
    assert result.targets.shape == (2, 3, size, size)
    assert torch.allclose(result.targets, torch.full((), 0.65), atol=1e-5)


@pytest.mark.parametrize("sampler", ALL)
def test_a_full_constraint_keeps_the_guess(sampler: str):
    given, prior = guesses(2), tiny_prior()

    def drift(**constraint) -> float:
        result = sample_targets(given, prior, settings(sampler, **constraint)).targets
        return float((lowpass(result, 8) - lowpass(given, 8)).abs().mean())

    free, held = drift(strength=0.0), drift(stop=0)
    assert free > 0.05, "this prior has a mind of its own"
    assert held < 0.2 * free, "φ is no projection: one φ leaves a little"
    assert drift(stop=0, factor=1) < 1e-6, "all frequencies"
    assert held < drift(stop=0, strength=0.5) < free


@pytest.mark.parametrize("sampler", ALL)
def test_strength_zero_is_free_sampling(sampler: str):
    """The guess then matters only through what it was noised to."""
    given, prior = guesses(1), tiny_prior()
    free = sample_targets(given, prior, settings(sampler, strength=0.0)).targets
    other = sample_targets(given, prior, settings(sampler, strength=0.0, factor=4, stop=0)).targets
    assert torch.equal(free, other)
    never = settings(sampler, start=150, stop=149)
    assert torch.equal(free, sample_targets(given, prior, never).targets)


@pytest.mark.parametrize("sampler", ALL)
def test_a_batch_is_its_singles(sampler: str):
    given, prior = guesses(5), tiny_prior()
    run = replace(settings(sampler), seed=7)
    together = sample_targets(given, prior, replace(run, batch_size=5))
    two = sample_targets(given, prior, replace(run, batch_size=2)).targets
    assert torch.allclose(two, together.targets, atol=1e-4)
    for i in range(5):
        single = sample_targets(given[i : i + 1], prior, replace(run, seed=7 + i))
        assert torch.allclose(single.targets[0], together.targets[i], atol=1e-4)
        assert torch.allclose(single.reference[0], together.reference[i], atol=1e-6)


@pytest.mark.parametrize("sampler", ALL)
def test_the_seed_decides(sampler: str):
    given, prior, run = guesses(2), tiny_prior(), settings(sampler)
    first = sample_targets(given, prior, run).targets
    assert torch.equal(sample_targets(given, prior, run).targets, first)
    assert not torch.allclose(
        sample_targets(given, prior, replace(run, seed=2)).targets, first, atol=0.05
    )
    chosen = sample_targets(given.flip(0), prior, run, seeds=[1, 0]).targets
    assert torch.allclose(chosen.flip(0), first, atol=1e-4)


def test_no_global_seed_is_touched():
    prior, given = tiny_prior(), guesses(1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    sample_targets(given, prior, SHORT)
    assert torch.equal(torch.get_rng_state(), before)


def test_settings_share_their_noise():
    """A sweep's cells differ by the settings alone: each noise follows from purpose and step."""
    asked = {}
    for constraint in (Constraint(start=8, stop=4), Constraint(start=12, stop=6, strength=0.5)):
        drawn = seeded_noise([4], 32, 250, CPU)
        kept = asked[constraint.start] = {}

        def noise(purpose: str, step: int, drawn=drawn, kept=kept) -> Tensor:
            return kept.setdefault((purpose, step), drawn(purpose, step))

        sample(tiny_prior(), guesses(1) * 2 - 1, SampleSettings(constraint), noise)
    short, long = asked.values()
    both = short.keys() & long.keys()
    assert {("initial", 0), ("step", 7), ("constraint", 7)} <= both
    assert all(torch.equal(short[key], long[key]) for key in both)
    every = [noise.flatten()[:4] for noise in long.values()]
    assert len({tuple(noise.tolist()) for noise in every}) == len(every), "no draw comes twice"


def test_deterministic_samplers_keep_one_noise():
    for sampler in ("ddim", "dpm-solver++", "unipc"):
        asked = []

        def noise(purpose: str, step: int, asked=asked) -> Tensor:
            asked.append(purpose)
            return torch.randn(1, 3, 32, 32)

        sample(tiny_prior(), guesses(1) * 2 - 1, settings(sampler), noise)
        assert asked == ["initial"]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("calls", [None, 8, 3, 2])
def test_calls_go_from_start_to_the_cleanest(sampler: str, calls: int | None):
    prior, reached = ideal_prior(), []
    network = prior.network
    assert isinstance(network, Ideal)
    run = replace(settings(sampler, SHORT), calls=calls)
    noise = seeded_noise([0], 32, 250, CPU)
    sample(prior, guesses(1), run, noise, lambda x, step, clean: reached.append(step))
    assert len(network.timesteps) == (calls or 8)
    assert network.timesteps[0] == 28, "training step of start 8, counted from 1, of 250"
    assert network.timesteps == sorted(set(network.timesteps), reverse=True)
    assert reached[-1] == 0
    assert [4 * step - 4 for step in reached[:-1]] == network.timesteps[1:]
    if calls != 8:
        return
    every = sample(prior, guesses(1), replace(run, calls=None), noise)
    assert torch.equal(every, sample(prior, guesses(1), run, noise))


@pytest.mark.parametrize("variance", ["learned_range", "fixed_large", "fixed_small"])
def test_every_variance(variance: str):
    result = sample_targets(guesses(2), tiny_prior(variance=variance), SHORT).targets
    assert torch.isfinite(result).all()
    assert result.std() > 0.05


def test_other_sizes_are_resized_and_said():
    prior = ideal_prior()
    result = sample_targets(guesses(1, 48), prior, SHORT)
    assert "resized from 48 px to the prior's 32 px and back" in result.report
    assert result.reference.shape == (1, 3, 48, 48)
    smooth = lowpass(guesses(1, 48), 12)
    assert (result.reference - smooth).abs().mean() < 0.02
    assert "at 32 px" in sample_targets(guesses(1), prior, SHORT).report


def test_reference_is_the_lowpass_of_the_guess():
    result = sample_targets(guesses(2), ideal_prior(), SHORT)
    assert torch.allclose(result.reference, lowpass(guesses(2), 8), atol=1e-6)


def test_report_says_what_was_done():
    report = sample_targets(guesses(2), ideal_prior(), FEW).report
    for part in ("2 faces", "ddpm", "6 network calls", "2 calls constrained", "prior ideal"):
        assert part in report, report


def test_input_is_kept_and_results_are_in_range():
    given = guesses(2)
    before = given.clone()
    result = sample_targets(given, tiny_prior(), SHORT)
    assert torch.equal(given, before)
    for images in (result.targets, result.reference):
        assert images.dtype == torch.float32
        assert 0 <= images.min() < images.max() <= 1
    half = sample_targets(given.half(), tiny_prior(), SHORT).targets
    assert half.dtype == torch.float32
    assert torch.allclose(half, result.targets, atol=0.02)


def test_half_precision_networks():
    prior = tiny_prior()
    full = sample_targets(guesses(1), prior, FEW).targets
    fast = sample_targets(guesses(1), replace(prior, network=prior.network.bfloat16()), FEW).targets
    assert fast.dtype == torch.float32
    assert 0 < (fast - full).abs().mean() < 0.05


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_inference_mode_changes_nothing(sampler: str):
    prior, run = tiny_prior(), settings(sampler)
    outside = sample_targets(guesses(2), prior, run).targets
    with torch.inference_mode():
        inside = sample_targets(guesses(2), prior, run).targets
    assert torch.equal(inside, outside)


def test_no_faces():
    result = sample_targets(torch.zeros(0, 3, 64, 64), ideal_prior(), SHORT)
    assert isinstance(result, SampledTargets)
    assert result.targets.shape == result.reference.shape == (0, 3, 64, 64)


# Progress, cancelling and memory ---------------------------------------------------------------


def test_progress_counts_calls_and_shows_the_face():
    steps: list[tuple[int, int]] = []
    previews: list[Tensor] = []

    def on_step(done: int, total: int, preview: Tensor | None) -> None:
        steps.append((done, total))
        assert preview is not None
        previews.append(preview)

    run = replace(SHORT, batch_size=2)
    result = sample_targets(guesses(3, 48), ideal_prior(0.3), run, on_step=on_step)
    assert steps == [(2 * i, 24) for i in range(1, 9)] + [(16 + i, 24) for i in range(1, 9)]
    for preview in previews:
        assert preview.shape == (1, 3, 32, 96)
        clean, reference, difference = preview.chunk(3, -1)
        assert torch.allclose(clean, torch.tensor(0.65))
        expected = (0.5 + 2 * (clean - reference)).clamp(0, 1)
        assert torch.allclose(difference, expected, atol=1e-6)
    resized = F.interpolate(previews[0].chunk(3, -1)[1], (48, 48), mode="bicubic")
    assert torch.allclose(resized, result.reference[:1], atol=0.01)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_progress_changes_nothing(sampler: str):
    prior, run = tiny_prior(), settings(sampler)
    seen = sample_targets(guesses(1), prior, run, on_step=lambda *_: None).targets
    assert torch.equal(seen, sample_targets(guesses(1), prior, run).targets)


@pytest.mark.parametrize("at", [1, 4, 16])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_cancelling_at_any_step(sampler: str, at: int):
    prior = ideal_prior()
    assert isinstance(prior.network, Ideal)
    calls = []

    def stop(done: int, total: int, preview: Tensor | None) -> None:
        calls.append(done)
        if len(calls) == at:
            raise CancelledError("stop")

    with pytest.raises(CancelledError):
        run = replace(settings(sampler, SHORT), batch_size=1)
        sample_targets(guesses(2), prior, run, on_step=stop)
    assert len(calls) == len(prior.network.batches) == at


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_memory_halves_the_batch_and_nothing_else(sampler: str):
    face = guesses(1)[0]
    run = replace(settings(sampler, SHORT), batch_size=5)
    prior = ideal_prior(face, limit=2)
    assert isinstance(prior.network, Ideal)
    steps = []
    halved = sample_targets(guesses(5), prior, run, on_step=lambda *step: steps.append(step[:2]))
    whole = sample_targets(guesses(5), ideal_prior(face), run)
    assert torch.allclose(halved.targets, whole.targets, atol=1e-6)
    assert prior.network.batches == [5, 2, 2, 1] + [2, 2, 1] * 7, "no call is made again"
    assert steps == [(5 * i, 40) for i in range(1, 9)]


def test_learned_variances_of_halves_are_put_together():
    class Narrow(torch.nn.Module):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            if len(x) > 1:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return self.network(x, t)

    prior = tiny_prior(variance="learned_range")
    narrow = replace(prior, network=Narrow(prior.network))
    whole = sample_targets(guesses(3), prior, SHORT).targets
    assert torch.allclose(sample_targets(guesses(3), narrow, SHORT).targets, whole, atol=1e-4)


def test_not_even_memory_for_one():
    with pytest.raises(OutOfMemoryError, match="single face") as caught:
        sample_targets(guesses(2), ideal_prior(limit=0), SHORT)
    assert isinstance(caught.value, FaceRestorationError | torch.OutOfMemoryError)


def test_other_failures_of_the_network_are_not_memory():
    class Broken(Ideal):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            raise RuntimeError("shapes do not fit")

    prior = replace(ideal_prior(), network=Broken(torch.zeros(3, 32, 32)))
    with pytest.raises(RuntimeError, match="do not fit"):
        sample_targets(guesses(2), prior, SHORT)


# Bad input -------------------------------------------------------------------------------------


def test_nan_weights_name_the_prior():
    with pytest.raises(WeightsError, match="ideal"):
        sample_targets(guesses(1), ideal_prior(float("nan")), SHORT)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 32, 32), "B×3×H×W"),
        (torch.zeros(1, 1, 32, 32), "B×3×H×W"),
        (torch.zeros(1, 3, 32, 48), "square"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "floating point"),
        (torch.full((1, 3, 32, 32), float("nan")), "finite"),
    ],
)
def test_guesses_that_are_none(images: Tensor, message: str):
    with pytest.raises(InputError, match=message):
        sample_targets(images, ideal_prior(), SHORT)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampler": "euler"}, "must be one of ddpm"),
        ({"calls": 151}, "from 2 to start"),
        ({"calls": 1}, "from 2 to start"),
        ({"calls": 0}, "from 2 to start"),
        ({"calls": 6.5}, "from 2 to start"),
        ({"eta": 1.5}, "eta"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_settings_that_cannot_be(values, message: str):
    with pytest.raises(InputError, match=message):
        SampleSettings(**values)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (SampleSettings(Constraint(factor=5)), "size, 32, got 5. Choose 4"),
        (SampleSettings(Constraint(factor=64)), "size, 32, got 64. Choose 32"),
        (SampleSettings(Constraint(start=200)), "Lower start to 160"),
        (SampleSettings(Constraint(start=60, stop=20), steps=50), "at most 50"),
        (SampleSettings(steps=1001), "1001"),
    ],
)
def test_settings_that_do_not_suit_the_prior(run: SampleSettings, message: str):
    prior = ideal_prior(highest_step=639)
    assert isinstance(prior.network, Ideal)
    with pytest.raises(InputError, match=message):
        sample_targets(guesses(1), prior, run)
    assert not prior.network.batches, "refused before any work"


def test_seeds_for_other_faces():
    with pytest.raises(InputError, match="2, got 1"):
        sample_targets(guesses(2), ideal_prior(), SHORT, seeds=[3])
    with pytest.raises(InputError, match="whole number"):
        sample_targets(guesses(2), ideal_prior(), SHORT, seeds=[3, -1])


def test_the_largest_seed_goes_round():
    run = replace(SHORT, seed=2**64 - 1)
    round_ = sample_targets(guesses(2), tiny_prior(), run).targets
    zero = sample_targets(guesses(2)[1:], tiny_prior(), replace(SHORT, seed=0)).targets
    assert torch.allclose(round_[1:], zero, atol=1e-4)


def test_the_noisiest_start_there_is():
    run = SampleSettings(Constraint(start=20, stop=10), steps=20)
    result = sample_targets(guesses(1), ideal_prior(0.0), run).targets
    assert torch.allclose(result, torch.tensor(0.5), atol=1e-5)


def test_the_papers_settings_suit_a_smaller_prior():
    paper = SampleSettings(Constraint(factor=16), calls=130)
    suited = for_prior(paper, ideal_prior(size=256))
    assert suited.constraint == Constraint(factor=8, start=120, stop=56)
    assert suited.calls == 120, "no more calls than steps"
    assert for_prior(replace(paper, calls=None), ideal_prior(size=256)).calls_a_face == 120
    assert for_prior(paper, ideal_prior(size=64), meant_for=64) == paper
