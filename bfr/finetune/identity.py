"""The identity of a run: all that its numbers depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..choices import AUTO
from ..errors import InputError
from ..faces.identity import Identity
from ..restore.restorer import CONVENTIONS, Restorer
from ..runtime.precision import chosen_precision
from .batches import TrainingSet
from .save import pairs_sha256
from .settings import FinetuneSettings

_ROUNDING = ("micro_batch", "checkpointing")  # settings that change no more than rounding
RATES = ("lr", "lr_end", "discriminator_lr", "clip")
"""Settings that a run which diverged may be resumed with others of."""

_ADDED = {"pattern": 0.0, "identity": 0.0, "learned": 0.5}
"""Settings that earlier versions did not have, and what stood for them."""

_OFF = {"adapter_rank": 0}
"""The same, of settings that presets leave off: a run that asks for them is another."""


def settled(
    settings: FinetuneSettings, restorer: Restorer, device: torch.device
) -> FinetuneSettings:
    """The settings with the precision that "auto" means for a restorer on a device.

    That is bfloat16 or float32: float16 needs its losses scaled, which is for those who ask.
    """
    if settings.precision != AUTO:
        return settings
    convention = CONVENTIONS.get(restorer.architecture)
    found = chosen_precision(convention.precision, device) if convention else "float32"
    return replace(settings, precision="bfloat16" if found == "bfloat16" else "float32")


def as_begun(settings: FinetuneSettings, state: Mapping[str, Any] | None) -> FinetuneSettings:
    """The settings for resuming a run: without what its version did not have, and its precision
    where that is left to us.

    Args:
        settings: that are asked for.
        state: of the run in the folder; None where there is none.
    """
    if state is None:
        return settings
    begun = state["run"]["settings"]
    if settings.precision == AUTO:
        settings = replace(settings, precision=begun["precision"])
    return replace(settings, **{name: old for name, old in _ADDED.items() if name not in begun})


def identify(
    restorer: Restorer,
    data: TrainingSet,
    evaluation: Tensor | None,
    distance: str,
    judge: Identity | None = None,
) -> dict[str, Any]:
    """All that the numbers of a run depend on, except for rounding.

    Args:
        restorer: the base.
        data: pairs, settings and clean faces.
        evaluation: N×3×S×S faces that are scored, or None.
        distance: the name of the perceptual distance.
        judge: the network that tells persons apart; None for the embedded one.
    """
    settings = data.settings.as_dict()
    clean = "".join(f"{path.name} {path.stat().st_size}\n" for path in data.clean)
    shown = None if evaluation is None else evaluation.detach().cpu().float().contiguous()
    return {
        "settings": {name: value for name, value in settings.items() if name not in _ROUNDING},
        "distance": distance,
        "base": restorer.sha256,
        "pairs": len(data.pairs.kept),
        "pairs' checksum": pairs_sha256(data.pairs.kept),
        "clean faces": _sha256(clean.encode()) if clean else None,
        "damage": None if data.damage is None else data.damage.sha256,
        "evaluation": None if shown is None else _sha256(shown.numpy().tobytes()),
        "recognizer": None if judge is None else judge.sha256,
    }


def rates(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an identity that may change after the run diverged."""
    return {name: identity["settings"].get(name) for name in RATES}


def check_same(
    stored: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path, diverged: bool = False
) -> None:
    """Checks that a run to be resumed is the one that was begun.

    Args:
        stored: the identity that it was begun with.
        wanted: the identity that it is to be resumed with.
        folder: for the message.
        diverged: whether it diverged, so that its rates may differ.

    Raises:
        InputError: naming all that differs.
    """
    stored, wanted = _flat(stored), _flat(json.loads(json.dumps(wanted)))
    added = {f"settings {name}": value for name, value in (_ADDED | _OFF).items()}
    stored = {**{name: value for name, value in added.items() if name in wanted}, **stored}
    free = {f"settings {name}" for name in RATES} if diverged else set()
    differing = [
        f"{name} was {_short(stored.get(name))} and is {_short(wanted.get(name))}"
        for name in sorted((stored.keys() | wanted.keys()) - free)
        if stored.get(name) != wanted.get(name)
    ]
    if differing:
        raise InputError(
            f"{folder} must hold the run that is resumed, got another: "
            f"{'; '.join(differing)}. Repeat what it was begun with, or choose a new folder."
        )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name} ")
        else:
            flat[prefix + name] = value
    return flat


def _short(value: Any) -> str:
    return value[:10] if isinstance(value, str) else "not given" if value is None else str(value)
