"""Small priors for the tests of sampling: an exact one, and a network with weights by rule."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.published.rule_weights import fill_by_rule
from bfr.prior.prior import Prior
from bfr.prior.schedule import Schedule
from bfr.prior.unet import UNet, UNetConfig

SIZE = 32
_TINY = UNetConfig(
    model_channels=32,
    channels=(32, 32),
    blocks=(0, 1),
    attention=(False, False),
    head_channels=32,
    patch=4,
)


class Ideal(nn.Module):
    """Knows the one clean face there is, whatever noise is on it; keeps the batches it saw."""

    def __init__(self, face: Tensor, limit: int = 99) -> None:
        super().__init__()
        self.face, self.limit = nn.Parameter(face, requires_grad=False), limit
        self.batches: list[int] = []
        self.timesteps: list[int] = []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.batches.append(len(x))
        self.timesteps.append(int(t[0]))
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("allocating 7 GiB failed")
        return self.face.expand_as(x)


def ideal_prior(face: Tensor | float = 0.3, size: int = SIZE, limit: int = 99, **changes) -> Prior:
    """A prior that always predicts one clean face.

    Args:
        face: 3×S×S or a number, in [-1, 1].
        size: of its faces.
        limit: of the batch, above which it runs out of memory.
        changes: other attributes of the prior.
    """
    face = torch.as_tensor(face, dtype=torch.float32).expand(3, size, size).clone()
    facts = {"prediction": "sample", "variance": "fixed_small", "name": "ideal", **changes}
    return Prior(Ideal(face, limit), size, Schedule(), **facts)


def tiny_prior(size: int = SIZE, seed: int = 0, **changes) -> Prior:
    """A prior of some 100 000 parameters by rule: its faces are noise, but follow from the input.

    Args:
        size: of its faces; a multiple of 8.
        seed: of the rule.
        changes: other attributes of the prior.
    """
    facts = {"prediction": "sample", "variance": "fixed_small", "name": "tiny", **changes}
    config = replace(_TINY, out_channels=6 if facts["variance"].startswith("learned") else 3)
    return Prior(fill_by_rule(UNet(config), seed), size, Schedule(), **facts)


class Gaussian(nn.Module):
    """Knows that faces are white noise: E[x_0 | x_t] is a share of x_t."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = nn.Parameter(torch.tensor(deviation), requires_grad=False)
        self.alphas_cumprod = Schedule().alphas_cumprod

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return gaussian_share(float(self.deviation), float(self.alphas_cumprod[t[0]])) * x


def gaussian_share(deviation: float, alpha_bar: float) -> float:
    """E[x_0 | x_t] = share · x_t where x_0 is normal with that deviation."""
    return alpha_bar**0.5 * deviation**2 / (alpha_bar * deviation**2 + 1 - alpha_bar)


def gaussian_prior(deviation: float, size: int = SIZE) -> Prior:
    """A prior whose faces are white noise; all that is sampled from it is known exactly."""
    facts = {"prediction": "sample", "variance": "fixed_small", "clip": False, "name": "gaussian"}
    return Prior(Gaussian(deviation), size, Schedule(), **facts)
