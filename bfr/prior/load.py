"""Priors on disk: read from any of the formats they are published in, written as safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CorruptWeightsError, InputError, WrongArchitectureError
from ..files.checksums import file_sha256
from ..files.manifest import EMBEDDED_DIR
from ..files.weights import read_state_dict, whole_number, write_state_dict
from .checkpoints import build_unet, choose_preset, read_config
from .diffusers_folder import DiffusersUNet, read_folder
from .prior import Prior
from .schedule import Schedule
from .unet import UNet, UNetConfig

EMBEDDED_PRIOR = EMBEDDED_DIR / "prior.safetensors"


@torch.inference_mode(False)  # ComfyUI's nodes run in it, and its tensors are of no use outside
def load_prior(path: str | Path | None = None, *, preset: str = "auto", **changes: Any) -> Prior:
    """Loads a prior and recognises its kind by its metadata, its tensors or its folder.

    Args:
        path: our safetensors; an improved-diffusion or guided-diffusion checkpoint; or a
            diffusers folder with a ``UNet2DModel``. None for the embedded weights.
        preset: for a checkpoint, one of `PRIOR_PRESETS`; "auto" goes by the file's name.
        changes: for a checkpoint, attributes of `checkpoints.Preset` that replace the preset's,
            such as ``size=256``; for a folder, ``size`` alone.

    Returns:
        The prior on the CPU, in float32, frozen and in evaluation mode.

    Raises:
        WeightsError: if a file is missing, corrupt, unsafe or no prior.
        InputError: if a checkpoint needs a value that is missing, or has it already.
    """
    path = Path(path) if path is not None else EMBEDDED_PRIOR
    weights = path
    if path.is_dir():
        _refuse_changes(path, preset, changes.keys() - {"size"})
        facts, weights = read_folder(path, **changes)
    else:
        state, metadata = read_state_dict(path)
        if "architecture" in metadata:
            _refuse_changes(path, preset, changes.keys())
            facts = _own_facts(state, metadata, path)
        else:
            facts = _published_facts(state, path, preset, changes)
    facts = {"highest_step": facts["schedule"].steps - 1, **facts}
    prior = Prior(**facts, name=path.stem, sha256=file_sha256(weights))
    _check(prior, path)
    return prior


def save_prior(path: str | Path, prior: Prior, metadata: Mapping[str, str]) -> None:
    """Writes a prior as safetensors that `load_prior` reads without further settings.

    Args:
        path: of the file, written whole or not at all, in the network's precision.
        prior: with one of our networks.
        metadata: written as well; ``licence`` and ``provenance`` are required.

    Raises:
        InputError: for a network of another kind, or missing metadata.
        OutputError: if the file cannot be written.
    """
    if not isinstance(prior.network, UNet):
        raise InputError(
            f"The prior to save must have a UNet of this project, got a "
            f"{type(prior.network).__name__}. Keep its folder."
        )
    if missing := {"licence", "provenance"} - metadata.keys():
        raise InputError(
            "A prior's metadata must contain licence and provenance, got no "
            f"{' and no '.join(sorted(missing))}. Add it."
        )
    facts = {
        "architecture": "UNet",
        "config": json.dumps(asdict(prior.network.config)),
        "size": str(prior.size),
        "schedule": json.dumps(asdict(prior.schedule)),
        "prediction": prior.prediction,
        "variance": prior.variance,
        "highest_step": str(prior.highest_step),
        "shift": str(prior.shift),
        "clip": json.dumps(prior.clip),
    }
    write_state_dict(path, prior.network.state_dict(), {**metadata, **facts})


def _own_facts(state: dict[str, Tensor], metadata: dict[str, str], path: Path) -> dict[str, Any]:
    if metadata["architecture"] != "UNet":
        raise WrongArchitectureError(
            f"{path} must contain a prior, got a {metadata['architecture']}. Choose a prior."
        )
    try:
        config = json.loads(metadata["config"])
        for name in ("channels", "blocks", "attention"):
            config[name] = tuple(config[name])
        config = UNetConfig(**config)
        facts = {
            "size": whole_number(metadata["size"], 16, 4096),
            "schedule": Schedule(**json.loads(metadata["schedule"])),
            "prediction": metadata["prediction"],
            "variance": metadata["variance"],
            "highest_step": whole_number(metadata["highest_step"], 1, 100_000),
            "shift": whole_number(metadata.get("shift", "0"), 0, 100_000),
            "clip": json.loads(metadata["clip"]) is True,
        }
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CorruptWeightsError(
            f"The metadata of {path} must describe its prior, got {type(error).__name__}: "
            f"{error!s:.200}. Save it with save_prior, or download it again."
        ) from error
    return {"network": build_unet(config, state, path), **facts}


def _published_facts(
    state: dict[str, Tensor], path: Path, preset: str, changes: dict[str, Any]
) -> dict[str, Any]:
    known = choose_preset(path, preset, changes)
    config = read_config(state, known, path)
    return {
        "network": build_unet(config, state, path),
        "size": known.size,
        "schedule": known.schedule,
        "prediction": known.prediction,
        "variance": known.variance or ("learned_range", "fixed_large")[config.out_channels == 3],
    }


def _refuse_changes(path: Path, preset: str, names: Any) -> None:
    if names or preset != "auto":
        given = next(iter(names), "preset")
        raise InputError(
            f"{path} must not be described twice, got {given} as well. Remove {given}."
        )


def _check(prior: Prior, path: Path) -> None:
    """Refuses a prior that would fail in the middle of sampling."""
    network = prior.network
    if isinstance(network, UNet):
        multiple = network.config.patch * 2 ** (len(network.config.channels) - 1)
        channels = network.config.out_channels
    else:
        assert isinstance(network, DiffusersUNet)
        multiple, channels = network.multiple, network.channels
    if channels != prior.channels:
        raise WrongArchitectureError(
            f"{path} must give {prior.channels} channels for the variance {prior.variance!r}, got "
            f"{channels}. 'learned_range' takes 6, the fixed ones 3: use another variance."
        )
    if prior.size % multiple:
        raise InputError(
            f"The size of the faces of {path} must be a multiple of {multiple} pixels, got "
            f"{prior.size}. Give the size it was trained at."
        )
