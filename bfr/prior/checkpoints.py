"""Published checkpoints of priors: reads the network's structure from its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatch
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import FaceRestorationError, InputError, WrongArchitectureError
from .schedule import Schedule
from .unet import UNet, UNetConfig


@dataclass(frozen=True, slots=True)
class Preset:
    """The facts that the names and shapes of a checkpoint's tensors do not show.

    Attributes:
        size: side of its faces in pixels; 0 to read it from the file's name, such as
            ``face_256.pt``.
        head_channels: channels of an attention head; 0 if ``heads`` counts them instead.
        heads: attention heads; 0 if ``head_channels`` gives their width.
        decoder_heads: attention heads in the decoder; 0 for as many as ``heads``. The published
            "plain" network has 1 beside an encoder's 2.
        new_attention_order: splits queries, keys and values before the heads.
        schedule: the noise schedule it was trained on.
        prediction: what the network predicts; see `Prior`.
        variance: see `Prior`; "" for "learned_range" where the network gives 6 channels and
            "fixed_large" where it gives 3.
    """

    size: int = 0
    head_channels: int = 64
    heads: int = 0
    decoder_heads: int = 0
    new_attention_order: bool = False
    schedule: Schedule = field(default_factory=Schedule)
    prediction: str = "epsilon"
    variance: str = ""


PRIOR_PRESETS = {
    "guided-diffusion": Preset(),
    "guided-diffusion, new attention order": Preset(new_attention_order=True),
    "improved-diffusion": Preset(head_channels=0, heads=4),
}
"""By the code that trained the checkpoint; the first fits every published face prior."""

_FILES = {"ffhq_10m*": Preset(size=256)}
_SIZE = re.compile(r"(?<!\d)(?:64|128|256|512|1024)(?!\d)")
_NEEDED = {  # dimensions of the tensors that every such checkpoint has
    "time_embed.0.weight": 2,
    "input_blocks.0.0.weight": 4,
    "middle_block.0.emb_layers.1.weight": 2,
    "middle_block.0.out_layers.0.weight": 1,
    "output_blocks.0.0.out_layers.0.weight": 1,
    "out.2.weight": 4,
}


def choose_preset(path: Path, name: str, changes: Mapping[str, Any]) -> Preset:
    """Returns the preset of a checkpoint; its size comes from the file's name unless given.

    Args:
        path: the checkpoint.
        name: a key of `PRIOR_PRESETS`, or "auto" to go by the file's name, else the first.
        changes: attributes of `Preset` that replace the preset's.

    Raises:
        InputError: for an unknown preset, attribute or size.
    """
    known = [field.name for field in fields(Preset)]
    if unknown := sorted(changes.keys() - set(known)):
        raise InputError(
            f"A prior's preset must have settings among {', '.join(known)}, got {unknown[0]!r}. "
            "Remove it."
        )
    if name == "auto":
        preset = next(
            (preset for file, preset in _FILES.items() if fnmatch(path.name.lower(), file)),
            PRIOR_PRESETS["guided-diffusion"],
        )
    elif name in PRIOR_PRESETS:
        preset = PRIOR_PRESETS[name]
    else:
        raise InputError(
            f"A prior's preset must be 'auto' or one of {', '.join(map(repr, PRIOR_PRESETS))}, got "
            f"{name!r}. Choose one of them."
        )
    if "head_channels" in changes:
        preset = replace(preset, heads=0)
    preset = replace(preset, **changes)
    sizes = {int(size) for size in _SIZE.findall(path.stem)}
    if not preset.size and len(sizes) != 1:
        raise InputError(
            f"The name of {path} must contain the side of its faces in pixels, got "
            f"{', '.join(map(str, sorted(sizes))) or 'none'}. Give size=, or rename the file, such "
            "as face_256.pt."
        )
    return preset if preset.size else replace(preset, size=sizes.pop())


def read_config(state: Mapping[str, Tensor], preset: Preset, path: Path) -> UNetConfig:
    """Reads a checkpoint's structure from the names and shapes of its tensors.

    The decoder shows the levels: each but the last ends in an upsampling layer and has one
    residual block more than the encoder's.

    Args:
        state: in the key layout of improved-diffusion and guided-diffusion.
        preset: what the tensors do not tell.
        path: the file, for the messages.

    Raises:
        WrongArchitectureError: if it is no unconditional prior of RGB images in this layout.
    """
    if missing := [n for n, d in _NEEDED.items() if n not in state or state[n].ndim != d]:
        raise WrongArchitectureError(
            f"{path} must be a prior with a tensor {missing[0]!r}, got {_likeness(state)}. Choose "
            "a prior of this project, an improved-diffusion or guided-diffusion checkpoint, or a "
            "diffusers folder."
        )
    if "label_emb.weight" in state:
        raise WrongArchitectureError(
            f"{path} must be an unconditional prior, got a class-conditional one (it has "
            "'label_emb.weight'). Choose another."
        )
    inputs, outputs = state["input_blocks.0.0.weight"].shape[1], len(state["out.2.weight"])
    if inputs != 3 or outputs not in (3, 6):
        raise WrongArchitectureError(
            f"{path} must take 3 channels (RGB) and give 3, or 6 with the variance, got {inputs} "
            f"and {outputs}. Choose a prior of RGB faces."
        )
    levels: list[tuple[int, int, bool]] = []  # coarsest first: channels, blocks, attention
    blocks = 0
    for i in count():
        block = f"output_blocks.{i}"
        if f"{block}.0.out_layers.0.weight" not in state:
            break
        attention = f"{block}.1.qkv.weight" in state
        after = f"{block}.{2 if attention else 1}"
        ends = f"{after}.conv.weight" in state or f"{after}.in_layers.0.weight" in state
        if ends or f"output_blocks.{i + 1}.0.out_layers.0.weight" not in state:
            levels.append((len(state[f"{block}.0.out_layers.0.weight"]), blocks, attention))
            blocks = 0
        else:
            blocks += 1
    channels, counts, attentions = zip(*reversed(levels), strict=True)
    first = "middle_block.0."
    return UNetConfig(
        model_channels=state["time_embed.0.weight"].shape[1],
        channels=channels,
        blocks=counts,
        attention=attentions,
        out_channels=outputs,
        head_channels=0 if preset.heads else preset.head_channels,
        heads=preset.heads,
        decoder_heads=preset.decoder_heads,
        scale_shift=len(state[f"{first}emb_layers.1.weight"])
        == 2 * len(state[f"{first}out_layers.0.weight"]),
        residual_resampling=not any(name.endswith(".op.weight") for name in state),
        new_attention_order=preset.new_attention_order,
    )


def build_unet(config: UNetConfig, state: Mapping[str, Tensor], path: Path) -> UNet:
    """Builds a network with these weights in float32.

    Raises:
        WrongArchitectureError: if the weights do not fit the structure.
    """
    try:
        if not len(config.channels) == len(config.blocks) == len(config.attention) > 0:
            raise ValueError("channels, blocks and attention of different numbers of levels")
        _check_heads(config, path)
        if sum(config.blocks) + len(config.channels) > len(state):
            raise ValueError("more blocks than the file has tensors")
        with torch.device("meta"):
            network = UNet(config)
    except FaceRestorationError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError, ArithmeticError) as error:
        raise WrongArchitectureError(
            f"{path} must describe a network that can be built, got: {error!s:.200}. Use the "
            "original file."
        ) from error
    weights = {name: tensor.float() for name, tensor in state.items()}
    load_exactly(network, weights, path)
    return network


def load_exactly(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Loads weights into a network in place, and leaves it frozen and in evaluation mode.

    Raises:
        WrongArchitectureError: if names or shapes differ from the network's.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if found != shapes:
        name = next(n for n in [*shapes, *found] if found.get(n) != shapes.get(n))
        raise WrongArchitectureError(
            f"{path} resembles a prior, but its {name!r} must be {shapes.get(name, 'absent')}, "
            f"got {found.get(name, 'absent')}. Use the original file."
        )
    network.load_state_dict(state, assign=True)
    network.requires_grad_(False).eval()


def _check_heads(config: UNetConfig, path: Path) -> None:
    widths = {n for n, has in zip(config.channels, config.attention, strict=True) if has}
    widths.add(config.channels[-1])  # the middle
    by = config.heads or config.head_channels
    if not by:
        raise InputError(
            "head_channels or heads must be above 0 for attention, got 0 for both. Give one."
        )
    if wrong := [w for w in widths if w % by or w % (config.decoder_heads or 1)]:
        heads = f"{config.heads} heads" if config.heads else f"heads of {by} channels"
        raise InputError(
            f"The attention of {path} must be divisible into {heads}, got {min(wrong)} channels. "
            "Give head_channels= or heads= as in its training."
        )


def _likeness(state: Mapping[str, Tensor]) -> str:
    """A description of a file that is no prior."""
    names = tuple(state)
    if any(name.startswith("model.diffusion_model.") for name in names):
        return "a Stable Diffusion checkpoint"
    if any(name.startswith("down_blocks.") for name in names):
        return "the weights of a diffusers network without its folder"
    return "an unknown network"
