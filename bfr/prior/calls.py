"""Calls of a prior's network: as many faces at once as fit, each told how noisy it is.

A guess noised to a step is not a clean face plus that step's noise: the guess has noise and errors
of its own, and sampling leaves a little grain. Told too little of it, the network keeps it; told
too much, it smooths away what people are known by. Priors that need to be told (`Prior.shift`) see
each guess once before sampling, and what they would take from it says how much to tell. The soft
hold lets go of noisy guesses earlier, too.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..runtime.memory import Parts
from .prior import Predicted, Prior, predict
from .samplers import Predict
from .schedule import Respaced, respace

MEASURED_AT = 25  # the training step of which the network is told while it looks at a guess
GAIN = 3.0  # noise to tell of, over what the network would take from the guess
LEAST = 0.02  # noise to tell of for the cleanest guess, in [-1, 1]: sampling leaves a little grain


def predictor(prior: Prior, steps: Respaced, size: int, shifts: Tensor | None = None) -> Predict:
    """Calls the network for as many faces at once as fit into memory.

    Args:
        prior: runs where its network is.
        steps: that sampling visits.
        size: the most faces at once.
        shifts: B training steps to add for each face, instead of the prior's own shift.
    """
    parts = Parts(size, "sample", "half precision or a smaller prior")

    def run(x: Tensor, index: int) -> Predicted:
        def call(part: slice) -> Predicted:
            shift = None if shifts is None else shifts[part]
            return predict(prior, x[part], steps, index, shift)

        work = parts.of(len(x), call)
        clean, shares = zip(*((one.clean, one.share) for _, one in work), strict=True)
        share = torch.cat(shares) if isinstance(shares[0], Tensor) else shares[0]
        return Predicted(torch.cat(clean), share)

    return run


def measured_noise(prior: Prior, guesses: Tensor, size: int) -> Tensor:
    """The noise that guesses have by themselves, as the prior sees it, at least `LEAST`.

    It takes one network call per face.

    Args:
        prior: that needs to be told.
        guesses: B×3×S×S float32 in [-1, 1], on the network's device.
        size: the most faces at once.

    Returns:
        B float32, a deviation in [-1, 1], on the device of ``guesses``.
    """
    every = respace(prior.schedule, prior.schedule.steps)
    look = predictor(replace(prior, shift=0), every, size)
    taken = guesses - look(guesses, min(MEASURED_AT, prior.highest_step)).clean
    return (GAIN * noise_in(taken)).clamp(min=LEAST)


def shifts_for(prior: Prior, noise: Tensor) -> Tensor:
    """The training steps to add for each guess, B int64: the steps until there is as much noise.

    Args:
        prior: its shift is the most that is added.
        noise: B of `measured_noise`.
    """
    every = respace(prior.schedule, prior.schedule.steps)
    return torch.searchsorted(every.sigmas.to(noise), noise).clamp(max=prior.shift)


def noise_in(difference: Tensor) -> Tensor:
    """The strength of differences B×3×S×S: the mean of their colours' and their grey's absolute."""
    colours, grey = difference.abs(), difference.mean(1, keepdim=True).abs()
    return (colours.mean((1, 2, 3)) + grey.mean((1, 2, 3))) / 2
