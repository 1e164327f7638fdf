"""Priors: diffusion models of clean faces, and what one call of their network predicts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import InputError, WeightsError, WrongArchitectureError
from .schedule import Respaced, Schedule

PREDICTIONS = ("epsilon", "v_prediction", "sample")
VARIANCES = ("learned_range", "fixed_large", "fixed_small")


@dataclass(frozen=True, eq=False, slots=True)
class Prior:
    """A diffusion model of clean faces; the ``BFR_PRIOR`` socket.

    Attributes:
        network: takes B×3×S×S noisy faces, in [-1, 1] before the noise, and B training steps;
            gives B×3×S×S, or B×6×S×S where the variance is learned.
        size: S, the side in pixels of the faces it was trained on.
        schedule: the noise schedule it was trained on.
        prediction: what the network predicts: the noise ("epsilon"), the velocity
            ("v_prediction", Salimans and Ho 2022) or the clean face ("sample").
        variance: of an ancestral step: predicted, between the posterior's and β
            ("learned_range"); β ("fixed_large"); or the posterior's ("fixed_small").
        highest_step: the noisiest training step that it has learned.
        shift: training steps added to the step that the network is given. Partly sampled faces
            are not exactly clean faces plus noise, which is all the network has seen;
            overstating the noise makes it remove the difference too (Li et al. 2024,
            "Alleviating Exposure Bias in Diffusion Models through Sampling with Shifted Time
            Steps"). Under the soft hold it is the most that is added (`prior.calls`).
        clip: whether predicted faces are clipped to [-1, 1].
        name: for reports.
        sha256: of the weights file, in hexadecimal; empty for a prior made in code.

    Raises:
        InputError: for a prediction, variance, size or step out of its range.
    """

    network: nn.Module
    size: int
    schedule: Schedule
    prediction: str = "epsilon"
    variance: str = "learned_range"
    highest_step: int = 999
    shift: int = 0
    clip: bool = True
    name: str = ""
    sha256: str = ""

    def __post_init__(self):
        for what, value, known in (
            ("prediction", self.prediction, PREDICTIONS),
            ("variance", self.variance, VARIANCES),
        ):
            if value not in known:
                raise InputError(
                    f"A prior's {what} must be one of {', '.join(known)}, got {value!r}. "
                    "Choose what it was trained with."
                )
        if self.size < 1:
            raise InputError(
                f"A prior's size must be at least 1 pixel, got {self.size}. Give the side of the "
                "faces it was trained on."
            )
        if not 0 < self.highest_step < self.schedule.steps:
            raise InputError(
                f"A prior's highest step must be from 1 to {self.schedule.steps - 1}, got "
                f"{self.highest_step}. Give the noisiest step it has learned."
            )
        if not 0 <= self.shift <= self.highest_step:
            raise InputError(
                f"A prior's shift must be from 0 to its highest step, {self.highest_step}, got "
                f"{self.shift}. 0 shifts nothing."
            )

    @property
    def channels(self) -> int:
        """The number of channels that the network gives."""
        return 6 if self.variance == "learned_range" else 3


@dataclass(frozen=True, eq=False, slots=True)
class Predicted:
    """A prior's prediction for noisy faces.

    Attributes:
        clean: B×3×S×S float32, the predicted clean faces.
        share: where the log variance of an ancestral step is, from the posterior's (0) to log β
            (1); B×3×S×S float32, or one number.
    """

    clean: Tensor
    share: Tensor | float


def predict(
    prior: Prior, x: Tensor, steps: Respaced, index: int, shifts: Tensor | None = None
) -> Predicted:
    """Predicts the clean faces behind noisy ones in one network call (Ho et al. 2020, eq. 15).

    Args:
        prior: its network may be in any floating-point type, on the device of ``x``.
        x: B×3×S×S float32 noisy faces.
        steps: that sampling visits.
        index: of the step in ``steps`` whose noise ``x`` has.
        shifts: B training steps to add for each face; None for the prior's own shift.

    Raises:
        InputError: if the step has more noise than the prior was trained on.
        WrongArchitectureError: if the network gives another shape than the variance asks for.
        WeightsError: if it gives NaN or infinity.
    """
    step = int(steps.timesteps[index])
    if step > prior.highest_step:
        raise InputError(
            f"The training step must be at most {prior.highest_step}, the noisiest that the prior "
            f"{prior.name} has learned, got {step}. Start at a lower step."
        )
    dtype = next((p.dtype for p in prior.network.parameters()), x.dtype)
    t = torch.full((len(x),), step, device=x.device)
    t = (t + (prior.shift if shifts is None else shifts)).clamp(max=prior.highest_step)
    output = prior.network(x.to(dtype), t).float()
    if output.shape != (shape := (len(x), prior.channels, *x.shape[2:])):
        raise WrongArchitectureError(
            f"The prior {prior.name} must give {shape} for its variance {prior.variance!r}, got "
            f"{tuple(output.shape)}. Load it with another variance."
        )
    if not bool(torch.isfinite(output).all()):
        raise WeightsError(
            f"The prior {prior.name} must give finite numbers, got NaN or infinity in {dtype}. "
            "Use float32, or download its weights again."
        )
    estimate, values = output[:, :3], output[:, 3:]
    alpha_bar = float(steps.alphas_cumprod[index])
    if prior.prediction == "epsilon":
        clean = (1 / alpha_bar) ** 0.5 * x - (1 / alpha_bar - 1) ** 0.5 * estimate
    elif prior.prediction == "v_prediction":
        clean = alpha_bar**0.5 * x - (1 - alpha_bar) ** 0.5 * estimate
    else:
        clean = estimate
    # Nichol and Dhariwal 2021, eq. 15, and the fixed variances of Ho et al. 2020, section 3.2.
    fixed = {"fixed_small": 0.0, "fixed_large": 1.0}
    share = fixed[prior.variance] if prior.variance in fixed else (values + 1) / 2
    return Predicted(clean.clamp(-1, 1) if prior.clip else clean, share)
