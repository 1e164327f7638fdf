"""The paper's constraint: the sample keeps the low frequencies of the equally noised guess.

Steps count the noise that is left, in steps of the published 250: step ``start`` is where the
guess is noised to, step 0 is the clean face, and step t has the ᾱ that t of them leave.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..image.lowpass import lowpass
from .schedule import Respaced, noised


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a pseudo target keeps of its guess; as it stands, the paper's for most restorers.

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
        for name in ("factor", "start", "stop"):
            value = getattr(self, name)
            if not isinstance(value, int):
                raise InputError(f"{name} must be a whole number, and {value!r} came.")
        if self.factor < 1:
            raise InputError(
                f"factor must be at least 1, and {self.factor} came. Published: 8, 16."
            )
        if not 0 <= self.strength <= 1:
            raise InputError(f"strength must lie in [0, 1], and {self.strength} came.")
        if self.start < 2:
            raise InputError(f"start must be at least 2, and {self.start} came. Published: 150.")
        if self.stop < 0:
            raise InputError(
                f"stop must be at least 0 (constrain to the end), and {self.stop} came."
            )
        if self.stop >= self.start:
            raise InputError(
                f"stop must be below start, for sampling runs from start down to 0, and start "
                f"{self.start} with stop {self.stop} came. Lower stop, or raise start; to sample "
                "without the constraint, set strength to 0."
            )

    def holds_at(self, step: int) -> bool:
        """Whether the sample that has reached a step is constrained."""
        return self.strength > 0 and step >= self.stop

    def check(self, size: int, steps: int) -> None:
        """Checks that the constraint suits a prior.

        Args:
            size: side in pixels of the prior's faces.
            steps: into how many its noise is divided.

        Raises:
            InputError: if ``factor`` does not divide ``size``, or ``start`` exceeds ``steps``.
        """
        lowpass(torch.empty(0, size, size), self.factor)
        if self.start > steps:
            raise InputError(
                f"start must be at most {steps}, the number of steps, and {self.start} came. "
                "Lower start, or raise the number of steps."
            )


PAPER_SIZE = 512
"""Side in pixels of the faces that the paper's start, stop and factor are for."""


def suited(
    constraint: Constraint, size: int, steps: Respaced, meant_for: int = PAPER_SIZE
) -> Constraint:
    """The same constraint for a prior of another size: what it forgets and keeps looks alike.

    The same noise hides larger parts of a smaller picture. So start and stop become the steps
    whose ratio of noise to signal, σ/√ᾱ, is ``size / meant_for`` times theirs (Hoogeboom et al.,
    "simple diffusion", ICML 2023, section 3.1), and the factor shrinks like the picture. Each
    takes the nearest value that there is: a whole step, a divisor of the size.

    Args:
        constraint: for faces of ``meant_for`` pixels.
        size: side in pixels of the prior's faces.
        steps: all steps that the prior's noise is divided into.
        meant_for: side in pixels.

    Raises:
        InputError: if ``start`` exceeds the number of steps.
    """
    if size == meant_for:
        return constraint
    if constraint.start > len(steps):
        raise InputError(
            f"start must be at most {len(steps)}, the number of steps, and {constraint.start} "
            "came. Lower start, or raise the number of steps."
        )
    levels = (1 / steps.alphas_cumprod - 1).log() / 2  # log of σ/√ᾱ after 1, 2, … steps

    def moved(step: int) -> int:
        level = levels[step - 1] + torch.tensor(size / meant_for).log()
        return int((levels - level).abs().argmin()) + 1

    start = max(moved(constraint.start), 2)
    stop = min(moved(constraint.stop), start - 1) if constraint.stop else 0
    ideal = constraint.factor * size / meant_for
    divisors = [n for n in range(1, size + 1) if size % n == 0]
    factor = min(divisors, key=lambda n: (abs(n - ideal), n))
    return replace(constraint, start=start, stop=stop, factor=factor)


def constrain(
    x: Tensor, guess: Tensor, kept: float, noise: Tensor, factor: int, strength: float = 1.0
) -> Tensor:
    """``x + strength·φ(q(guess, t) - x)``: Kuai et al. (WACV 2025), section 3, with one φ.

    The published code takes step -1 for the reference of a finished face, which wraps to the
    noisiest. Here that reference is the guess itself: ᾱ is 1.

    Args:
        x: B×3×S×S samples at step t; clean ones lie in [-1, 1].
        guess: B×3×S×S in [-1, 1].
        kept: ᾱ of step t; 1 at step 0.
        noise: B×3×S×S standard normal; of no effect where ``kept`` is 1.
        factor: φ's N; divides S.
        strength: in [0, 1]; 1 is the paper's replacement.

    Returns:
        B×3×S×S.
    """
    return x + strength * lowpass(noised(guess, kept, noise) - x, factor)
