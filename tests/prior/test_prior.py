"""What priors predict, and their own files."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.published.rule_weights import fill_by_rule
from bfr.errors import (
    CorruptWeightsError,
    InputError,
    MissingWeightsError,
    WeightsError,
    WrongArchitectureError,
)
from bfr.files.manifest import EMBEDDED_DIR
from bfr.prior.load import EMBEDDED_PRIOR, load_prior, save_prior
from bfr.prior.prior import PREDICTIONS, Prior, predict
from bfr.prior.schedule import Schedule, noised, respace
from bfr.prior.unet import UNet, UNetConfig

TINY = UNetConfig(32, (32, 64), (0, 1), (False, True), head_channels=32, patch=4)
WORDS = {"licence": "Apache-2.0", "provenance": "a test"}
STEPS = respace(Schedule(), 250)


class Constant(nn.Module):
    """A network that always gives the same; it keeps the steps that it was told."""

    def __init__(self, output: Tensor, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.output = nn.Parameter(output.to(dtype))
        self.steps: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        assert x.dtype == self.output.dtype
        self.steps.append(t)
        return self.output


def prior_of(output: Tensor, dtype: torch.dtype = torch.float32, **facts) -> Prior:
    facts = {"variance": "fixed_large", "size": 8, "schedule": Schedule(), **facts}
    return Prior(Constant(output, dtype), **facts)


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Predicting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("index", [0, 100, 249])
def test_the_right_word_gives_the_clean_face_back(prediction: str, index: int):
    clean, noise = images(2, 3, 8, 8).clamp(-1, 1), images(2, 3, 8, 8, seed=1)
    kept = float(STEPS.alphas_cumprod[index])
    word = {
        "epsilon": noise,
        "v_prediction": kept**0.5 * noise - (1 - kept) ** 0.5 * clean,
        "sample": clean,
    }[prediction]
    prior = prior_of(word, prediction=prediction)
    predicted = predict(prior, noised(clean, kept, noise), STEPS, index)
    assert torch.allclose(predicted.clean, clean, atol=2e-3 if index == 249 else 1e-5)
    assert isinstance(prior.network, Constant)
    told = prior.network.steps[0]
    assert told.dtype == torch.long
    assert told.tolist() == [int(STEPS.timesteps[index])] * 2


@pytest.mark.parametrize("clip", [True, False])
def test_clips_where_the_prior_says_so(clip: bool):
    word = 3 * images(1, 3, 8, 8)
    clean = predict(prior_of(word, prediction="sample", clip=clip), word, STEPS, 5).clean
    assert torch.equal(clean, word.clamp(-1, 1) if clip else word)


@pytest.mark.parametrize("index", [0, 1, 120, 249])
def test_variances(index: int):
    x = images(1, 3, 8, 8)
    assert predict(prior_of(x, variance="fixed_small"), x, STEPS, index).share == 0
    assert predict(prior_of(x, variance="fixed_large"), x, STEPS, index).share == 1
    for value, expected in ((-1.0, 0.0), (0.0, 0.5), (1.0, 1.0)):
        word = torch.cat([x, torch.full_like(x, value)], 1)
        learned = predict(prior_of(word, variance="learned_range"), x, STEPS, index).share
        assert torch.equal(torch.as_tensor(learned), torch.full_like(x, expected))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_network_has_its_own_precision(dtype: torch.dtype):
    word = images(1, 3, 8, 8)
    prior = prior_of(word, dtype, prediction="sample", clip=False)
    clean = predict(prior, images(1, 3, 8, 8, seed=1), STEPS, 5).clean
    assert clean.dtype == torch.float32
    assert torch.equal(clean, word.to(dtype).float())


def test_noise_that_it_was_not_trained_on():
    prior = prior_of(images(1, 3, 8, 8), highest_step=639)
    x = images(1, 3, 8, 8)
    predict(prior, x, STEPS, int((STEPS.timesteps <= 639).sum()) - 1)
    with pytest.raises(InputError, match=r"639"):
        predict(prior, x, STEPS, 200)


def test_the_network_is_told_of_more_noise():
    """By the shift, as far as it has learned; the noise that is there is reckoned with as it is."""
    told = []

    class Listening(torch.nn.Module):
        def forward(self, x, t):
            told.append(t.tolist())
            return torch.zeros_like(x)

    x = images(2, 3, 8, 8)
    shifted = Prior(Listening(), 8, Schedule(), variance="fixed_small", clip=False, shift=25)
    last = Prior(Listening(), 8, Schedule(), variance="fixed_small", highest_step=40, shift=25)
    step = int(STEPS.timesteps[8])
    clean = predict(shifted, x, STEPS, 8).clean
    predict(last, x, STEPS, 8)
    assert told == [[step + 25] * 2, [40] * 2] and step < 40 < step + 25
    assert torch.allclose(clean, x / float(STEPS.alphas_cumprod[8]) ** 0.5)


def test_a_network_of_the_wrong_kind():
    x = images(1, 3, 8, 8)
    with pytest.raises(WrongArchitectureError, match=r"\(1, 6, 8, 8\).*learned.*\(1, 3, 8, 8\)"):
        predict(prior_of(x, variance="learned_range"), x, STEPS, 0)
    with pytest.raises(WeightsError, match="NaN"):
        predict(prior_of(torch.full_like(x, math.nan)), x, STEPS, 0)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"prediction": "score"}, "epsilon, v_prediction, sample"),
        ({"variance": "learned"}, "learned_range, fixed_large, fixed_small"),
        ({"size": 0}, "at least 1 pixel"),
        ({"highest_step": 1000}, "from 1 to 999"),
        ({"shift": -1}, "shift"),
        ({"highest_step": 99, "shift": 100}, "99, got 100"),
    ],
)
def test_a_prior_that_cannot_be(wrong: dict, match: str):
    with pytest.raises(InputError, match=match):
        prior_of(images(1, 3, 8, 8), **wrong)


# Our own files ---------------------------------------------------------------------------------


def own(**facts) -> Prior:
    network = fill_by_rule(UNet(replace(TINY, out_channels=facts.pop("out_channels", 3))))
    known = {"size": 32, "schedule": Schedule(), "variance": "fixed_small", **facts}
    return Prior(network.requires_grad_(False), **known)


@pytest.mark.parametrize(
    "facts",
    [
        {"prediction": "sample", "highest_step": 639, "shift": 25},
        {"prediction": "v_prediction", "clip": False, "schedule": Schedule("cosine", 400)}
        | {"highest_step": 399},
        {"variance": "learned_range", "out_channels": 6, "size": 64},
    ],
)
def test_saved_and_loaded_is_the_same(facts: dict, tmp_path: Path):
    before, path = own(**facts), tmp_path / "mine.safetensors"
    save_prior(path, before, WORDS)
    after = load_prior(path)
    said = ("size", "schedule", "prediction", "variance", "highest_step", "shift", "clip")
    for name in said:
        assert getattr(after, name) == getattr(before, name)
    assert isinstance(before.network, UNet)
    assert isinstance(after.network, UNet)
    assert after.network.config == before.network.config
    assert after.name == "mine"
    x, t = images(2, 3, 32, 32), torch.tensor([3, 200])
    assert torch.equal(after.network(x, t), before.network(x, t))
    with safe_open(path, "pt") as file:
        assert file.metadata()["licence"] == "Apache-2.0"


def test_half_precision_is_kept_in_the_file_and_loaded_as_float32(tmp_path: Path):
    prior = own()
    prior.network.half()
    save_prior(tmp_path / "half.safetensors", prior, WORDS)
    tensors = load_file(tmp_path / "half.safetensors").values()
    assert {tensor.dtype for tensor in tensors} == {torch.float16}
    after = load_prior(tmp_path / "half.safetensors")
    assert {parameter.dtype for parameter in after.network.parameters()} == {torch.float32}
    assert not after.network.training
    assert not any(parameter.requires_grad for parameter in after.network.parameters())


def test_loaded_in_inference_mode_it_is_of_use_outside(tmp_path: Path):
    save_prior(tmp_path / "mine.safetensors", own(), WORDS)
    with torch.inference_mode():
        network = load_prior(tmp_path / "mine.safetensors").network
    assert not any(parameter.is_inference() for parameter in network.parameters())


def test_the_checksum_is_the_files(tmp_path: Path):
    path = tmp_path / "mine.safetensors"
    save_prior(path, own(), WORDS)
    assert load_prior(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_only_what_can_be_saved(tmp_path: Path):
    with pytest.raises(InputError, match="Constant"):
        save_prior(tmp_path / "x.safetensors", prior_of(images(1, 3, 8, 8)), WORDS)
    with pytest.raises(InputError, match="provenance"):
        save_prior(tmp_path / "x.safetensors", own(), {"licence": "MIT"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"architecture": "NAFNet"}, WrongArchitectureError, "got a NAFNet"),
        ({"config": "{"}, CorruptWeightsError, "metadata"),
        ({"config": '{"channels": [32]}'}, CorruptWeightsError, "metadata"),
        ({"size": "big"}, CorruptWeightsError, "big"),
        ({"schedule": '{"shape": "sigmoid"}'}, CorruptWeightsError, "linear"),
        ({"size": "36"}, InputError, "multiple of 8"),
        ({"variance": "learned_range"}, WrongArchitectureError, "6 channels.*got 3"),
        ({"prediction": "score"}, InputError, "score"),
        ({"highest_step": "1000"}, InputError, "1000"),
        ({"shift": "-3"}, CorruptWeightsError, "-3"),
    ],
)
def test_wrong_metadata(changes: dict, error: type, match: str, tmp_path: Path):
    path = tmp_path / "mine.safetensors"
    save_prior(path, own(), WORDS)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, {**metadata, **changes})
    with pytest.raises(error, match=match):
        load_prior(path)


def test_missing_metadata_and_wrong_structure(tmp_path: Path):
    path = tmp_path / "mine.safetensors"
    save_prior(path, own(), WORDS)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    state = load_file(path)
    config = json.loads(metadata["config"])
    wider, odd = (json.dumps({**config, "channels": channels}) for channels in ([32, 96], [32, 40]))
    short = json.dumps({**config, "attention": config["attention"][1:]})
    empty = json.dumps({**config, "channels": [], "blocks": [], "attention": []})
    for wrong, error, match in (
        ({k: v for k, v in metadata.items() if k != "size"}, CorruptWeightsError, "size"),
        ({**metadata, "config": wider}, WrongArchitectureError, r"'input_blocks.2.*\(96, 32"),
        ({**metadata, "config": odd}, InputError, "heads of 32 channels.*40 channels"),
        ({**metadata, "config": short}, WrongArchitectureError, "different numbers of levels"),
        ({**metadata, "config": empty}, WrongArchitectureError, "different numbers of levels"),
    ):
        save_file(state, path, wrong)
        with pytest.raises(error, match=match):
            load_prior(path)


def test_it_says_everything_itself(tmp_path: Path):
    path = tmp_path / "mine.safetensors"
    save_prior(path, own(), WORDS)
    with pytest.raises(InputError, match="Remove size"):
        load_prior(path, size=64)
    with pytest.raises(InputError, match="Remove preset"):
        load_prior(path, preset="improved-diffusion")


def test_every_embedded_prior_loads():
    """All of what lies in the weights folder as a prior, the default among it once it is there."""
    found = sorted(EMBEDDED_DIR.glob("prior*.safetensors"))
    for path in found:
        prior = load_prior(path)
        assert prior.size in (128, 256)
        x = images(1, 3, prior.size, prior.size)
        assert torch.isfinite(predict(prior, x, STEPS, 20).clean).all()
    if EMBEDDED_PRIOR in found:
        assert load_prior().sha256 == load_prior(EMBEDDED_PRIOR).sha256
    else:
        with pytest.raises(MissingWeightsError):
            load_prior()
