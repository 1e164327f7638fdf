"""Samplers as plain functions: from noisy faces to clean ones, over any steps and any prior.

A sampler calls ``predict(x, index)`` for the clean faces at each step, noisiest first, and passes
every sample to ``after(x, index, clean)``, which returns it, changed or not. By then the sample
has the noise of the step before ``index``, none after index 0; ``clean`` is the prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .prior import Predicted
from .schedule import Respaced, posterior

Predict = Callable[[Tensor, int], Predicted]
After = Callable[[Tensor, int, Tensor], Tensor]
StepNoise = Callable[[int], Tensor]


def spread(start: int, calls: int) -> list[int]:
    """The steps at which the network is called: ``calls`` of 1 … start, rising, ``start`` last.

    They are spaced quadratically, denser where little noise is left: with even spacing the last
    stride would be so wide that it loses detail. With ``calls`` equal to ``start`` these are all.
    """
    return [max(call, round(start * (call / calls) ** 2)) for call in range(1, calls + 1)]


def ddpm(x: Tensor, steps: Respaced, predict: Predict, noise: StepNoise, after: After) -> Tensor:
    """Ancestral sampling, as published (Ho et al. 2020, algorithm 2).

    Args:
        x: B×3×S×S at the last, noisiest of the steps.
        steps: at least two.
        predict: returns the clean faces and the share of the variance.
        noise: ``noise(index)`` returns B×3×S×S standard normal for the step from ``index``; not
            called at index 0, where the sample is the clean face.
        after: see the module.

    Returns:
        B×3×S×S clean faces.
    """
    for index in reversed(range(len(steps))):
        predicted = predict(x, index)
        step, share = posterior(steps, index), predicted.share
        x = step.clean * predicted.clean + step.noisy * x
        if index:
            log_variance = share * step.log_beta + (1 - share) * step.log_variance
            x = x + torch.exp(torch.as_tensor(log_variance) / 2) * noise(index)
        x = after(x, index, predicted.clean)
    return x


def ddim(
    x: Tensor, steps: Respaced, predict: Predict, noise: StepNoise, after: After, eta: float = 0.0
) -> Tensor:
    """The sampler of Song et al. (2021), eq. 12: deterministic, or with a share of the noise.

    Args:
        x, steps, predict, noise, after: as in `ddpm`; ``noise`` is not called if ``eta`` is 0.
        eta: η, the share of the noise of ancestral sampling with its smaller variance, which
            1 equals.

    Returns:
        B×3×S×S clean faces.
    """
    for index in reversed(range(len(steps))):
        alpha_bar = float(steps.alphas_cumprod[index])
        before = float(steps.alphas_cumprod_prev[index])
        clean = predict(x, index).clean
        direction = (x - alpha_bar**0.5 * clean) / (1 - alpha_bar) ** 0.5
        variance = eta**2 * (1 - before) / (1 - alpha_bar) * (1 - alpha_bar / before)
        x = before**0.5 * clean + (1 - before - variance) ** 0.5 * direction
        if variance > 0:
            x = x + variance**0.5 * noise(index)
        x = after(x, index, clean)
    return x


def multistep(
    x: Tensor,
    steps: Respaced,
    predict: Predict,
    after: After,
    kind: str,
    changed: Sequence[int] = (),
) -> Tensor:
    """diffusers' multistep solvers of order 2: DPM-Solver++ (Lu et al. 2022) or UniPC (Zhao 2023).

    The scheduler is built with these steps alone, so it takes them all. It works on the predicted
    clean face, whatever the prior predicts.

    Args:
        x, steps, predict, after: as in `ddpm`.
        kind: "dpm-solver++" or "unipc".
        changed: the indices at which ``after`` changes the sample. UniPC does not correct the
            step that led there, because the correction would undo the change.

    Returns:
        B×3×S×S clean faces.
    """
    from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

    count = len(steps)
    betas = 1 - steps.alphas_cumprod / steps.alphas_cumprod_prev
    common = {
        "num_train_timesteps": count,
        "trained_betas": betas.tolist(),
        "prediction_type": "sample",
        "timestep_spacing": "trailing",
    }
    if kind == "unipc":
        uncorrected = [count - 1 - index for index in changed]  # the scheduler counts from noise
        scheduler = UniPCMultistepScheduler(**common, disable_corrector=uncorrected)
    else:
        scheduler = DPMSolverMultistepScheduler(**common)
    scheduler.set_timesteps(count)
    assert scheduler.timesteps.tolist() == list(reversed(range(count)))
    for index in reversed(range(count)):
        clean = predict(x, index).clean
        x = scheduler.step(clean, index, x, return_dict=False)[0]
        x = after(x, index, clean)
    return x
