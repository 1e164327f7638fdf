"""The networks of BFRffusion's published checkpoint, with widths that follow from its shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import WrongArchitectureError
from .bfrffusion import LATENT_SCALE, BFRffusion, Build, State
from .bfrffusion_networks import FaceFeatures, TimePrompt

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

_HEAD_CHANNELS = 64
_LEVELS = (1, 2, 4, 4)  # widths of Stable Diffusion's levels, in its own width
_PARTS = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "control_model.")
_MARKS = ("control_model.zero_convs_module.0.0.weight", "cond_stage_model.learnable_param")


def is_bfrffusion(state: Mapping[str, Tensor]) -> bool:
    """True if a state dict is a BFRffusion checkpoint."""
    return all(name in state for name in _MARKS)


def build_bfrffusion(state: Mapping[str, Tensor], path: Path) -> BFRffusion:
    """The networks of a checkpoint in float32, in evaluation mode; widths follow from its shapes.

    The tensors are used as they are, not copied, where they are float32.

    Args:
        state: the checkpoint's tensors by their published names; those of the schedule, and of
            the half of the autoencoder that makes latents, are not used.
        path: of the file, for messages.

    Raises:
        WrongArchitectureError: if a part does not fit.
    """
    parts = {
        prefix: {
            name.removeprefix(prefix): tensor.float()
            for name, tensor in state.items()
            if name.startswith(prefix)
        }
        for prefix in _PARTS
    }
    unet, vae, prompt, features = (parts[prefix] for prefix in _PARTS)
    network = BFRffusion(
        _built(path, _PARTS[0], unet, _unet),
        _built(path, _PARTS[1], vae, _vae),
        _built(path, _PARTS[2], prompt, _prompt),
        _built(path, _PARTS[3], features, _features),
    )
    network.vae.encoder = network.vae.quant_conv = None  # pyright: ignore[reportAttributeAccessIssue]
    return network.eval().requires_grad_(False)


def _built(path: Path, prefix: str, state: State, build: Build) -> Any:
    """A part of the checkpoint as a network that has exactly its tensors."""
    try:
        with torch.device("meta"):
            network, weights = build(state)
        if len(weights) != len(state):
            raise ValueError(f"{len(state)} tensors, of which {len(weights)} are known")
        network.load_state_dict(weights, assign=True)
    except Exception as error:  # whatever a key or a shape that cannot be leads to
        raise WrongArchitectureError(
            f"{prefix}* of {path} must fit BFRffusion, got {type(error).__name__}: "
            f"{str(error)[:300]}. Use the original file."
        ) from error
    return network


def _unet(state: State) -> tuple[UNet2DConditionModel, State]:
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    width = len(state["input_blocks.0.0.weight"])
    attention = next(n for n in state if n.endswith(".attn2.to_k.weight"))
    config: dict[str, Any] = {
        "block_out_channels": [width * level for level in _LEVELS],
        # Named so by diffusers, and the number of heads.
        "attention_head_dim": [width * level // _HEAD_CHANNELS for level in _LEVELS],
        "cross_attention_dim": state[attention].shape[1],
        "use_linear_projection": True,
    }
    network = UNet2DConditionModel(**config)
    named = {f"{_PARTS[0]}{name}": tensor for name, tensor in state.items()}
    return network, convert_ldm_unet_checkpoint(named, network.config)


def _vae(state: State) -> tuple[AutoencoderKL, State]:
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    width = len(state["encoder.conv_in.weight"])
    config: dict[str, Any] = {
        "block_out_channels": [width * level for level in _LEVELS],
        "down_block_types": ["DownEncoderBlock2D"] * len(_LEVELS),
        "up_block_types": ["UpDecoderBlock2D"] * len(_LEVELS),
        "layers_per_block": 2,
        "scaling_factor": LATENT_SCALE,
    }
    network = AutoencoderKL(**config)
    named = {f"{_PARTS[1]}{name}": tensor for name, tensor in state.items()}
    return network, convert_ldm_vae_checkpoint(named, network.config)


def _prompt(state: State) -> tuple[TimePrompt, State]:
    width, time_width = state["time_embed.0.weight"].shape
    tokens, context_width = state["learnable_param"].shape
    return TimePrompt(time_width, width, tokens, context_width), state


def _features(state: State) -> tuple[FaceFeatures, State]:
    time_width, width = state["time_embed.0.weight"].shape
    first, second, third = (len(state[f"encoder{n}.ffn.pwconw.weight"]) for n in (1, 2, 3))
    return FaceFeatures(width, time_width, (first, second, third)), state
