"""The noise of sampling, drawn on the CPU for each face alone, so that batches change nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Noise = Callable[[str, int], Tensor]
"""``noise(purpose, step)``: B×3×S×S standard normal on the prior's device. The purpose is
"initial" (of the noised guess; step 0), "step" (of the sampler, on the way to the step) or
"constraint" (of the guess at the step, for the paper's hold)."""

_PURPOSES = ("initial", "step", "constraint")


def seeded_noise(seeds: Sequence[int], size: int, steps: int, device: torch.device) -> Noise:
    """Noise from one seed per face, drawn on the CPU.

    A face's generator first draws a seed for every purpose and step, so each noise is the same
    whichever others are drawn.

    Args:
        seeds: one per face.
        size: side of the faces in pixels.
        steps: the highest step.
        device: where the noise goes.
    """
    tables = [
        torch.randint(2**32, (len(_PURPOSES), steps + 1), generator=_generator(seed))
        for seed in seeds
    ]

    def noise(purpose: str, step: int) -> Tensor:
        place = _PURPOSES.index(purpose), step
        drawn = [
            torch.randn(3, size, size, generator=_generator(int(table[place]))) for table in tables
        ]
        return torch.stack(drawn).to(device)

    return noise


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
