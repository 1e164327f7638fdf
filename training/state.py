"""What every recipe's loop shares: the schedule, the moving average and the checkpoint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bfr.images import atomic_path


def cosine(progress: float, floor: float = 0.02) -> float:
    """Learning-rate factor falling from 1 to `floor` as progress goes from 0 to 1."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@torch.no_grad()
def average_weights(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves the average towards the network: ``a ← decay·a + (1 − decay)·n``."""
    for mean, value in zip(
        average.state_dict().values(), network.state_dict().values(), strict=True
    ):
        if mean.is_floating_point():
            mean.lerp_(value.to(mean.device), 1 - decay)
        else:
            mean.copy_(value)


def save_state(run: Path, parts: dict[str, Any], **numbers: float) -> None:
    """Writes the state dicts of the parts and the numbers to `run/state.pt`, atomically."""
    states = {name: part.state_dict() for name, part in parts.items()}
    with atomic_path(run / "state.pt") as path:
        torch.save({**states, **numbers}, path)


def load_state(run: Path, parts: dict[str, Any]) -> dict[str, Any]:
    """Restores the parts from `run/state.pt` if it exists; returns what was stored, else {}."""
    if not (run / "state.pt").exists():
        return {}
    state = torch.load(run / "state.pt", weights_only=True, map_location="cpu")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state
