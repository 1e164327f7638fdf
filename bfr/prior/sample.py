"""Pseudo targets: guesses noised part of the way and cleaned by the prior, under the constraint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..choices import SAMPLERS
from ..errors import InputError
from ..image.lowpass import lowpass
from ..image.tensors import check_images, resize_square
from ..records import OnStep, counted
from ..runtime.memory import Parts
from .constraint import PAPER_SIZE, Constraint, constrain, suited
from .noise import Noise, seeded_noise
from .prior import Predicted, Prior, predict
from .samplers import Predict, ddim, ddpm, multistep, spread
from .schedule import Respaced, noised, respace

OnSample = Callable[[Tensor, int, Tensor], None]
"""``on_sample(x, step, clean)`` sees each sample as it reaches a step, before the constraint, and
the clean face predicted on the way: B×3×S×S, nominally in [-1, 1]. Raising from it cancels."""

_AMPLIFIED = 2.0  # the difference in the preview


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """How pseudo targets are sampled; as it stands, as the paper does.

    Attributes:
        constraint: what is kept of the guess, from which step to which.
        steps: into how many the prior's noise is divided; start and stop count in them.
        sampler: one of `SAMPLERS`.
        calls: network calls a face, 2 … start, as `spread` lays them; None for one a step.
        eta: of "ddim": 0 adds no noise, 1 as much as ancestral sampling.
        seed: of the first face; face i has ``seed + i``.
        batch_size: faces that go through the network at once.

    Raises:
        InputError: if a value is out of its range.
    """

    constraint: Constraint = field(default_factory=Constraint)
    steps: int = 250
    sampler: str = "ddpm"
    calls: int | None = None
    eta: float = 0.0
    seed: int = 0
    batch_size: int = 4

    def __post_init__(self):
        start = self.constraint.start
        if self.sampler not in SAMPLERS:
            raise InputError(
                f"The sampler must be one of {', '.join(SAMPLERS)}, and {self.sampler!r} came."
            )
        if self.calls is not None and not _is_whole(self.calls, 2, start):
            raise InputError(
                f"calls must be a whole number from 2 to start ({start}), one a step, and "
                f"{self.calls} came. Choose fewer, or raise start."
            )
        if not 0 <= self.eta <= 1:
            raise InputError(f"eta must lie in [0, 1], and {self.eta} came.")
        _check_seed(self.seed)
        if not _is_whole(self.batch_size, 1, 2**31):
            raise InputError(
                f"batch_size must be a whole number from 1, and {self.batch_size} came."
            )

    @property
    def calls_a_face(self) -> int:
        """Network calls for each face."""
        return self.calls or self.constraint.start

    @property
    def reached(self) -> list[int]:
        """The steps that the samples of a face reach: 0, …, start."""
        return [0, *spread(self.constraint.start, self.calls_a_face)]


def for_prior(
    settings: SampleSettings, prior: Prior, meant_for: int = PAPER_SIZE
) -> SampleSettings:
    """Settings as the paper's, for faces of 512 px, made to suit a prior of another size.

    Args:
        settings: their constraint is changed as `suited` says; they ask for no more calls than
            there are steps then.
        prior: of any size.
        meant_for: side in pixels of the faces that start, stop and factor are for.

    Raises:
        InputError: if ``start`` exceeds the number of steps.
    """
    steps = respace(prior.schedule, settings.steps)
    constraint = suited(settings.constraint, prior.size, steps, meant_for)
    calls = None if settings.calls is None else min(settings.calls, constraint.start)
    return replace(settings, constraint=constraint, calls=calls)


@dataclass(frozen=True, eq=False, slots=True)
class SampledTargets:
    """What `sample_targets` gives.

    Attributes:
        targets: N×3×S×S float32 RGB in [0, 1], the pseudo targets.
        reference: N×3×S×S float32 RGB in [0, 1], φ of the guesses: what the targets share
            with them while the constraint holds.
        report: what was done, in a sentence or two.
    """

    targets: Tensor
    reference: Tensor
    report: str


@torch.no_grad()
def sample_targets(
    guesses: Tensor,
    prior: Prior,
    settings: SampleSettings | None = None,
    *,
    seeds: Sequence[int] | None = None,
    on_step: OnStep | None = None,
) -> SampledTargets:
    """Turns first guesses into pseudo targets: clean faces with the guesses' low frequencies.

    Guesses of another size than the prior's are resized there and back. All noise of a face is
    drawn on the CPU and follows from its seed alone, each draw from its purpose and step: a
    batch of N equals N singles, and settings that differ in one value share the noise.

    Args:
        guesses: N×3×S×S RGB in [0, 1], restored aligned faces; N may be 0.
        prior: runs where its network is, in the network's dtype.
        settings: None for the paper's.
        seeds: one a face, instead of the settings' seed and those that follow.
        on_step: progress in network calls a face, after each. The preview is 1×3×S×3S at the
            prior's size, of the batch's first face: the predicted clean face, φ of the guess,
            and their difference (0.5 for none, amplified).

    Returns:
        The targets, their reference and a report, on the device of ``guesses``.

    Raises:
        InputError: for guesses or settings out of their range.
        WeightsError: if the network gives NaN.
        OutOfMemoryError: if there is not even memory for one face.
    """
    settings = settings or SampleSettings()
    check_images(guesses, "guesses")
    count, own = len(guesses), guesses.shape[-1]
    if guesses.shape[-2] != own:
        raise InputError(
            f"Guesses must be square, and {guesses.shape[-2]}×{own} came. Align the faces."
        )
    if seeds is None:
        seeds = [(settings.seed + i) % 2**64 for i in range(count)]
    if len(seeds) != count:
        raise InputError(f"{count} guesses need as many seeds, and {len(seeds)} came.")
    for seed in seeds:
        _check_seed(seed)
    check_prior(prior, settings)
    factor, calls = settings.constraint.factor, settings.calls_a_face
    device = next(prior.network.parameters()).device
    targets = torch.empty_like(guesses, dtype=torch.float32)
    reference = torch.empty_like(targets)
    for done in range(0, count, settings.batch_size):
        part = slice(done, done + settings.batch_size)
        guess = resize_square(guesses[part].float(), prior.size).to(device) * 2 - 1
        low = lowpass(guess, factor)
        on_sample = None
        if on_step is not None:
            on_sample = _progress(on_step, low, done * calls, count * calls)
        noise = seeded_noise(seeds[part], prior.size, settings.steps, device)
        sampled = sample(prior, guess, settings, noise, on_sample)
        for result, image in ((targets, sampled), (reference, low)):
            result[part] = resize_square((image / 2 + 0.5).to(guesses.device), own).clamp(0, 1)
    return SampledTargets(targets, reference, _report(count, own, prior, settings))


@torch.no_grad()
def sample(
    prior: Prior,
    guesses: Tensor,
    settings: SampleSettings,
    noise: Noise,
    on_sample: OnSample | None = None,
) -> Tensor:
    """One batch at the prior's size, with any noise: what `sample_targets` and parity tests use.

    As published, the guess is noised to one step beyond ``start``, unless that is the noisiest.
    The noise is drawn in the published order: the initial one, then for each step the
    sampler's ("ddpm", and "ddim" with η above 0; none on the way to step 0), followed, while
    the constraint holds, by that of the guess. A sampler that draws no noise keeps the initial
    one for the guess too, so that the guess stays on one path. When memory runs out, fewer
    faces go through the network at once.

    Args:
        prior: its network may be in any floating dtype.
        guesses: B×3×S×S float32 in [-1, 1], on the network's device.
        settings: seed and batch size do not count here, but to begin with.
        noise: draws.
        on_sample: sees the samples.

    Returns:
        B×3×S×S float32, nominally in [-1, 1].

    Raises:
        InputError: if prior and settings do not suit each other.
        WeightsError: if the network gives NaN.
        OutOfMemoryError: if there is not even memory for one face.
    """
    every, reached = check_prior(prior, settings), settings.reached
    called = torch.tensor(reached[1:]) - 1
    steps = Respaced(every.timesteps[called], every.alphas_cumprod[called])
    constraint = settings.constraint
    noisy = settings.sampler == "ddpm" or (settings.sampler == "ddim" and settings.eta > 0)
    initial = noise("initial", 0)
    predicted = _predictor(prior, steps, settings.batch_size)

    def after(x: Tensor, index: int, clean: Tensor) -> Tensor:
        step = reached[index]
        if on_sample is not None:
            on_sample(x, step, clean)
        if not constraint.holds_at(step):
            return x
        drawn = noise("constraint", step) if noisy and step else initial
        kept = float(steps.alphas_cumprod_prev[index])
        return constrain(x, guesses, kept, drawn, constraint.factor, constraint.strength)

    def drawn_for(index: int) -> Tensor:
        return noise("step", reached[index])

    x = noised(guesses, float(every.alphas_cumprod[min(constraint.start, settings.steps - 1)]), initial)
    if settings.sampler == "ddpm":
        return ddpm(x, steps, predicted, drawn_for, after)
    if settings.sampler == "ddim":
        return ddim(x, steps, predicted, drawn_for, after, settings.eta)
    changed = [index for index in range(len(steps)) if constraint.holds_at(reached[index])]
    return multistep(x, steps, predicted, after, settings.sampler, changed)


def check_prior(prior: Prior, settings: SampleSettings) -> Respaced:
    """The steps of a prior's noise, if it can sample with these settings.

    Raises:
        InputError: if the settings ask for steps that the prior has not learned, or for a
            factor that does not suit its size.
    """
    settings.constraint.check(prior.size, settings.steps)
    steps = respace(prior.schedule, settings.steps)
    start, learned = settings.constraint.start, int((steps.timesteps <= prior.highest_step).sum())
    if start > learned:
        raise InputError(
            f"The prior {prior.name} has learned the first {learned} of {settings.steps} steps, "
            f"and start is {start}. Lower start to {learned}, or choose another prior."
        )
    return steps


def _check_seed(seed: object) -> None:
    if not _is_whole(seed, 0, 2**64 - 1):
        raise InputError(f"A seed must be a whole number from 0 to 2⁶⁴-1, and {seed} came.")


def _is_whole(value: object, first: int, last: int) -> bool:
    return isinstance(value, int) and first <= value <= last


def _predictor(prior: Prior, steps: Respaced, size: int) -> Predict:
    """Calls the network for as many faces at once as there is memory for."""

    parts = Parts(size, "sample", "half precision or a smaller prior")

    def run(x: Tensor, index: int) -> Predicted:
        work = parts.of(len(x), lambda part: predict(prior, x[part], steps, index))
        predicted = [result for _, result in work]
        log_variance = predicted[0].log_variance
        if log_variance.ndim:
            log_variance = torch.cat([part.log_variance for part in predicted])
        return Predicted(torch.cat([part.clean for part in predicted]), log_variance)

    return run


def _progress(on_step: OnStep, low: Tensor, before: int, total: int) -> OnSample:
    """Counts the calls of one batch, and shows its first face; ``low`` is φ of the guesses."""
    done = before

    def on_sample(x: Tensor, step: int, clean: Tensor) -> None:
        nonlocal done
        done += len(x)
        face, reference = clean[:1] / 2 + 0.5, low[:1] / 2 + 0.5
        difference = 0.5 + _AMPLIFIED * (face - reference)
        on_step(done, total, torch.cat([face, reference, difference], -1).clamp(0, 1))

    return on_sample


def _report(count: int, own: int, prior: Prior, settings: SampleSettings) -> str:
    constraint, reached = settings.constraint, settings.reached[:-1]
    held = sum(constraint.holds_at(step) for step in reached)
    size = f"at {own} px"
    if own != prior.size:
        size = f"resized from {own} px to the prior's {prior.size} px and back"
    return (
        f"{counted(count, 'face')} {size}; {settings.sampler}, {settings.calls_a_face} "
        f"network calls a face from step {constraint.start} of {settings.steps}, {held} of them "
        f"constrained (factor {constraint.factor}, strength {constraint.strength:g}, to step "
        f"{constraint.stop}); prior {prior.name}."
    )
