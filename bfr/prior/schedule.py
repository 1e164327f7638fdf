"""Noise schedules of diffusion models, their respacing to fewer steps, and a step's posterior.

Everything is float64 and knows no network. ᾱ ("alpha bar") is the share of the image's variance
that is left after a step: x_t = √ᾱ·x_0 + √(1-ᾱ)·ε (Ho et al. 2020, eq. 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import InputError

SHAPES = ("linear", "scaled_linear", "cosine")
_LARGEST_BETA = 0.999  # of the cosine schedule


@dataclass(frozen=True, slots=True)
class Schedule:
    """The noise schedule of a prior; the defaults are those of the published face priors.

    Attributes:
        shape: how β grows: "linear", "scaled_linear" (√β grows linearly) or "cosine"
            (Nichol and Dhariwal 2021, eq. 17; ignores ``first`` and ``last``).
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
                f"A noise schedule must be one of {', '.join(SHAPES)}, got {self.shape!r}. "
                "Choose one of them."
            )
        if type(self.steps) is not int or not 2 <= self.steps <= 100_000:
            raise InputError(
                f"A noise schedule must have 2 to 100000 steps, got {str(self.steps)[:40]}. "
                "Published priors have 1000."
            )
        if not 0 < self.first <= self.last < 1:
            raise InputError(
                f"A noise schedule must have 0 < first ≤ last < 1, got first {self.first} and "
                f"last {self.last}. Published priors have 0.0001 and 0.02."
            )

    @property
    def alphas_cumprod(self) -> Tensor:
        """ᾱ after every training step, float64, falling from nearly 1 to nearly 0."""
        if self.shape == "cosine":
            time = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
            level = torch.cos((time + 0.008) / 1.008 * (math.pi / 2)) ** 2
            betas = (1 - level[1:] / level[:-1]).clamp(max=_LARGEST_BETA)
        elif self.shape == "scaled_linear":
            first, last = self.first**0.5, self.last**0.5
            betas = torch.linspace(first, last, self.steps, dtype=torch.float64) ** 2
        else:
            betas = torch.linspace(self.first, self.last, self.steps, dtype=torch.float64)
        return (1 - betas).cumprod(0)


@dataclass(frozen=True, eq=False, slots=True)
class Respaced:
    """The steps that sampling visits, least noise first; step indices count in it.

    Any subset of a `Respaced`'s steps, in order, makes another one.

    Attributes:
        timesteps: T training steps, rising; the network is given these.
        alphas_cumprod: ᾱ after each of them, float64.
        alphas_cumprod_prev: ᾱ after the step before each, float64; 1 before the first.
    """

    timesteps: Tensor
    alphas_cumprod: Tensor
    alphas_cumprod_prev: Tensor = field(init=False)

    def __post_init__(self):
        ones = torch.ones_like(self.alphas_cumprod[:1])
        object.__setattr__(self, "alphas_cumprod_prev", torch.cat([ones, self.alphas_cumprod[:-1]]))

    def __len__(self) -> int:
        return len(self.timesteps)

    def at(self, indices: Tensor) -> Respaced:
        """Some of these steps, by their rising indices."""
        return Respaced(self.timesteps[indices], self.alphas_cumprod[indices])

    @property
    def sigmas(self) -> Tensor:
        """The ratio of noise to signal after each step, √((1-ᾱ)/ᾱ), float64 and rising."""
        return (1 / self.alphas_cumprod - 1).sqrt()


@dataclass(frozen=True, slots=True)
class Posterior:
    """q(x_{t-1} | x_t, x_0), a normal distribution (Ho et al. 2020, eq. 6 and 7).

    Attributes:
        clean: weight of x_0 in the mean.
        noisy: weight of x_t in the mean.
        log_variance: of the posterior; for the first step, where it would be -∞, that of the
            second, as published.
        log_beta: log β of the step, the largest variance that makes sense.
    """

    clean: float
    noisy: float
    log_variance: float
    log_beta: float


def respace(schedule: Schedule, steps: int) -> Respaced:
    """Spreads fewer steps evenly over a schedule, by the published rule.

    Args:
        schedule: of the prior.
        steps: how many, from 2.

    Returns:
        The steps, with the schedule's own ᾱ.

    Raises:
        InputError: if the schedule cannot be divided like that.
    """
    if not isinstance(steps, int) or not 2 <= steps <= schedule.steps:
        raise InputError(
            f"The number of steps must be a whole number from 2 to {schedule.steps}, got "
            f"{steps!r}. The paper takes 250."
        )
    timesteps = torch.tensor(spaced(schedule.steps, steps))
    return Respaced(timesteps, schedule.alphas_cumprod[timesteps])


def spaced(total: int, count: int) -> list[int]:
    """The training steps that stay: ``count`` of ``total``, the first and the last among them.

    The stride adds up in floating point and Python's rounding goes to even, both as published;
    ``i * stride`` would round differently.
    """
    stride = (total - 1) / (count - 1) if count > 1 else 1.0
    chosen, position = [], 0.0
    for _ in range(count):
        chosen.append(round(position))
        position += stride
    return chosen


def noised(x: Tensor, alpha_bar: Tensor | float, noise: Tensor) -> Tensor:
    """q(x_t | x_0): an image with noise on it, √ᾱ·x + √(1-ᾱ)·ε (Ho et al. 2020, eq. 4).

    Args:
        x: clean image of any shape, in [-1, 1].
        alpha_bar: ᾱ; a number, or a tensor that broadcasts to ``x``.
        noise: ε, standard normal, of the shape of ``x``.

    Returns:
        A tensor like ``x``.
    """
    return alpha_bar**0.5 * x + (1 - alpha_bar) ** 0.5 * noise


def posterior(steps: Respaced, index: int) -> Posterior:
    """The posterior of one step; β follows from the ᾱ of the given steps.

    Args:
        steps: at least two.
        index: of the step in ``steps``.
    """
    alpha_bar, before = _alpha_bars(steps, index)
    beta = 1 - alpha_bar / before
    of_variance, before_it = _alpha_bars(steps, max(index, 1))
    variance = (1 - of_variance / before_it) * (1 - before_it) / (1 - of_variance)
    return Posterior(
        clean=beta * before**0.5 / (1 - alpha_bar),
        noisy=(1 - before) * (alpha_bar / before) ** 0.5 / (1 - alpha_bar),
        log_variance=math.log(variance),
        log_beta=math.log(beta),
    )


def _alpha_bars(steps: Respaced, index: int) -> tuple[float, float]:
    return float(steps.alphas_cumprod[index]), float(steps.alphas_cumprod_prev[index])
