"""The paper's constraint: the sample keeps the low frequencies of the equally noised guess.

Steps count the noise that is left, in steps of the published 250: the guess is noised to step
``start``, step 0 is the clean face, and step t has the ᾱ that t of them leave.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..image.lowpass import lowpass
from .schedule import Respaced, noised

PAPER_SIZE = 512
"""Side in pixels of the faces that the paper's start, stop and factor are meant for."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """The paper's hold on the guess; the defaults are the paper's for most restorers.

    Attributes:
        factor: N of the low-pass φ; the paper takes 16 after SwinIR and 8 after others. Higher
            keeps less of the guess.
        strength: 1 replaces the low frequencies, as the paper does; 0 leaves the prior free.
        start: the step that the guess is noised to, at least 2. Higher forgets more of it.
        stop: the last step whose sample is constrained, below ``start``; 0 constrains the
            finished face too.

    Raises:
        InputError: if a value is out of its range.
    """

    factor: int = 8
    strength: float = 1.0
    start: int = 150
    stop: int = 90

    def __post_init__(self):
        check_hold(self.factor, self.strength, self.start)
        if not isinstance(self.stop, int) or self.stop < 0:
            raise InputError(
                f"stop must be a whole number from 0, got {self.stop!r}. 0 holds to the end."
            )
        if self.stop >= self.start:
            raise InputError(
                f"stop must be below start, because sampling runs from start down to 0, got start "
                f"{self.start} and stop {self.stop}. Lower stop, or raise start; to sample "
                "without the constraint, set strength to 0."
            )

    def holds_at(self, step: int) -> bool:
        """Returns True if the sample that has reached a step is constrained."""
        return self.strength > 0 and step >= self.stop

    def suited(self, size: int, steps: Respaced, meant_for: int = PAPER_SIZE) -> Constraint:
        """Adapts a constraint for faces of another size, such that it forgets and keeps as much.

        Args:
            size: side in pixels of the prior's faces.
            steps: all steps that the prior's noise is divided into.
            meant_for: side in pixels of the faces that this constraint is for.

        Raises:
            InputError: if ``start`` exceeds the number of steps.
        """
        if size == meant_for:
            return self
        start = max(suited_step(self.start, size / meant_for, steps), 2)
        stop = self.stop and min(suited_step(self.stop, size / meant_for, steps), start - 1)
        factor = suited_factor(self.factor, size, meant_for)
        return replace(self, start=start, stop=stop, factor=factor)


def check_hold(factor: int, strength: float, start: int) -> None:
    """Checks the values that the paper's and the soft hold share.

    Raises:
        InputError: if a value is out of its range.
    """
    for name, value in (("factor", factor), ("start", start)):
        if not isinstance(value, int):
            raise InputError(f"{name} must be a whole number, got {value!r}. Round it.")
    if factor < 1:
        raise InputError(f"factor must be at least 1, got {factor}. The paper takes 8 or 16.")
    if not 0 <= strength <= 1:
        raise InputError(f"strength must be in [0, 1], got {strength}. 1 holds fully.")
    if start < 2:
        raise InputError(f"start must be at least 2, got {start}. The paper takes 150.")


def check_fit(factor: int, start: int, size: int, steps: int) -> None:
    """Checks that a hold suits a prior.

    Args:
        factor: of the low-pass φ.
        start: the step that the guess is noised to.
        size: side in pixels of the prior's faces.
        steps: into how many its noise is divided.

    Raises:
        InputError: if ``factor`` does not divide ``size``, or ``start`` exceeds ``steps``.
    """
    lowpass(torch.empty(0, size, size), factor)
    if start > steps:
        raise InputError(
            f"start must be at most {steps}, the number of steps, got {start}. Lower start, or "
            "raise the number of steps."
        )


def suited_step(step: int, ratio: float, steps: Respaced) -> int:
    """The step that forgets as much of a picture ``ratio`` times as large as ``step`` does.

    The same noise hides larger parts of a smaller picture, so it is the step whose ratio of noise
    to signal is nearest to ``ratio`` times that of ``step`` (Hoogeboom et al., "simple
    diffusion", ICML 2023, section 3.1).

    Raises:
        InputError: if there is no such step.
    """
    if step > len(steps):
        raise InputError(
            f"start must be at most {len(steps)}, the number of steps, got {step}. Lower start, "
            "or raise the number of steps."
        )
    levels = steps.sigmas.log()  # after 1, 2, … steps
    level = levels[step - 1] + torch.tensor(ratio).log()
    return int((levels - level).abs().argmin()) + 1


def suited_factor(factor: int, size: int, meant_for: int) -> int:
    """The divisor of a size that is nearest to a factor, shrunk or enlarged like the picture."""
    ideal = factor * size / meant_for
    divisors = [n for n in range(1, size + 1) if size % n == 0]
    return min(divisors, key=lambda n: (abs(n - ideal), n))


def constrain(
    x: Tensor, guess: Tensor, alpha_bar: float, noise: Tensor, factor: int, strength: float = 1.0
) -> Tensor:
    """``x + strength·φ(q(guess, t) - x)``: Kuai et al. (WACV 2025), section 3, with one φ.

    The published code takes step -1 for the reference of a finished face, which wraps to the
    noisiest. Here that reference is the guess itself: ᾱ is 1.

    Args:
        x: B×3×S×S samples at step t; clean ones lie in [-1, 1].
        guess: B×3×S×S in [-1, 1].
        alpha_bar: ᾱ of step t; 1 at step 0.
        noise: B×3×S×S standard normal; of no effect where ``alpha_bar`` is 1.
        factor: φ's N; divides S.
        strength: in [0, 1]; 1 is the paper's replacement.

    Returns:
        B×3×S×S.
    """
    return x + strength * lowpass(noised(guess, alpha_bar, noise) - x, factor)


def constrain_clean(clean: Tensor, reference: Tensor, factor: int, strength: float) -> Tensor:
    """The constraint on a prediction of the clean image: ``x₀ + strength·φ(reference − x₀)``.

    A step puts the same noise on x₀ as on the reference, so this is the paper's replacement of
    the noised low frequencies, for any sampler. Where the factor does not divide a side, the
    difference is mirrored beyond the edges first.

    Args:
        clean: B×…×H×W, the prediction.
        reference: the same, or one for the whole batch.
        factor: φ's factor N, at most the shorter side.
        strength: 0 changes nothing, 1 replaces the low frequencies.

    Returns:
        A tensor like ``clean``.

    Raises:
        InputError: if the shapes differ, or the factor is larger than a side.
    """
    if clean.ndim < 4 or clean.shape[1:] != reference.shape[1:]:
        raise InputError(
            f"The reference must be as large as the sampled latent, {_shape(clean)}, got "
            f"{_shape(reference)}. Encode it with the model's own VAE, at the same size."
        )
    if len(reference) not in (1, len(clean)):
        raise InputError(
            f"The reference must hold one latent, or one for each of the {len(clean)} sampled, "
            f"got {len(reference)}. Encode one image."
        )
    height, width = clean.shape[-2:]
    if factor > min(height, width):
        raise InputError(
            f"The low-pass factor must be at most the latent's shorter side, {min(height, width)}, "
            f"got {factor}. Lower it; a latent is usually 8 times smaller than its image."
        )
    margins = (0, -width % factor, 0, -height % factor)
    missing = (reference.to(clean.device).float() - clean.float()).flatten(1, -3)
    coarse = lowpass(F.pad(missing, margins, mode="reflect"), factor)[..., :height, :width]
    return clean + strength * coarse.reshape(clean.shape).to(clean)


def _shape(latent: Tensor) -> str:
    return "×".join(map(str, latent.shape[1:]))
