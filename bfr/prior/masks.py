"""Masks of sampling: what a scratch hides is painted again, from a noisier start."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..errors import InputError
from .constraint import PAPER_SIZE, suited_step
from .prior import Prior
from .schedule import Respaced
from .settings import SampleSettings, learned_steps
from .soft import SoftHold

_HIDES = 150 / 250  # share of the steps, at 512 px, whose noise hides what a mask covers
_PAINTING_CALLS = 4  # more than without a mask


def repainting(settings: SampleSettings, prior: Prior, every: Respaced) -> SampleSettings:
    """Settings that start where the noise hides a scratch, with the calls that this takes.

    Args:
        settings: of the soft hold.
        prior: its size and what it has learned limit the start.
        every: all its steps.
    """
    hides = suited_step(round(_HIDES * len(every)), prior.size / PAPER_SIZE, every)
    start = max(settings.constraint.start, min(hides, learned_steps(prior, every)))
    calls = settings.calls and min(settings.calls + _PAINTING_CALLS, start)
    constraint = replace(settings.constraint, start=start)
    return replace(settings, constraint=constraint, calls=calls)


def checked_masks(masks: Tensor, guesses: Tensor, settings: SampleSettings) -> Tensor:
    """One mask per guess, of its size."""
    if not isinstance(settings.constraint, SoftHold):
        raise InputError(
            "A mask needs the soft hold, got the paper's, which cannot leave a part of the face "
            "free. Choose the soft hold, or remove the mask."
        )
    shape = tuple(masks.shape)
    if masks.ndim != 4 or shape[1] != 1 or shape[2] != shape[3]:
        raise InputError(
            f"masks must be N×1×S×S, square like the faces, got {'×'.join(map(str, shape))}. "
            "Align the mask with the face."
        )
    if len(masks) not in (1, len(guesses)):
        raise InputError(
            f"masks must hold one mask, or one per face ({len(guesses)}), got {len(masks)}."
            " Give one for each."
        )
    if not bool(torch.isfinite(masks).all()) or masks.min() < 0 or masks.max() > 1:
        raise InputError(
            f"masks must be in [0, 1], got {float(masks.min()):.3g} to {float(masks.max()):.3g}. "
            "Clamp them first."
        )
    return masks.expand(len(guesses), -1, -1, -1)
