"""The soft hold: the predicted clean face is pulled towards the guess, as firmly as noise allows.

    x₀ ← x₀ + strength · s · φ(x̂ - x₀),   s = σ² / (σ² + σₙ²),   σ² = (1-ᾱ) / ᾱ

x̂ is the guess, x₀ the prior's prediction at a step, φ the paper's low-pass, and σₙ ("error") how
wrong the guess may be. s is the weight of a measurement with noise σₙ under a flat prior (Zhu et
al., "Denoising Diffusion Models for Plug-and-Play Image Restoration", CVPRW 2023, eq. 12); that
only a range of frequencies is corrected is from Wang et al. ("Zero-Shot Image Restoration Using
Denoising Diffusion Null-Space Model", ICLR 2023, eq. 13). The pull acts inside the predictor, so
every sampler sees one consistent prediction: there is no second noise and no step at which the
guess is dropped, and multistep solvers keep a true history.

Where a guess's own noise is known, σ_g, it may be as much more wrong: σₙ · √(1 + (σ_g / 0.05)²).

A small prior softens edges that the guess has sharp, and what it invents best is the texture of
smooth places. So places with detail may be less wrong than others: σₙ · (1 - edges · d), where d
is their share of detail (`detail_in`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..image.blur import blurred
from ..image.lowpass import lowpass
from ..image.tensors import luma
from .constraint import PAPER_SIZE, check_hold, suited_factor, suited_step
from .schedule import Respaced

_USUAL_NOISE = 0.05  # of a guess, in [-1, 1]: at as much, σₙ counts 1.4 times
_USUAL_DETAIL = 0.04  # of a guess, in [-1, 1]: where its deviation is as much, d is 1/2
_FINE, _AROUND = 1 / 128, 3 / 256  # of a face's side: what is finer is detail; where it is measured
_LEAST_KNOWN = 0.25  # share of known pixels below which their mean is no longer trusted


@dataclass(frozen=True, slots=True)
class SoftHold:
    """The soft hold on the guess.

    Attributes:
        factor: N of the low-pass φ; 1 holds all frequencies. Higher keeps less of the guess.
        strength: 1 pulls fully; 0 leaves the prior free.
        start: the step that the guess is noised to, at least 2. Higher forgets more of it.
        error: σₙ, how wrong a clean guess may be, in the prior's range [-1, 1]. Higher lets go
            of the guess earlier; 0 never lets go.
        detail: the gain on the detail of each prediction: 0 leaves the prior's own, higher
            sharpens, negative softens; in [-1, 1].
        edges: how much less wrong the guess may be where it has detail, in [0, 1]: 0 is as
            wrong as anywhere, 1 almost right at strong edges.

    Raises:
        InputError: if a value is out of its range.
    """

    factor: int = 4
    strength: float = 1.0
    start: int = 100
    error: float = 0.25
    detail: float = 0.0
    edges: float = 0.0

    def __post_init__(self):
        check_hold(self.factor, self.strength, self.start)
        if not 0 <= self.error < math.inf:
            raise InputError(
                f"error must be a finite number from 0, got {self.error}. 0.25 suits most guesses."
            )
        if not -1 <= self.detail <= 1:
            raise InputError(f"detail must be in [-1, 1], got {self.detail}. 0 changes nothing.")
        if not 0 <= self.edges <= 1:
            raise InputError(f"edges must be in [0, 1], got {self.edges}. 0 changes nothing.")

    def suited(self, size: int, steps: Respaced, meant_for: int = PAPER_SIZE) -> SoftHold:
        """Adapts a hold for faces of another size, such that it forgets and keeps as much.

        Args:
            size: side in pixels of the prior's faces.
            steps: all steps that the prior's noise is divided into.
            meant_for: side in pixels of the faces that this hold is for.

        Raises:
            InputError: if ``start`` exceeds the number of steps.
        """
        if size == meant_for:
            return self
        ratio = size / meant_for
        return replace(
            self,
            start=max(suited_step(self.start, ratio, steps), 2),
            factor=suited_factor(self.factor, size, meant_for),
            error=self.error * ratio,
        )


def hold_softly(
    clean: Tensor,
    guess: Tensor,
    alpha_bar: float,
    hold: SoftHold,
    mask: Tensor | None = None,
    noise: Tensor | None = None,
    detail: Tensor | None = None,
) -> Tensor:
    """Pulls predicted clean faces towards their guesses, and adds detail.

    Args:
        clean: B×3×S×S predictions, nominally in [-1, 1].
        guess: B×3×S×S in [-1, 1].
        alpha_bar: ᾱ of the step that the prediction was made at.
        hold: how firmly; its factor divides S.
        mask: B×1×S×S in [0, 1]; where it is 1 the guess is unknown and nothing is held.
        noise: B, the deviation of each guess's own noise in [-1, 1]; None for guesses without.
        detail: B×1×S×S of `detail_in`; not needed where ``hold.edges`` is 0.

    Returns:
        B×3×S×S.
    """
    variance, wrong = (1 - alpha_bar) / alpha_bar, hold.error**2
    if detail is not None:
        wrong = wrong * (1 - hold.edges * detail).square()
    if noise is not None:
        wrong = wrong * (1 + (noise[:, None, None, None] / _USUAL_NOISE).square())
    weight = hold.strength * variance / (variance + wrong)
    missing = guess - clean
    if mask is None:
        held = clean + weight * lowpass(missing, hold.factor)
    else:
        # The low-pass must not spread what is under the mask: it is a mean of the rest alone.
        known = 1 - mask
        share = lowpass(known, hold.factor).clamp(min=_LEAST_KNOWN)
        held = clean + weight * known * lowpass(known * missing, hold.factor) / share
    if hold.detail == 0:
        return held
    return held + hold.detail * (held - lowpass(held, detail_factor(held.shape[-1])))


def detail_in(guess: Tensor) -> Tensor:
    """The share of detail of each place, from 0 in smooth ones towards 1 at strong edges.

    Args:
        guess: B×3×S×S RGB in [-1, 1].

    Returns:
        B×1×S×S in [0, 1).
    """
    light, side = luma(guess), guess.shape[-1]
    fine = light - blurred(light, _FINE * side)
    deviation = blurred(fine.square(), _AROUND * side).sqrt()
    return deviation / (deviation + _USUAL_DETAIL)


def fill(guess: Tensor, mask: Tensor) -> Tensor:
    """Replaces what is under a mask by the mean of what is around it, coarse to fine.

    Args:
        guess: B×3×S×S.
        mask: B×1×S×S in [0, 1]; 1 is filled.

    Returns:
        B×3×S×S; ``guess`` where the mask is 0.
    """
    known = 1 - mask
    total = known.sum((2, 3), keepdim=True).clamp(min=1)
    filled = (known * guess).sum((2, 3), keepdim=True) / total
    side = guess.shape[-1]
    widths = [2**n for n in reversed(range(1, side.bit_length() - 1)) if side % 2**n == 0]
    for width in widths:
        share, part = (
            F.interpolate(F.avg_pool2d(image, width), (side, side), mode="bilinear")
            for image in (known, known * guess)
        )
        mean = part / share.clamp(min=1e-6)
        filled = torch.lerp(filled, mean, (share / _LEAST_KNOWN).clamp(0, 1))
    return torch.lerp(filled, guess, known)


def detail_factor(size: int) -> int:
    """The low-pass factor that separates detail from shapes: 2 at 256 pixels."""
    return suited_factor(4, size, PAPER_SIZE) if size > PAPER_SIZE // 4 else 2 - size % 2
