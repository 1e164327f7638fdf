"""The noise of a diffusion model: its schedules, fewer steps of them, and the posterior of a step.

Everything is float64 and knows no network. ᾱ ("kept") is the share of the image's variance that
is left after a step: x_t = √ᾱ·x_0 + √(1-ᾱ)·ε (Ho et al. 2020, eq. 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError

SHAPES = ("linear", "scaled_linear", "cosine")
_MOST = 0.999  # of any β in the cosine schedule


@dataclass(frozen=True, slots=True)
class Schedule:
    """The noise that a prior was trained on; as it stands, that of the published face priors.

    Attributes:
        shape: how β grows: "linear", "scaled_linear" (√β grows linearly) or "cosine"
            (Nichol and Dhariwal 2021, eq. 17; needs no ``first`` and ``last``).
        steps: training steps.
        first: β of the first step.
        last: β of the last step.

    Raises:
        InputError: if there is no such schedule.
    """

    shape: str = "linear"
    steps: int = 1000
    first: float = 1e-4
    last: float = 0.02

    def __post_init__(self):
        if self.shape not in SHAPES:
            raise InputError(
                f"A noise schedule is one of {', '.join(SHAPES)}, and {self.shape!r} came."
            )
        if not isinstance(self.steps, int) or self.steps < 2:
            raise InputError(f"A noise schedule has at least 2 steps, and {self.steps} came.")
        if not 0 < self.first <= self.last < 1:
            raise InputError(
                "A noise schedule needs 0 < first ≤ last < 1, and "
                f"first {self.first} and last {self.last} came."
            )

    @property
    def kept(self) -> Tensor:
        """ᾱ of every training step, float64, falling from nearly 1 to nearly 0."""
        if self.shape == "cosine":
            time = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
            level = torch.cos((time + 0.008) / 1.008 * (math.pi / 2)) ** 2
            betas = (1 - level[1:] / level[:-1]).clamp(max=_MOST)
        elif self.shape == "scaled_linear":
            first, last = self.first**0.5, self.last**0.5
            betas = torch.linspace(first, last, self.steps, dtype=torch.float64) ** 2
        else:
            betas = torch.linspace(self.first, self.last, self.steps, dtype=torch.float64)
        return (1 - betas).cumprod(0)


@dataclass(frozen=True, eq=False, slots=True)
class Respaced:
    """The steps that sampling goes through, least noise first; step indices count in it.

    Any of a `Respaced`'s steps, in order, make another one.

    Attributes:
        timesteps: T training steps, rising; what the network is told.
        kept: ᾱ after each of them, float64.
    """

    timesteps: Tensor
    kept: Tensor

    def __len__(self) -> int:
        return len(self.timesteps)

    @property
    def previous(self) -> Tensor:
        """ᾱ of the step before each, float64; 1 before the first."""
        return torch.cat([torch.ones_like(self.kept[:1]), self.kept[:-1]])


@dataclass(frozen=True, slots=True)
class Posterior:
    """q(x_{t-1} | x_t, x_0), a normal distribution (Ho et al. 2020, eq. 6 and 7).

    Attributes:
        clean: its mean's share of x_0.
        noisy: its mean's share of x_t.
        log_variance: of the posterior; before the first step, where it is -∞, that of the
            second, as published.
        log_beta: log β of the step, the largest variance that makes sense.
    """

    clean: float
    noisy: float
    log_variance: float
    log_beta: float


def respace(schedule: Schedule, steps: int | str) -> Respaced:
    """Spreads fewer steps evenly over a schedule, by the published rule.

    Args:
        schedule: of the prior.
        steps: how many; or, in the published notation, ``"10,15,20"`` for so many in each of
            equal sections, or ``"ddim50"`` for that many a whole stride apart.

    Returns:
        The steps, with the schedule's own ᾱ.

    Raises:
        InputError: if the schedule cannot be divided like that.
    """
    timesteps = torch.tensor(_spaced(schedule.steps, str(steps)))
    return Respaced(timesteps, schedule.kept[timesteps])


def noised(x: Tensor, kept: Tensor | float, noise: Tensor) -> Tensor:
    """q(x_t | x_0): an image with noise on it, √ᾱ·x + √(1-ᾱ)·ε (Ho et al. 2020, eq. 4).

    Args:
        x: clean image of any shape, in [-1, 1].
        kept: ᾱ; a number, or a tensor that broadcasts to ``x``.
        noise: ε, standard normal, of the shape of ``x``.

    Returns:
        A tensor like ``x``.
    """
    return kept**0.5 * x + (1 - kept) ** 0.5 * noise


def posterior(steps: Respaced, index: int) -> Posterior:
    """The posterior of one step, β following from the ᾱ of the steps that are there.

    Args:
        steps: at least two.
        index: of the step in ``steps``.
    """
    kept, before = float(steps.kept[index]), float(steps.previous[index])
    beta = 1 - kept / before
    second = max(index, 1)
    return Posterior(
        clean=beta * before**0.5 / (1 - kept),
        noisy=(1 - before) * (kept / before) ** 0.5 / (1 - kept),
        log_variance=math.log(_variance(steps, second)),
        log_beta=math.log(beta),
    )


def _variance(steps: Respaced, index: int) -> float:
    kept, before = float(steps.kept[index]), float(steps.previous[index])
    return (1 - kept / before) * (1 - before) / (1 - kept)


def _spaced(total: int, notation: str) -> list[int]:
    """The training steps that stay; the rounding is Python's, as published."""
    refused = InputError(
        f"Steps are a whole number from 2 to {total}, or in the published notation '10,15,20' or "
        f"'ddim50', and {notation!r} does not divide {total} training steps."
    )
    words = notation.removeprefix("ddim").split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise refused
    counts = [int(word) for word in words]
    if notation.startswith("ddim"):
        strides = (range(0, total, stride) for stride in range(1, total))
        chosen = [list(steps) for steps in strides if len(steps) == counts[0]][:1]
        if len(counts) > 1 or counts[0] < 2 or not chosen:
            raise refused
        return chosen[0]
    kept, start = [], 0
    for i, count in enumerate(counts):
        size = total // len(counts) + (i < total % len(counts))
        if not 1 <= count <= size:
            raise refused
        stride = (size - 1) / (count - 1) if count > 1 else 1.0
        position = 0.0
        for _ in range(count):
            kept.append(start + round(position))
            position += stride  # adds up as published: i * stride rounds otherwise
        start += size
    if len(kept) < 2:
        raise refused
    return kept
