"""What a run will take, before it starts: its memory, and the steps that fit a time."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from ..damage.learned import LearnedDamage
from ..errors import OutOfMemoryError
from ..pairs.folder import PairSet
from ..quality.perceptual import load_distance
from ..restore.restorer import Restorer, restore_faces
from ..runtime.processes import Share
from .batches import TrainingSet
from .learner import make_learner
from .settings import FinetuneSettings
from .validate import ENOUGH

_PAPER_SIDE = 512  # of faces for a restorer that takes any
_CRITIC_LAYERS = {"unet": 16, "detail": 4}  # of a discriminator, as large as its first one
_DISTANCE_LAYERS = 512  # values a pixel that a perceptual distance keeps; of VGG's layers
_IDENTITY = 100_000_000  # bytes a face that the identity network keeps, with its crop
_TRIED = 4  # steps that are timed; the first one, which is slow, does not count


@torch.inference_mode(False)  # ComfyUI's nodes run in it, and nothing has a gradient there
@torch.enable_grad()
def training_bytes(restorer: Restorer, settings: FinetuneSettings) -> int:
    """About how much memory fine-tuning takes, besides the caller's own restorer.

    The copy's parameters, gradients, both moments of Adam and the average; what a forward pass
    of a micro-batch keeps for the backward pass, counted on a network without memory; and the
    same for the discriminator and the perceptual distance, by their layers.
    """
    if not restorer.trainable:
        return 0  # training refuses it, and says why
    side = settings.patch or restorer.size or _PAPER_SIDE
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
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
    return 4 * 5 * weights + settings.micro_batch * (kept + 4 * layers * side**2)


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
    if device.type == "cpu" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


@torch.inference_mode(False)
@torch.enable_grad()
def steps_within(
    minutes: float,
    restorer: Restorer,
    pairs: PairSet,
    settings: FinetuneSettings,
    *,
    clean: Path | None = None,
    damage: LearnedDamage | None = None,
    device: torch.device | str = "cpu",
    validate_every: int = 100,
) -> int:
    """The number of steps that take so many minutes, from a few that are timed and thrown away.

    Args:
        minutes: how long the run may take.
        restorer: the base; not changed.
        pairs: what to learn from.
        settings: the recipe.
        clean, damage: as of `finetune`.
        device: where to work.
        validate_every: steps between two validations, whose time is counted too.

    Returns:
        At least 1.
    """
    device = torch.device(device)
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
    a_step = statistics.median(spent[1:]) + validation / validate_every
    return max(1, round((60 * minutes - 2 * validation) / a_step))
