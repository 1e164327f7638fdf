"""Published checkpoints: structure read from names and shapes, presets, bad files."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.published.priors import published_unet
from benchmarks.published.rule_weights import published_format
from bfr.errors import (
    CorruptWeightsError,
    InputError,
    MissingWeightsError,
    UnsafeWeightsError,
    WrongArchitectureError,
)
from bfr.prior.checkpoints import PRIOR_PRESETS
from bfr.prior.load import load_prior
from bfr.prior.schedule import Schedule
from bfr.prior.unet import UNet, UNetConfig


def write(state: dict[str, Tensor], path: Path, wrap: Callable[[dict], Any] = dict) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(wrap(state), path)
    return path


@pytest.mark.parity
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("dialect", ["difface", "openai", "plain"])
def test_published_networks(dialect: str, suffix: str, tmp_path: Path):
    published = published_unet(dialect)
    path = write(published.state(), tmp_path / f"small{suffix}")
    prior = load_prior(path, **published.facts)
    output = prior.network(published.x, published.t)
    assert (output - published.output).abs().max() <= 1e-4
    assert prior.size == 32
    assert prior.schedule == Schedule()
    assert prior.variance == ("fixed_large" if dialect == "plain" else "learned_range")


@pytest.mark.parametrize("wrapper", ["module.", "state_dict", "half"])
def test_wrapped_checkpoints(wrapper: str, tmp_path: Path):
    published = published_unet("difface")

    def wrap(state: dict[str, Tensor]) -> dict[str, Any]:
        if wrapper == "module.":
            return {f"module.{name}": tensor for name, tensor in state.items()}
        if wrapper == "half":
            return {name: tensor.half() for name, tensor in state.items()}
        return {"state_dict": state}

    prior = load_prior(write(published.state(), tmp_path / "small.pt", wrap), **published.facts)
    error = (prior.network(published.x, published.t) - published.output).abs().max()
    assert error <= (0.02 if wrapper == "half" else 1e-4)


def test_what_is_not_readable_changes_the_result(tmp_path: Path):
    """Head channels and the order of attention: a wrong preset gives other figures, silently."""
    published = published_unet("openai")
    path = write(published.state(), tmp_path / "small.pt")
    for changes in ({"new_attention_order": False}, {"head_channels": 16}):
        prior = load_prior(path, **{**published.facts, **changes})
        assert (prior.network(published.x, published.t) - published.output).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("file", "size"),
    [
        ("256x256_diffusion_uncond.pt", 256),
        ("celeba256_250000.pt", 256),
        ("iddpm_ffhq512_ema500000.pth", 512),
        ("FFHQ_10M.pt", 256),
        ("ema_0.9999_128.pt", 128),
    ],
)
def test_the_size_is_in_the_files_name(file: str, size: int, tmp_path: Path):
    published = published_unet("difface")
    prior = load_prior(write(published.state(), tmp_path / file), head_channels=32)
    assert prior.size == size


@pytest.mark.parametrize("file", ["faces.pt", "ema_500000.pt", "from_256_to_512.pt"])
def test_a_file_that_does_not_say_its_size(file: str, tmp_path: Path):
    path = write(published_unet("difface").state(), tmp_path / file)
    with pytest.raises(InputError, match=r"Give size="):
        load_prior(path, head_channels=32)
    assert load_prior(path, head_channels=32, size=64).size == 64


def test_presets(tmp_path: Path):
    plain = write(published_unet("plain").state(), tmp_path / "plain_64.pt")
    network = load_prior(plain, preset="improved-diffusion").network
    assert isinstance(network, UNet)
    assert network.config.heads == 4
    network = load_prior(plain, preset="improved-diffusion", head_channels=16).network
    assert isinstance(network, UNet)
    assert (network.config.heads, network.config.head_channels) == (0, 16)
    new = "guided-diffusion, new attention order"
    network = load_prior(plain, preset=new).network
    assert isinstance(network, UNet)
    assert network.config.new_attention_order
    for preset in PRIOR_PRESETS:
        assert load_prior(plain, preset=preset).schedule == Schedule()
    cosine = load_prior(plain, schedule=Schedule("cosine", 4000))
    assert cosine.highest_step == 3999


def no_attention(state: dict[str, Tensor]) -> None:
    for name in [name for name in state if name.startswith("middle_block.1.")]:
        del state[name]


def without(name: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.__delitem__(name)


def with_(name: str, tensor: Tensor) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.update({name: tensor})


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (without("time_embed.0.weight"), "time_embed.0.weight"),
        (with_("time_embed.0.weight", torch.zeros(3)), "time_embed.0.weight"),
        (without("output_blocks.0.0.out_layers.0.weight"), "must be a prior"),
        (with_("label_emb.weight", torch.zeros(10, 128)), "class-conditional"),
        (with_("input_blocks.0.0.weight", torch.zeros(32, 6, 3, 3)), "got 6"),
        (with_("out.2.weight", torch.zeros(1, 32, 3, 3)), "got 3 and 1"),
        (without("input_blocks.3.0.in_layers.2.bias"), "'input_blocks.3.*got absent"),
        (with_("more.weight", torch.zeros(1)), r"'more.weight' must be absent"),
        (with_("out.2.bias", torch.zeros(7)), r"'out.2.bias' must be \(6,\), got \(7,\)"),
        (with_("output_blocks.0.0.out_layers.0.weight", torch.zeros(40)), "must be"),
        (with_("output_blocks.8.0.out_layers.0.weight", torch.zeros(40)), "got"),
        (no_attention, "'middle_block.1"),
        (without("output_blocks.4.0.out_layers.0.weight"), "resembles a prior"),
    ],
)
def test_unknown_layouts(spoil: Callable, match: str, tmp_path: Path):
    published = published_unet("difface")
    state = published.state()
    spoil(state)
    with pytest.raises(WrongArchitectureError, match=match):
        load_prior(write(state, tmp_path / "small.pt"), **published.facts)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", "Stable Diffusion"),
        ("down_blocks.0.resnets.0.conv1.weight", "diffusers network without its folder"),
        ("conv_first.weight", "must be a prior"),
    ],
)
def test_other_networks(name: str, match: str, tmp_path: Path):
    with pytest.raises(WrongArchitectureError, match=match):
        load_prior(write({name: torch.zeros(2)}, tmp_path / "x.safetensors"), size=64)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"head_channels": 64, "size": 34}, InputError, "multiple of 4"),
        ({"head_channels": 48}, InputError, "heads of 48 channels.*64"),
        ({"head_channels": 0}, InputError, "0 for both"),
        ({"heads": 5}, InputError, "5 heads"),
        ({"variance": "fixed_small"}, WrongArchitectureError, "3 channels.*got 6"),
        ({"variance": "learned"}, InputError, "variance"),
        ({"prediction": "score"}, InputError, "prediction"),
        ({"colour": 3}, InputError, "head_channels.*got 'colour'"),
        ({"preset": "diffusion"}, InputError, "'guided-diffusion'.*got 'diffusion'"),
    ],
)
def test_wrong_facts(changes: dict, error: type, match: str, tmp_path: Path):
    path = write(published_unet("difface").state(), tmp_path / "small_64.pt")
    with pytest.raises(error, match=match):
        load_prior(path, **changes)


class _Code:
    def __reduce__(self):
        return print, ("never",)


def test_damaged_and_dangerous_files(tmp_path: Path):
    with pytest.raises(MissingWeightsError, match="iddpm-ffhq-512"):
        load_prior(tmp_path / "iddpm_ffhq512_ema500000.pth")
    state = published_unet("difface").state()
    state["out.2.bias"][0] = math.nan
    with pytest.raises(CorruptWeightsError, match="NaN"):
        load_prior(write(state, tmp_path / "nan_64.pt"))
    torch.save({"state_dict": _Code()}, tmp_path / "code_64.pt")
    with pytest.raises(UnsafeWeightsError):
        load_prior(tmp_path / "code_64.pt")


def test_the_published_prior_at_full_size(tmp_path: Path):
    """Zeros do; the small networks of the published figures say what is computed."""
    shapes = published_format("iddpm_ffhq512_ema500000.pth")["tensors"]
    path = tmp_path / "iddpm_ffhq512_ema500000.pth"
    zeros = {name: torch.zeros(shape, dtype=torch.half) for name, (shape, _) in shapes.items()}
    torch.save(zeros, path)
    prior = load_prior(path)
    assert isinstance(prior.network, UNet)
    assert prior.network.config == UNetConfig(
        model_channels=32,
        channels=(32, 64, 128, 256, 256, 512, 512),
        blocks=(1, 2, 2, 2, 2, 3, 4),
        attention=(False, False, False, False, True, True, True),
        out_channels=6,
    )
    assert (prior.size, prior.variance, prior.highest_step) == (512, "learned_range", 999)
    assert sum(p.numel() for p in prior.network.parameters()) == sum(
        math.prod(shape) for shape, _ in shapes.values()
    )
