"""Priors in diffusers folders: a `UNet2DModel` and the configuration of its scheduler.

Folders are only read: nothing is downloaded and no code in them is run.
"""

from __future__ import annotations

import json
import re
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
        network: theirs.
        channels: how many it gives.
        multiple: of what the sides of its images must be.
    """

    def __init__(self, network: nn.Module, channels: int, multiple: int):
        super().__init__()
        self.network, self.channels, self.multiple = network, channels, multiple

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.network(x, t, return_dict=False)[0]


def read_folder(folder: Path, size: int = 0) -> tuple[dict[str, Any], Path]:
    """Reads a diffusers folder: a pipeline, or a ``UNet2DModel`` with a scheduler's configuration.

    Args:
        folder: with ``unet`` and ``scheduler`` inside, or with both configurations flat.
        size: side of its faces in pixels, where the configuration does not say.

    Returns:
        `Prior`'s network, size, schedule, prediction, variance and clip by name; and the file
        that the weights came from.

    Raises:
        MissingWeightsError: if a part of the folder is not there.
        WrongArchitectureError: for a kind of prior that cannot be used here.
        CorruptWeightsError: if a file is damaged.
    """
    index = folder / "model_index.json"
    parts = _json(index).keys() if index.is_file() else ()
    if latent := {"vae", "vqvae"} & set(parts):
        raise WrongArchitectureError(
            f"{folder} diffuses latents (it has a {latent.pop()}), and a prior here works on "
            "pixels. Choose a pipeline of a UNet2DModel alone, as the DDPM ones are."
        )
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    config = _json(unet / "config.json")
    candidates = (unet, folder / "scheduler", folder.parent / "scheduler")
    schedulers = [place / "scheduler_config.json" for place in candidates]
    scheduler = next((path for path in schedulers if path.is_file()), None)
    if scheduler is None:
        raise MissingWeightsError(
            f"{folder} lacks scheduler_config.json, which says what noise the prior was trained "
            "on. Save the whole pipeline, or put the scheduler's folder beside the network's."
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
            f"{weights.parent} holds a {kind} of {channels} channels. A prior here is a "
            "UNet2DModel of 3."
        )
    if config.get("class_embed_type") or config.get("num_class_embeds"):
        raise WrongArchitectureError(
            f"{weights.parent} is a class-conditional prior, and there are no classes of faces to "
            "choose from. Choose an unconditional one."
        )
    try:
        network = UNet2DModel.from_config(config)
    except Exception as error:  # of whatever kind: the configuration decides what is built
        raise WrongArchitectureError(
            f"{weights.parent / 'config.json'} describes a network that diffusers cannot build "
            f"({type(error).__name__}: {str(error)[:300]}). Use the original file."
        ) from error
    assert isinstance(network, UNet2DModel)
    state = {
        re.sub(r"\.(query|key|value|proj_attn)\.", lambda old: f".{_OLD_ATTENTION[old[1]]}.", name)
        if ".attentions." in name
        else name: tensor.float()
        for name, tensor in read_state_dict(weights)[0].items()
    }
    load_exactly(network, state, weights)
    multiple = 2 ** (len(network.config["block_out_channels"]) - 1)
    return DiffusersUNet(network, network.config["out_channels"], multiple).eval()


def _scheduler_facts(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """Schedule, prediction, variance and clip from a scheduler's configuration."""

    def refuse(what: str) -> WrongArchitectureError:
        return WrongArchitectureError(
            f"{path} asks for {what}, which priors here have not. Choose one trained like DDPM."
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
            f"{folder / 'config.json'} should name the side of its square faces as sample_size, "
            f"and names {size}. Give size= in pixels."
        )
    return size


def _weights_in(folder: Path) -> Path:
    kinds = ("safetensors", "bin", "fp16.safetensors", "fp16.bin")
    files = [folder / f"diffusion_pytorch_model.{kind}" for kind in kinds]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise MissingWeightsError(
            f"{folder} has no diffusion_pytorch_model.safetensors or .bin. Download the folder's "
            "weights too; a model in several parts must be saved as one."
        )
    return found


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingWeightsError(
            f"There is no {path}. A diffusers folder has a unet and a scheduler folder, or "
            "config.json and scheduler_config.json."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CorruptWeightsError(f"{path} is no JSON ({error}). Download it again.") from error
    if not isinstance(content, dict):
        raise CorruptWeightsError(f"{path} should hold names and values. Download it again.")
    return content
