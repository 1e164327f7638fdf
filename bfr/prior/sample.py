"""Pseudo targets: guesses noised part of the way, then denoised by the prior while held to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..image.lowpass import lowpass
from ..image.resize import resize_square
from ..image.tensors import check_images
from ..records import OnStep, counted
from .calls import measured_noise, predictor, shifts_for
from .constraint import Constraint, constrain
from .masks import checked_masks, repainting
from .noise import Noise, seeded_noise
from .prior import Predicted, Prior
from .samplers import ddim, ddpm, multistep
from .schedule import Respaced, noised
from .settings import (
    SampleSettings,
    check_prior,
    check_seed,
    describe,
    sampling_calls,
    told_by_face,
)
from .soft import SoftHold, detail_in, fill, hold_softly

OnSample = Callable[[Tensor, int, Tensor], None]
"""``on_sample(x, step, clean)`` gets each sample as it reaches a step, before the paper's hold, and
the clean faces predicted on the way: B×3×S×S, nominally in [-1, 1]. Raising from it cancels."""

_AMPLIFIED = 2.0  # contrast of the difference in the preview


@dataclass(frozen=True, eq=False, slots=True)
class SampledTargets:
    """Pseudo targets and how they were made.

    Attributes:
        targets: N×3×S×S float32 RGB in [0, 1], the pseudo targets.
        reference: N×3×S×S float32 RGB in [0, 1], φ of the guesses: what the constraint holds.
        report: a sentence or two about what was done.
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
    masks: Tensor | None = None,
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
        seeds: one per face, instead of the settings' seed and those that follow.
        masks: N×1×S×S or 1×1×S×S in [0, 1], of scratches and tears; where it is 1 the guess is
            unknown and the prior paints what suits the rest. Needs the soft hold.
        on_step: progress in network calls. The preview is 1×3×S×3S at the prior's size, of the
            batch's first face: the predicted clean face, φ of the guess, and their difference
            (grey for none, amplified).

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
            f"Guesses must be square, got {guesses.shape[-2]}×{own}. Align the faces first."
        )
    if seeds is None:
        seeds = [(settings.seed + i) % 2**64 for i in range(count)]
    if len(seeds) != count:
        raise InputError(
            f"There must be one seed per guess, {count}, got {len(seeds)}. Leave seeds out to "
            "count up from the settings' seed."
        )
    for seed in seeds:
        check_seed(seed)
    every = check_prior(prior, settings)
    if masks is not None:
        masks = checked_masks(masks, guesses, settings)
        settings = repainting(settings, prior, every)
    factor, calls = settings.constraint.factor, sampling_calls(prior, settings)
    device = next(prior.network.parameters()).device
    targets = torch.empty_like(guesses, dtype=torch.float32)
    reference = torch.empty_like(targets)
    for done in range(0, count, settings.batch_size):
        part = slice(done, done + settings.batch_size)
        guess = resize_square(guesses[part].float(), prior.size).to(device) * 2 - 1
        mask = None
        if masks is not None:
            mask = resize_square(masks[part].float(), prior.size).to(device).clamp(0, 1)
            guess = fill(guess, mask)
        low = lowpass(guess, factor)
        on_sample = None
        if on_step is not None:
            on_sample = _progress(on_step, low, done * calls, count * calls)
        noise = seeded_noise(seeds[part], prior.size, settings.steps, device)
        sampled = _sample(prior, guess, settings, every, noise, on_sample, mask)
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
    """Samples one batch at the prior's size with noise from any source.

    As published, the guess is noised to one step beyond ``start``, unless that is the noisiest.
    The noise is drawn in the published order: the initial one, then for each step the
    sampler's ("ddpm", and "ddim" with η above 0; none on the way to step 0), followed, while
    the constraint holds, by that of the guess. A sampler that draws no noise keeps the initial
    one for the guess too, so that the guess stays on one path. When memory runs out, fewer
    faces go through the network at once.

    Args:
        prior: its network may be in any floating dtype.
        guesses: B×3×S×S float32 in [-1, 1], on the network's device.
        settings: the seed has no effect; the batch size is how many faces the network gets at
            first.
        noise: from `seeded_noise`, or recorded.
        on_sample: gets every sample.

    Returns:
        B×3×S×S float32, nominally in [-1, 1].

    Raises:
        InputError: if prior and settings do not suit each other.
        WeightsError: if the network gives NaN.
        OutOfMemoryError: if there is not even memory for one face.
    """
    return _sample(prior, guesses, settings, check_prior(prior, settings), noise, on_sample)


