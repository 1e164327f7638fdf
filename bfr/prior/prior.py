"""Priors: diffusion models of clean faces, from any of the formats they are published in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CorruptWeightsError, InputError, WeightsError, WrongArchitectureError
from ..files.checksums import file_sha256
from ..files.manifest import EMBEDDED_DIR
from ..files.weights import read_state_dict, write_state_dict
from .checkpoints import build_unet, choose_preset, read_config
from .diffusers_folder import DiffusersUNet, read_folder
from .schedule import Respaced, Schedule, posterior
from .unet import UNet, UNetConfig

EMBEDDED_PRIOR = EMBEDDED_DIR / "prior.safetensors"

PREDICTIONS = ("epsilon", "v_prediction", "sample")
VARIANCES = ("learned_range", "fixed_large", "fixed_small")


@dataclass(frozen=True, eq=False, slots=True)
class Prior:
    """A diffusion model of clean faces; the ``BFR_PRIOR`` socket.

    Attributes:
        network: takes B×3×S×S noisy faces, of [-1, 1] before the noise, and B training steps;
            gives B×3×S×S, or B×6×S×S where the variance is learned.
        size: S, the side in pixels of the faces it was trained on.
        schedule: the noise it was trained on.
        prediction: what the network gives: the noise ("epsilon"), the velocity
            ("v_prediction", Salimans and Ho 2022) or the clean face ("sample").
        variance: of an ancestral step: between the posterior's and β by the network's word
            ("learned_range"), β ("fixed_large") or the posterior's ("fixed_small").
        highest_step: the noisiest training step that it knows.
        shift: how many training steps noisier than it is the network is told that a face is.
            What was sampled so far differs from a clean face with noise, which is all that the
            network has learned; told of more noise, it takes that away as well (Li et al. 2024,
            "Alleviating Exposure Bias in Diffusion Models through Sampling with Shifted Time
            Steps").
        clip: whether predicted faces are clipped to [-1, 1].
        name: for reports.
        sha256: of the weights file, in hexadecimal.

    Raises:
        InputError: for a prediction, variance, size or step that cannot be.
    """

    network: nn.Module
    size: int
    schedule: Schedule
    prediction: str = "epsilon"
    variance: str = "learned_range"
    highest_step: int = 999
    shift: int = 0
    clip: bool = True
    name: str = ""
    sha256: str = ""

    def __post_init__(self):
        for what, value, known in (
            ("prediction", self.prediction, PREDICTIONS),
            ("variance", self.variance, VARIANCES),
        ):
            if value not in known:
                raise InputError(
                    f"A prior's {what} is one of {', '.join(known)}, and {value!r} came."
                )
        if self.size < 1:
            raise InputError(f"A prior's size must be at least 1 pixel, and {self.size} came.")
        if not 0 < self.highest_step < self.schedule.steps:
            raise InputError(
                f"A prior's highest step lies between 0 and {self.schedule.steps}, and "
                f"{self.highest_step} came."
            )
        if not 0 <= self.shift <= self.highest_step:
            raise InputError(
                f"A prior's shift lies between 0 and its highest step, {self.highest_step}, and "
                f"{self.shift} came."
            )

    @property
    def channels(self) -> int:
        """How many channels the network gives."""
        return 6 if self.variance == "learned_range" else 3


@dataclass(frozen=True, eq=False, slots=True)
class Predicted:
    """What a prior says of noisy faces.

    Attributes:
        clean: B×3×S×S float32, the predicted clean faces.
        log_variance: of the ancestral step to the step before; B×3×S×S float32, or one number.
    """

    clean: Tensor
    log_variance: Tensor


def predict(prior: Prior, x: Tensor, steps: Respaced, index: int) -> Predicted:
    """One network call: the clean faces behind noisy ones (Ho et al. 2020, eq. 15).

    Args:
        prior: its network may be in any floating-point type, on the device of ``x``.
        x: B×3×S×S float32 noisy faces.
        steps: that sampling goes through.
        index: of the step in ``steps`` whose noise ``x`` has.

    Raises:
        InputError: if the step has more noise than the prior was trained on.
        WrongArchitectureError: if the network gives another shape than the variance asks for.
        WeightsError: if it gives NaN or infinity.
    """
    step = int(steps.timesteps[index])
    if step > prior.highest_step:
        raise InputError(
            f"The prior {prior.name} knows the noise up to training step {prior.highest_step}, "
            f"and step {step} was asked for. Start at a lower step."
        )
    dtype = next((p.dtype for p in prior.network.parameters()), x.dtype)
    told = min(step + prior.shift, prior.highest_step)
    t = torch.full((len(x),), told, device=x.device)
    output = prior.network(x.to(dtype), t).float()
    if output.shape != (shape := (len(x), prior.channels, *x.shape[2:])):
        raise WrongArchitectureError(
            f"The prior {prior.name} gave {tuple(output.shape)}, and {shape} belongs to its "
            f"variance {prior.variance!r}. Load it with another variance."
        )
    if not bool(torch.isfinite(output).all()):
        raise WeightsError(
            f"The prior {prior.name} ({dtype}) gave NaN. Use float32, or get its weights again."
        )
    estimate, values = output[:, :3], output[:, 3:]
    kept = float(steps.kept[index])
    if prior.prediction == "epsilon":
        clean = (1 / kept) ** 0.5 * x - (1 / kept - 1) ** 0.5 * estimate
    elif prior.prediction == "v_prediction":
        clean = kept**0.5 * x - (1 - kept) ** 0.5 * estimate
    else:
        clean = estimate
    log_variance = _log_variance(prior, values, steps, index)
    return Predicted(clean.clamp(-1, 1) if prior.clip else clean, log_variance)


def _log_variance(prior: Prior, values: Tensor, steps: Respaced, index: int) -> Tensor:
    """Nichol and Dhariwal 2021, eq. 15, and the fixed ones of Ho et al. 2020, section 3.2."""
    step = posterior(steps, index)
    if prior.variance == "learned_range":
        share = (values + 1) / 2
        return share * step.log_beta + (1 - share) * step.log_variance
    large = prior.variance == "fixed_large" and index > 0
    return torch.tensor(step.log_beta if large else step.log_variance)


@torch.inference_mode(False)  # ComfyUI's nodes run in it, and its tensors are of no use outside
def load_prior(path: str | Path | None = None, *, preset: str = "auto", **changes: Any) -> Prior:
    """Loads a prior; what it is follows from its metadata, its tensors or its folder.

    Args:
        path: our safetensors; an improved-diffusion or guided-diffusion checkpoint; or a
            diffusers folder with a ``UNet2DModel``. None for the embedded weights.
        preset: for a checkpoint, one of `layouts.PRESETS`; "auto" goes by the file's name.
        changes: for a checkpoint, attributes of `layouts.Preset` to use instead of the preset's,
            as ``size=256``; for a folder, ``size`` alone.

    Returns:
        The prior on the CPU, in float32, frozen and in evaluation mode.

    Raises:
        WeightsError: if a file is missing, corrupt, unsafe or no prior.
        InputError: if something about a checkpoint must be said, or is said twice.
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
    """Writes a prior as safetensors that `load_prior` reads without being told anything.

    Args:
        path: of the file, in the precision that the network has; whole or not at all.
        prior: with one of our networks.
        metadata: more to write into it; ``licence`` and ``provenance`` must be there.

    Raises:
        InputError: for a network of another kind, or missing metadata.
        OutputError: if the file cannot be written.
    """
    if not isinstance(prior.network, UNet):
        raise InputError(
            f"Only a prior with a UNet of this project can be saved, and this one has a "
            f"{type(prior.network).__name__}. Keep its folder."
        )
    if missing := {"licence", "provenance"} - metadata.keys():
        raise InputError(f"A prior's metadata must say its {' and '.join(sorted(missing))}.")
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
            f"{path} holds a {metadata['architecture']} and no prior. Choose a prior."
        )
    try:
        config = json.loads(metadata["config"])
        for name in ("channels", "blocks", "attention"):
            config[name] = tuple(config[name])
        config = UNetConfig(**config)
        facts = {
            "size": int(metadata["size"]),
            "schedule": Schedule(**json.loads(metadata["schedule"])),
            "prediction": metadata["prediction"],
            "variance": metadata["variance"],
            "highest_step": int(metadata["highest_step"]),
            "shift": int(metadata.get("shift", "0")),
            "clip": json.loads(metadata["clip"]) is True,
        }
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptWeightsError(
            f"{path} says wrongly what prior it holds ({type(error).__name__}: {error}). "
            "Save it with save_prior, or get it again."
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
        said = next(iter(names), "preset")
        raise InputError(f"{path} says itself what prior it holds. Leave {said} out.")


def _check(prior: Prior, path: Path) -> None:
    """Refuses what would fail in the middle of sampling."""
    network = prior.network
    if isinstance(network, UNet):
        multiple = network.config.patch * 2 ** (len(network.config.channels) - 1)
        channels = network.config.out_channels
    else:
        assert isinstance(network, DiffusersUNet)
        multiple, channels = network.multiple, network.channels
    if channels != prior.channels:
        raise WrongArchitectureError(
            f"{path} gives {channels} channels, and the variance {prior.variance!r} needs "
            f"{prior.channels}: 'learned_range' 6, the fixed ones 3. Use another variance."
        )
    if prior.size % multiple:
        raise InputError(
            f"{path} needs faces of a multiple of {multiple} pixels, and the size {prior.size} "
            "was given."
        )
