"""Published checkpoints of priors: the network's structure from the tensors' names and shapes."""

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

from ..errors import InputError, WrongArchitectureError
from .schedule import Schedule
from .unet import UNet, UNetConfig


@dataclass(frozen=True, slots=True)
class Preset:
    """What neither the names nor the shapes of a checkpoint say.

    Attributes:
        size: side of its faces in pixels; 0 if the file's name has it, as ``face_256.pt``.
        head_channels: channels of an attention head; 0 if ``heads`` counts them instead.
        heads: attention heads; 0 if ``head_channels`` gives their width.
        decoder_heads: attention heads in the decoder, where it differs from ``heads``.
        new_attention_order: whether queries, keys and values are split before the heads.
        schedule: the noise it was trained on.
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


PRESETS = {
    "guided-diffusion": Preset(),
    "guided-diffusion, new attention order": Preset(new_attention_order=True),
    "improved-diffusion": Preset(head_channels=0, heads=4),
}
"""By the code that trained the checkpoint; the first is that of every published face prior."""

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
    """The preset of a checkpoint, its size taken from the file's name where nothing says it.

    Args:
        path: the checkpoint.
        name: of one in `PRESETS`, or "auto" for what is known of the file's name, else the first.
        changes: attributes of `Preset` that the caller knows better.

    Raises:
        InputError: for a preset or an attribute that there is none of, or an unknown size.
    """
    known = [field.name for field in fields(Preset)]
    if unknown := sorted(changes.keys() - set(known)):
        raise InputError(f"A prior's preset has {', '.join(known)}, and {unknown[0]!r} came.")
    if name == "auto":
        preset = next(
            (preset for file, preset in _FILES.items() if fnmatch(path.name.lower(), file)),
            PRESETS["guided-diffusion"],
        )
    elif name in PRESETS:
        preset = PRESETS[name]
    else:
        raise InputError(
            f"A prior's preset is 'auto' or one of {', '.join(map(repr, PRESETS))}, "
            f"and {name!r} came."
        )
    if "head_channels" in changes:
        preset = replace(preset, heads=0)
    preset = replace(preset, **changes)
    sizes = {int(size) for size in _SIZE.findall(path.stem)}
    if not preset.size and len(sizes) != 1:
        raise InputError(
            f"{path} does not say how large its faces are. Give size= in pixels, or write it into "
            "the file's name, as in face_256.pt."
        )
    return preset if preset.size else replace(preset, size=sizes.pop())


def read_config(state: Mapping[str, Tensor], preset: Preset, path: Path) -> UNetConfig:
    """Reads a checkpoint's structure from the names and shapes of its tensors.

    The decoder tells the levels: each but the last ends in something that enlarges, and has one
    residual block more than the encoder's.

    Args:
        state: in the key layout of improved-diffusion and guided-diffusion.
        preset: what cannot be read.
        path: the file, for the messages.

    Raises:
        WrongArchitectureError: if it is no such prior of RGB images.
    """
    if missing := [n for n, d in _NEEDED.items() if n not in state or state[n].ndim != d]:
        raise WrongArchitectureError(
            f"{path} is {_likeness(state)} (see {missing[0]!r}). Choose a prior of this project, "
            "an improved-diffusion or guided-diffusion checkpoint, or a diffusers folder."
        )
    if "label_emb.weight" in state:
        raise WrongArchitectureError(
            f"{path} is a class-conditional prior, and there are no classes of faces to choose "
            "from. Choose an unconditional one."
        )
    inputs, outputs = state["input_blocks.0.0.weight"].shape[1], len(state["out.2.weight"])
    if inputs != 3 or outputs not in (3, 6):
        raise WrongArchitectureError(
            f"{path} takes {inputs} channels and gives {outputs}. A prior of RGB faces takes 3 "
            "and gives 3, or 6 with the variance."
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
    """The network of that structure, with these weights in float32.

    Raises:
        WrongArchitectureError: if the weights are not those of that structure.
    """
    _check_heads(config, path)
    try:
        with torch.device("meta"):
            network = UNet(config)
    except (RuntimeError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise WrongArchitectureError(
            f"{path} describes a network that cannot be ({error}). Use the original file."
        ) from error
    weights = {name: tensor.float() for name, tensor in state.items()}
    load_exactly(network, weights, path)
    return network


def load_exactly(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Puts weights into a network in place, frozen and in evaluation mode.

    Raises:
        WrongArchitectureError: if the network has not exactly these names and shapes.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if found != shapes:
        name = next(n for n in [*shapes, *found] if found.get(n) != shapes.get(n))
        raise WrongArchitectureError(
            f"{path} resembles a prior, but does not fit: {name!r} should be "
            f"{shapes.get(name, 'absent')}, and is {found.get(name, 'absent')}. "
            "Use the original file."
        )
    network.load_state_dict(state, assign=True)
    network.requires_grad_(False).eval()


def _check_heads(config: UNetConfig, path: Path) -> None:
    widths = {n for n, has in zip(config.channels, config.attention, strict=True) if has}
    widths.add(config.channels[-1])  # the middle
    by = config.heads or config.head_channels
    if not by:
        raise InputError("An attention needs head_channels or heads, and both are 0.")
    if wrong := [w for w in widths if w % by or w % (config.decoder_heads or 1)]:
        heads = f"{config.heads} heads" if config.heads else f"heads of {by} channels"
        raise InputError(
            f"{path} has an attention of {min(wrong)} channels, which cannot be shared by {heads}. "
            "Give head_channels= or heads= as it was trained with."
        )


def _likeness(state: Mapping[str, Tensor]) -> str:
    """What a file that is no prior looks like."""
    names = tuple(state)
    if any(name.startswith("model.diffusion_model.") for name in names):
        return "a Stable Diffusion checkpoint and no prior of faces in pixels"
    if any(name.startswith("down_blocks.") for name in names):
        return "the weights of a diffusers network without its folder"
    return "no diffusion prior that is known here"
