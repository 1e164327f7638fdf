"""What every recipe shares: the loop, its schedule, its moving average and its checkpoint."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bfr.files.whole import atomic_path
from bfr.finetune.learner import follow

log = logging.getLogger(__name__)


def cosine(progress: float, floor: float = 0.02) -> float:
    """Learning-rate factor falling from 1 to `floor` as progress goes from 0 to 1."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


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


def train_for(
    run: Path,
    parts: dict[str, Any],
    batches: Iterable[Any],
    loss_of: Callable[[Any], Tensor],
    *,
    step: int,
    spent: float,
    minutes: float,
    steps: int,
    lr: float,
    warm_up: int,
    decay: float,
    clip: float,
    every: int,
    on_save: Callable[[int], None] | None = None,
) -> None:
    """Trains until the minutes or steps are over, on a cosine over exactly that time.

    Args:
        run: where the state is saved.
        parts: the `network`, its `average` and the `optimizer`.
        batches: endless; each goes to `loss_of`.
        loss_of: the loss of a batch.
        step: steps done before.
        spent: seconds spent before.
        minutes: how long the run may take in all, resumed parts included.
        steps: how many steps it may take in all.
        lr: highest learning rate.
        warm_up: steps in which it rises to that.
        decay: of the moving average, at the end.
        clip: greatest norm of the gradients.
        every: steps between saves; the loss is logged ten times as often.
        on_save: is told the step of each save.
    """
    network, average, optimizer = parts["network"], parts["average"], parts["optimizer"]
    began, running = time.time() - spent, 0.0
    for batch in batches:
        spent = time.time() - began
        progress = min(1.0, spent / (60 * minutes))
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / warm_up) * cosine(progress)
        loss = loss_of(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        step += 1
        follow(average, network, min(decay, 1 - 1 / (step / 5 + 1)))
        running = 0.98 * running + 0.02 * loss.item() if running else loss.item()
        done = progress >= 1 or step >= steps
        if step % max(1, every // 10) == 0 or done:
            log.info("step %d, %.1f min, loss %.5f", step, spent / 60, running)
        if step % every == 0 or done:
            save_state(run, parts, step=step, spent=spent)
            if on_save is not None:
                on_save(step)
        if done:
            break
