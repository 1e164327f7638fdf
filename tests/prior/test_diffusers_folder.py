"""Priors in diffusers folders, against diffusers itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler, DDPMSchedulerOutput
from safetensors.torch import load_file
from torch import Tensor

from bfr.errors import CorruptWeightsError, InputError, MissingWeightsError, WrongArchitectureError
from bfr.prior.load import load_prior
from bfr.prior.prior import predict
from bfr.prior.schedule import Schedule, posterior, respace

SMALL = {
    "sample_size": 32,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def folder(
    path: Path, network: dict | None = None, scheduler: dict | None = None, safe: bool = True
) -> UNet2DModel:
    """Saves a pipeline's two parts as diffusers does; returns its network."""
    torch.manual_seed(0)
    unet = UNet2DModel(**{**SMALL, **(network or {})})
    unet.save_pretrained(path / "unet", safe_serialization=safe)
    DDPMScheduler(**(scheduler or {})).save_pretrained(path / "scheduler")
    (path / "model_index.json").write_text(
        json.dumps({"_class_name": "DDPMPipeline", "scheduler": [], "unet": []})
    )
    return unet.eval()


def change(path: Path, **changes) -> None:
    """Edits a JSON file; None takes a name out."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("flat", [True, False])
def test_diffusers_folder_gives_what_diffusers_gives(safe: bool, flat: bool, tmp_path: Path):
    theirs = folder(tmp_path, safe=safe)
    if flat:
        for file in [*(tmp_path / "unet").iterdir(), *(tmp_path / "scheduler").iterdir()]:
            file.rename(tmp_path / file.name)
        (tmp_path / "unet").rmdir()
    prior = load_prior(tmp_path)
    x, t = images(2, 3, 32, 32), torch.tensor([3, 700])
    with torch.no_grad():
        assert torch.allclose(prior.network(x, t), theirs(x, t).sample, atol=1e-6)
    assert (prior.size, prior.schedule, prior.clip) == (32, Schedule(), True)
    assert (prior.prediction, prior.variance) == ("epsilon", "fixed_small")
    assert prior.name == tmp_path.name
    assert len(prior.sha256) == 64
    assert not prior.network.training


def test_the_networks_folder_alone_finds_its_scheduler(tmp_path: Path):
    folder(tmp_path)
    assert load_prior(tmp_path / "unet").size == 32


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("clip", [True, False])
def test_a_step_is_diffusers_own(prediction: str, clip: bool, tmp_path: Path):
    """The predicted clean face and the mean of a step agree with their scheduler's."""
    settings = {"prediction_type": prediction, "clip_sample": clip}
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", **settings)
    theirs = folder(tmp_path, scheduler=dict(scheduler.config))
    prior = load_prior(tmp_path)
    x, t = images(1, 3, 32, 32), 400
    steps = respace(prior.schedule, 1000)
    found, q = predict(prior, x, steps, t), posterior(steps, t)
    with torch.no_grad():
        output = theirs(x, t).sample
    expected = scheduler.step(output, t, x, torch.Generator().manual_seed(0))
    assert isinstance(expected, DDPMSchedulerOutput)
    assert expected.pred_original_sample is not None
    assert torch.allclose(found.clean, expected.pred_original_sample, atol=1e-4)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    mean = q.clean * found.clean + q.noisy * x
    log_variance = found.share * q.log_beta + (1 - found.share) * q.log_variance
    ours = mean + (0.5 * torch.as_tensor(log_variance)).exp() * noise
    assert torch.allclose(ours, expected.prev_sample, atol=1e-4)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_small_log", "fixed_large"])
def test_diffusers_variances(variance: str, tmp_path: Path):
    folder(tmp_path, scheduler={"variance_type": variance})
    assert load_prior(tmp_path).variance == variance.removesuffix("_log")


def test_diffusers_learned_range(tmp_path: Path):
    folder(tmp_path, {"out_channels": 6}, {"variance_type": "learned_range"})
    prior = load_prior(tmp_path)
    x = images(1, 3, 32, 32)
    share = predict(prior, x, respace(Schedule(), 250), 3).share
    assert torch.as_tensor(share).shape == x.shape