def _sample(
    prior: Prior,
    guesses: Tensor,
    settings: SampleSettings,
    every: Respaced,
    noise: Noise,
    on_sample: OnSample | None,
    mask: Tensor | None = None,
) -> Tensor:
    """`sample` with the steps that `check_prior` returned, and B×1×S×S masks."""
    constraint = settings.constraint
    reached = replace(settings, calls=sampling_calls(prior, settings)).reached
    steps = every.at(torch.tensor(reached[1:]) - 1)
    noisy = settings.sampler == "ddpm" or (settings.sampler == "ddim" and settings.eta > 0)
    initial = noise("initial", 0)
    own = shifts = None
    if told_by_face(prior, settings):
        own = measured_noise(prior, guesses, settings.batch_size)
        shifts = shifts_for(prior, own)
    predicted = predictor(prior, steps, settings.batch_size, shifts)
    firm = isinstance(constraint, SoftHold) and constraint.edges > 0
    detail = detail_in(guesses) if firm else None

    def held(x: Tensor, index: int) -> Predicted:
        free = predicted(x, index)
        if isinstance(constraint, Constraint):
            return free
        alpha_bar = float(steps.alphas_cumprod[index])
        clean = hold_softly(free.clean, guesses, alpha_bar, constraint, mask, own, detail)
        return replace(free, clean=clean)

    def replaced_at(step: int) -> bool:
        return isinstance(constraint, Constraint) and constraint.holds_at(step)

    def after(x: Tensor, index: int, clean: Tensor) -> Tensor:
        step = reached[index]
        if on_sample is not None:
            on_sample(x, step, clean)
        if not replaced_at(step):
            return x
        drawn = noise("constraint", step) if noisy and step else initial
        alpha_bar = float(steps.alphas_cumprod_prev[index])
        return constrain(x, guesses, alpha_bar, drawn, constraint.factor, constraint.strength)

    def drawn_for(index: int) -> Tensor:
        return noise("step", reached[index])

    noisiest = float(every.alphas_cumprod[min(constraint.start, settings.steps - 1)])
    x = noised(guesses, noisiest, initial)
    if settings.sampler == "ddpm":
        return ddpm(x, steps, held, drawn_for, after)
    if settings.sampler == "ddim":
        return ddim(x, steps, held, drawn_for, after, settings.eta)
    changed = [index for index in range(len(steps)) if replaced_at(reached[index])]
    return multistep(x, steps, held, after, settings.sampler, changed)


def _progress(on_step: OnStep, low: Tensor, before: int, total: int) -> OnSample:
    """Counts the calls of one batch and shows its first face; ``low`` is φ of the guesses."""
    done = before

    def on_sample(x: Tensor, step: int, clean: Tensor) -> None:
        nonlocal done
        done += len(x)
        face, reference = clean[:1] / 2 + 0.5, low[:1] / 2 + 0.5
        difference = 0.5 + _AMPLIFIED * (face - reference)
        on_step(done, total, torch.cat([face, reference, difference], -1).clamp(0, 1))

    return on_sample


def _report(count: int, own: int, prior: Prior, settings: SampleSettings) -> str:
    size = f"at {own} px"
    if own != prior.size:
        size = f"resized from {own} px to the prior's {prior.size} px and back"
    calls = f"{settings.sampler}, {settings.calls_a_face} network calls per face"
    if told_by_face(prior, settings):
        calls += ", the first to see how noisy it is"
    return f"{counted(count, 'face')} {size}; {calls}; {describe(settings)}; prior {prior.name}."
