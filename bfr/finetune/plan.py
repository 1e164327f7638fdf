"""Plans a run before it starts: its memory, and the steps that fit a time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..damage.learned import LearnedDamage
from ..errors import OutOfMemoryError
from ..pairs.folder import PairSet
from ..quality.perceptual import load_distance
from ..restore.restorer import Restorer, restore_faces
from ..runtime.processes import Share
from ..runtime.progress import in_words
from .adapters import add_adapters
from .batches import TrainingSet
from .identity import settled
from .learner import make_learner
from .settings import FinetuneSettings, adjusted
from .validate import ENOUGH

_PAPER_SIDE = 512  # of faces for a restorer that takes any
_CRITIC_LAYERS = {"unet": 16, "detail": 4}  # of a discriminator, as large as its first one
_DISTANCE_LAYERS = 512  # values a pixel that a perceptual distance keeps; of VGG's layers
_IDENTITY = 100_000_000  # bytes a face that the identity network keeps, with its crop
_TRIED = 4  # steps that are timed; the first one, which is slow, does not count
_WORTH_TIMING = 100  # steps of a run that is timed only to say how long it will take


@torch.inference_mode(False)  # ComfyUI's nodes run in it, and nothing has a gradient there
@torch.enable_grad()
def training_bytes(restorer: Restorer, settings: FinetuneSettings) -> int:
    """About how much memory fine-tuning takes, besides the caller's own restorer.

    The copy's parameters and the average; gradients and both moments of Adam of what is trained;
    with adapters, the weights that they are merged to; what a forward pass
    of a micro-batch keeps for the backward pass, counted on a network without memory; and the
    same for the discriminator and the perceptual distance, by their layers.
    """
    if not restorer.trainable:
        return 0  # training refuses it, and says why
    side = settings.patch or restorer.size or _PAPER_SIDE
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += 0 if isinstance(tensor, nn.Parameter) else tensor.nbytes
        return tensor

    ghost = restorer.copy().to("meta", torch.float32)
    ghost.network.requires_grad_(True)
    faces = torch.empty(1, 3, side, side, device="meta", requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        ghost(faces)
    layers = _DISTANCE_LAYERS * (settings.perceptual > 0)
    if settings.adversarial:
        layers += _CRITIC_LAYERS[settings.discriminator] * settings.discriminator_channels
    if settings.checkpointing:
        kept //= 4
    kept += _IDENTITY * (settings.identity > 0)
    weights = sum(parameter.numel() for parameter in restorer.network.parameters())
    merged = weights if add_adapters(ghost.network, settings.adapter_rank) else 0
    trained = sum(p.numel() for p in ghost.network.parameters() if p.requires_grad)
    kept += 4 * layers * side**2
    return 4 * (2 * weights + 3 * trained + merged) + settings.micro_batch * kept


def check_memory(needed: int, device: torch.device) -> str:
    """Says in words how much memory a run takes, and refuses one that cannot fit.

    Raises:
        OutOfMemoryError: if the device has less altogether.
    """
    total = device_bytes(device)
    words = f"about {needed / 1e9:.1f} GB of memory"
    if total is None:
        return words
    words += f" of {total / 1e9:.1f} GB ({device})"
    if needed > total:
        raise OutOfMemoryError(
            f"A run must fit into memory, got one that needs {words}. Lower micro_batch or patch, "
            "switch checkpointing on, or use another device."
        )
    return words


def device_bytes(device: torch.device) -> int | None:
    """All memory of a device; None where it is not known."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type == "cpu":
        import psutil

        return psutil.virtual_memory().total
    return None


def make_plan(
    restorer: Restorer,
    pairs: PairSet,
    settings: FinetuneSettings,
    *,
    minutes: float = 0.0,
    state: Mapping[str, Any] | None = None,
    alone: bool = True,
    clean: Path | None = None,
    damage: LearnedDamage | None = None,
    device: torch.device | str = "cpu",
    validate_every: int = 100,
) -> tuple[FinetuneSettings, str]:
    """Plans a run: the settings with its steps, and memory and time in words.

    Steps are timed where minutes are given, or where a run is so long that timing hardly counts.

    Args:
        restorer, pairs, settings, clean, damage, device, validate_every: as of `time_steps`.
        minutes: how long the run may take; 0 for the settings' steps.
        alone: whether this process does all the work; the time is not known otherwise.
        state: of the run to be resumed, whose steps stay; None where there is none.

    Raises:
        OutOfMemoryError: if the run cannot fit into memory, with what would need less.
    """
    device = torch.device(device)
    words = check_memory(training_bytes(restorer, settings), device)
    if state is not None:
        if minutes:
            settings = adjusted(settings, steps=state["run"]["settings"]["steps"])
        return settings, f"{settings.steps} steps, of which {state['step']} are done; {words}"
    if minutes or (alone and settings.steps >= _WORTH_TIMING):
        pace = time_steps(
            restorer,
            pairs,
            settings,
            clean=clean,
            damage=damage,
            device=device,
            validate_every=validate_every,
        )
        if minutes:
            settings = adjusted(settings, steps=pace.steps(minutes))
        words += f"; about {in_words(pace.seconds(settings.steps))}"
    return settings, f"{settings.steps} steps, {words}"


@dataclass(frozen=True, slots=True)
class Pace:
    """The pace of a run.

    Attributes:
        step: seconds a step, with its share of the validations.
        ends: seconds of the validations before the first step and after the last.
    """

    step: float
    ends: float

    def steps(self, minutes: float) -> int:
        """The number of steps that fit into that many minutes, at least 1."""
        return max(1, round((60 * minutes - self.ends) / self.step))

    def seconds(self, steps: int) -> float:
        """The time that so many steps take."""
        return steps * self.step + self.ends


@torch.inference_mode(False)
@torch.enable_grad()
def time_steps(
    restorer: Restorer,
    pairs: PairSet,
    settings: FinetuneSettings,
    *,
    clean: Path | None = None,
    damage: LearnedDamage | None = None,
    device: torch.device | str = "cpu",
    validate_every: int = 100,
) -> Pace:
    """Times a few steps, which are thrown away.

    Args:
        restorer: the base; not changed.
        pairs: what to learn from.
        settings: the recipe.
        clean, damage: as of `finetune`.
        device: where to work.
        validate_every: steps between two validations, whose time is counted too.
    """
    device = torch.device(device)
    settings = settled(settings, restorer, device)
    data = TrainingSet(pairs, settings, clean, restorer.size, damage)
    learner = make_learner(restorer, settings, load_distance(settings.distance, device), device)
    micros, spent = range(settings.micro_batches), []
    for step in range(_TRIED):
        began = time.perf_counter()
        batches = [(number, data.micro(step, number)) for number in micros]
        learner.learn(batches, Share(), lambda: None)
        spent.append(time.perf_counter() - began)
    began = time.perf_counter()
    restore_faces(data.micro(0, 0).lq[:1], learner.scored)
    validation = 3 * ENOUGH * (time.perf_counter() - began)  # restoring, and twice that measuring
    learner.release()
    return Pace(statistics.median(spent[1:]) + validation / validate_every, 2 * validation)