@pytest.mark.parametrize("shape", ["scaled_linear", "squaredcos_cap_v2"])
def test_diffusers_schedules(shape: str, tmp_path: Path):
    settings = {"beta_schedule": shape, "num_train_timesteps": 500, "beta_end": 0.01}
    folder(tmp_path, scheduler=settings)
    prior = load_prior(tmp_path)
    expected = DDPMScheduler(**settings).alphas_cumprod.double()
    assert torch.allclose(prior.schedule.alphas_cumprod, expected, atol=1e-5)
    assert prior.highest_step == 499


def test_old_names_and_old_configurations(tmp_path: Path):
    """As the DDPM folders of 2022 are: other names in the attention, few settings."""
    theirs = folder(tmp_path)
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, tensor in load_file(weights).items():
        for new, old in names.items():
            name = name.replace(f".{new}.", f".{old}.")
        state[name] = tensor
    assert any(".proj_attn." in name for name in state)
    weights.unlink()
    torch.save(state, weights.with_suffix(".bin"))
    kept = {"_class_name": "DDPMScheduler", "beta_schedule": "linear", "num_train_timesteps": 1000}
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(kept))
    x, t = images(1, 3, 32, 32), torch.tensor([300])
    with torch.no_grad():
        assert torch.allclose(load_prior(tmp_path).network(x, t), theirs(x, t).sample, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid'"),
        ({"beta_schedule": ..., "_class_name": "ScoreSdeVeScheduler"}, "ScoreSdeVeScheduler"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        ({"thresholding": True}, "thresholding"),
        ({"clip_sample_range": 2.0}, "clip_sample_range"),
        ({"variance_type": "learned"}, "variance_type 'learned'"),
        ({"variance_type": "learned_range"}, "6 channels.*got 3"),
        ({"prediction_type": "flow"}, "prediction_type 'flow'"),
    ],
)
def test_schedulers_that_no_prior_has(settings: dict, match: str, tmp_path: Path):
    folder(tmp_path)
    change(tmp_path / "scheduler" / "scheduler_config.json", **settings)
    with pytest.raises(WrongArchitectureError, match=match):
        load_prior(tmp_path)


@pytest.mark.parametrize(
    ("network", "match"),
    [
        ({"in_channels": 4}, "of 4"),
        ({"num_class_embeds": 10}, "class-conditional"),
        ({"class_embed_type": "timestep"}, "class-conditional"),
        ({"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
        ({"down_block_types": ["NoBlock2D", "DownBlock2D"]}, "config.json"),
        ({"layers_per_block": 2}, "must be"),
    ],
)
def test_networks_that_no_prior_has(network: dict, match: str, tmp_path: Path):
    folder(tmp_path)
    change(tmp_path / "unet" / "config.json", **network)
    with pytest.raises(WrongArchitectureError, match=match):
        load_prior(tmp_path)


@pytest.mark.parametrize("size", [None, [32, 64]])
def test_a_folder_that_does_not_say_its_size(size: Any, tmp_path: Path):
    folder(tmp_path)
    change(tmp_path / "unet" / "config.json", sample_size=size)
    with pytest.raises(InputError, match="sample_size"):
        load_prior(tmp_path)
    change(tmp_path / "unet" / "config.json", sample_size=[48, 48])
    assert load_prior(tmp_path).size == 48
    assert load_prior(tmp_path, size=64).size == 64
    with pytest.raises(InputError, match="multiple of 2"):
        load_prior(tmp_path, size=33)
    with pytest.raises(InputError, match="Remove variance"):
        load_prior(tmp_path, size=64, variance="fixed_large")


def test_a_folder_of_latents(tmp_path: Path):
    folder(tmp_path)
    change(tmp_path / "model_index.json", vqvae=["diffusers", "VQModel"])
    with pytest.raises(WrongArchitectureError, match="vqvae"):
        load_prior(tmp_path)


@pytest.mark.parametrize(
    ("file", "match"),
    [
        ("unet/config.json", "config.json"),
        ("unet/diffusion_pytorch_model.safetensors", "diffusion_pytorch_model"),
        ("scheduler/scheduler_config.json", "scheduler_config.json"),
    ],
)
def test_a_folder_with_a_part_missing(file: str, match: str, tmp_path: Path):
    folder(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(MissingWeightsError, match=match):
        load_prior(tmp_path)


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_folder_with_a_broken_configuration(content: str, tmp_path: Path):
    folder(tmp_path)
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(content)
    with pytest.raises(CorruptWeightsError, match="json"):
        load_prior(tmp_path)


def test_an_empty_folder(tmp_path: Path):
    with pytest.raises(MissingWeightsError, match=r"config\.json"):
        load_prior(tmp_path)
