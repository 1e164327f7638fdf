"""Priors in diffusers folders: a `UNet2DModel` and the configuration of its scheduler.

Folders are only read: nothing is downloaded, and no code in them runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import CorruptWeightsError, InputError, MissingWeightsError, WrongArchitectureError
from ..files.weights import read_state_dict
from .checkpoints import load_exactly
from .schedule import Schedule

_BETAS = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class DiffusersUNet(nn.Module):
    """diffusers' ``UNet2DModel``, called like our `UNet`.

    Attributes:
        network: the ``UNet2DModel``.
        channels: of its output.
        multiple: divides the sides of its images.
    """

    def __init__(self, network: nn.Module, channels: int, multiple: int):
        super().__init__()
        self.network, self.channels, self.multiple = network, channels, multiple

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.network(x, t, return_dict=False)[0]


def read_folder(folder: Path, size: int = 0) -> tuple[dict[str, Any], Path]:
    """Reads a diffusers folder: a pipeline, or a ``UNet2DModel`` with a scheduler's configuration.

    Args:
        folder: with the folders ``unet`` and ``scheduler``, or with both configurations directly.
        size: side of its faces in pixels; 0 to read it from the configuration.

    Returns:
        `Prior`'s network, size, schedule, prediction, variance and clip by name; and the file
        of the weights.

    Raises:
        MissingWeightsError: if a part of the folder is missing.
        WrongArchitectureError: for an unsupported kind of prior.
        CorruptWeightsError: if a file is damaged.
    """
    index = folder / "model_index.json"
    parts = _json(index).keys() if index.is_file() else ()
    if latent := {"vae", "vqvae"} & set(parts):
        raise WrongArchitectureError(
            f"{folder} must diffuse pixels, got a pipeline of latents (it has a {latent.pop()}). "
            "Choose a pipeline of a UNet2DModel alone, such as the DDPM ones."
        )
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    config = _json(unet / "config.json")
    candidates = (unet, folder / "scheduler", folder.parent / "scheduler")
    schedulers = [place / "scheduler_config.json" for place in candidates]
    scheduler = next((path for path in schedulers if path.is_file()), None)
    if scheduler is None:
        raise MissingWeightsError(
            f"{folder} must have a scheduler_config.json, which describes the noise of the "
            "training, got none. Save the whole pipeline, or put the scheduler's folder beside "
            "the network's."
        )
    return {
        "network": _network(config, weights := _weights_in(unet)),
        "size": size or _sample_size(config, unet),
        **_scheduler_facts(_json(scheduler), scheduler),
    }, weights


def _network(config: dict[str, Any], weights: Path) -> DiffusersUNet:
    from diffusers.models.unets.unet_2d import UNet2DModel

    kind, channels = config.get("_class_name"), config.get("in_channels", 3)
    if kind != "UNet2DModel" or channels != 3:
        raise WrongArchitectureError(
            f"{weights.parent} must hold a UNet2DModel of 3 channels, got a {kind} of {channels}. "
            "Choose another prior."
        )
    if config.get("class_embed_type") or config.get("num_class_embeds"):
        raise WrongArchitectureError(
            f"{weights.parent} must be an unconditional prior, got a class-conditional one. Choose "
            "another."
        )
    tensors = read_state_dict(weights)[0]
    try:
        _check_bounds(config, len(tensors))
        network = UNet2DModel.from_config(config)
    except Exception as error:  # of whatever kind: the configuration decides what is built
        raise WrongArchitectureError(
            f"{weights.parent / 'config.json'} must describe a network that diffusers can build, "
            f"got {type(error).__name__}: {str(error)[:300]}. Use the original file."
        ) from error
    assert isinstance(network, UNet2DModel)
    state = {_current_name(name): tensor.float() for name, tensor in tensors.items()}
    load_exactly(network, state, weights)
    multiple = 2 ** (len(network.config["block_out_channels"]) - 1)
    return DiffusersUNet(network, network.config["out_channels"], multiple).eval()


def _current_name(name: str) -> str:
    """The name that diffusers gives today to a tensor of an older folder's attention."""
    if ".attentions." not in name:
        return name
    return ".".join(_OLD_ATTENTION.get(part, part) for part in name.split("."))


def _check_bounds(config: dict[str, Any], tensors: int) -> None:
    """Refuses a structure that is far larger than its weights, before it is built."""
    widths = config.get("block_out_channels", ())
    layers = config.get("layers_per_block", 2)
    if len(widths) * max(layers if isinstance(layers, list) else [layers]) > tensors:
        raise ValueError("more layers than the file has tensors")
    if max(widths) > 8192:
        raise ValueError(f"layers of {max(widths)} channels")


def _scheduler_facts(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """Schedule, prediction, variance and clip from a scheduler's configuration."""

    def refuse(what: str) -> WrongArchitectureError:
        return WrongArchitectureError(
            f"{path} must describe noise such as DDPM's, got {what}, which is not supported. "
            "Choose another prior."
        )

    shape = config.get("beta_schedule")
    if shape not in _BETAS:
        raise refuse(f"the noise of a {config.get('_class_name')} (beta_schedule {shape!r})")
    for name in ("trained_betas", "rescale_betas_zero_snr", "thresholding"):
        if config.get(name):
            raise refuse(name)
    if (clip := config.get("clip_sample", True)) and config.get("clip_sample_range", 1.0) != 1.0:
        raise refuse(f"clip_sample_range {config['clip_sample_range']}")
    variance = config.get("variance_type", "fixed_small").removesuffix("_log")
    if variance not in ("fixed_small", "fixed_large", "learned_range"):
        raise refuse(f"variance_type {variance!r}")
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction", "sample"):
        raise refuse(f"prediction_type {prediction!r}")
    return {
        "schedule": Schedule(
            _BETAS[shape],
            config.get("num_train_timesteps", 1000),
            config.get("beta_start", 1e-4),
            config.get("beta_end", 0.02),
        ),
        "prediction": prediction,
        "variance": variance,
        "clip": bool(clip),
    }


def _sample_size(config: dict[str, Any], folder: Path) -> int:
    size = config.get("sample_size")
    if isinstance(size, list) and len(set(size)) == 1:
        size = size[0]
    if not isinstance(size, int):
        raise InputError(
            f"sample_size in {folder / 'config.json'} must be the side of its square faces, got "
            f"{size}. Give size= in pixels."
        )
    return size


def _weights_in(folder: Path) -> Path:
    kinds = ("safetensors", "bin", "fp16.safetensors", "fp16.bin")
    files = [folder / f"diffusion_pytorch_model.{kind}" for kind in kinds]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise MissingWeightsError(
            f"{folder} must have diffusion_pytorch_model.safetensors or .bin, got neither. "
            "Download the folder's weights too, and save a model in several parts as one."
        )
    return found


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingWeightsError(
            f"A diffusers folder must have {path}, got none. Download its unet and scheduler "
            "folders, or config.json and scheduler_config.json."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise CorruptWeightsError(
            f"{path} must be JSON, got: {error}. Download it again."
        ) from error
    if not isinstance(content, dict):
        raise CorruptWeightsError(
            f"{path} must be an object of names and values, got a {type(content).__name__}. "
            "Download it again."
        )
    return content
