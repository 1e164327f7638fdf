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
from ..files.weights import read_state_dict, whole_number, write_state_dict
from .checkpoints import build_unet, choose_preset, read_config
from .diffusers_folder import DiffusersUNet, read_folder
from .schedule import Respaced, Schedule
from .unet import UNet, UNetConfig

EMBEDDED_PRIOR = EMBEDDED_DIR / "prior.safetensors"

PREDICTIONS = ("epsilon", "v_prediction", "sample")
VARIANCES = ("learned_range", "fixed_large", "fixed_small")


@dataclass(frozen=True, eq=False, slots=True)
class Prior:
    """A diffusion model of clean faces; the ``BFR_PRIOR`` socket.

    Attributes:
        network: takes B×3×S×S noisy faces, in [-1, 1] before the noise, and B training steps;
            gives B×3×S×S, or B×6×S×S where the variance is learned.
        size: S, the side in pixels of the faces it was trained on.
        schedule: the noise schedule it was trained on.
        prediction: what the network predicts: the noise ("epsilon"), the velocity
            ("v_prediction", Salimans and Ho 2022) or the clean face ("sample").
        variance: of an ancestral step: predicted, between the posterior's and β
            ("learned_range"); β ("fixed_large"); or the posterior's ("fixed_small").
        highest_step: the noisiest training step that it has learned.
        shift: training steps added to the step that the network is given. Partly sampled faces
            are not exactly clean faces plus noise, which is all the network has seen;
            overstating the noise makes it remove the difference too (Li et al. 2024,
            "Alleviating Exposure Bias in Diffusion Models through Sampling with Shifted Time
            Steps").
        clip: whether predicted faces are clipped to [-1, 1].
        name: for reports.
        sha256: of the weights file, in hexadecimal; empty for a prior made in code.

    Raises:
        InputError: for a prediction, variance, size or step out of its range.
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
                    f"A prior's {what} must be one of {', '.join(known)}, got {value!r}. "
                    "Choose what it was trained with."
                )
        if self.size < 1:
            raise InputError(
                f"A prior's size must be at least 1 pixel, got {self.size}. Give the side of the "
                "faces it was trained on."
            )
        if not 0 < self.highest_step < self.schedule.steps:
            raise InputError(
                f"A prior's highest step must be from 1 to {self.schedule.steps - 1}, got "
                f"{self.highest_step}. Give the noisiest step it has learned."
            )
        if not 0 <= self.shift <= self.highest_step:
            raise InputError(
                f"A prior's shift must be from 0 to its highest step, {self.highest_step}, got "
                f"{self.shift}. 0 shifts nothing."
            )

    @property
    def channels(self) -> int:
        """The number of channels that the network gives."""
        return 6 if self.variance == "learned_range" else 3


@dataclass(frozen=True, eq=False, slots=True)
class Predicted:
    """A prior's prediction for noisy faces.

    Attributes:
        clean: B×3×S×S float32, the predicted clean faces.
        share: where the log variance of an ancestral step is, from the posterior's (0) to log β
            (1); B×3×S×S float32, or one number.
    """

    clean: Tensor
    share: Tensor | float


def predict(prior: Prior, x: Tensor, steps: Respaced, index: int) -> Predicted:
    """Predicts the clean faces behind noisy ones in one network call (Ho et al. 2020, eq. 15).

    Args:
        prior: its network may be in any floating-point type, on the device of ``x``.
        x: B×3×S×S float32 noisy faces.
        steps: that sampling visits.
        index: of the step in ``steps`` whose noise ``x`` has.

    Raises:
        InputError: if the step has more noise than the prior was trained on.
        WrongArchitectureError: if the network gives another shape than the variance asks for.
        WeightsError: if it gives NaN or infinity.
    """
    step = int(steps.timesteps[index])
    if step > prior.highest_step:
        raise InputError(
            f"The training step must be at most {prior.highest_step}, the noisiest that the prior "
            f"{prior.name} has learned, got {step}. Start at a lower step."
        )
    dtype = next((p.dtype for p in prior.network.parameters()), x.dtype)
    shifted = min(step + prior.shift, prior.highest_step)
    t = torch.full((len(x),), shifted, device=x.device)
    output = prior.network(x.to(dtype), t).float()
    if output.shape != (shape := (len(x), prior.channels, *x.shape[2:])):
        raise WrongArchitectureError(
            f"The prior {prior.name} must give {shape} for its variance {prior.variance!r}, got "
            f"{tuple(output.shape)}. Load it with another variance."
        )
    if not bool(torch.isfinite(output).all()):
        raise WeightsError(
            f"The prior {prior.name} must give finite numbers, got NaN or infinity in {dtype}. "
            "Use float32, or download its weights again."
        )
    estimate, values = output[:, :3], output[:, 3:]
    alpha_bar = float(steps.alphas_cumprod[index])
    if prior.prediction == "epsilon":
        clean = (1 / alpha_bar) ** 0.5 * x - (1 / alpha_bar - 1) ** 0.5 * estimate
    elif prior.prediction == "v_prediction":
        clean = alpha_bar**0.5 * x - (1 - alpha_bar) ** 0.5 * estimate
    else:
        clean = estimate
    # Nichol and Dhariwal 2021, eq. 15, and the fixed variances of Ho et al. 2020, section 3.2.
    fixed = {"fixed_small": 0.0, "fixed_large": 1.0}
    share = fixed[prior.variance] if prior.variance in fixed else (values + 1) / 2
    return Predicted(clean.clamp(-1, 1) if prior.clip else clean, share)


@torch.inference_mode(False)  # ComfyUI's nodes run in it, and its tensors are of no use outside
def load_prior(path: str | Path | None = None, *, preset: str = "auto", **changes: Any) -> Prior:
    """Loads a prior and recognises its kind by its metadata, its tensors or its folder.

    Args:
        path: our safetensors; an improved-diffusion or guided-diffusion checkpoint; or a
            diffusers folder with a ``UNet2DModel``. None for the embedded weights.
        preset: for a checkpoint, one of `checkpoints.PRESETS`; "auto" goes by the file's name.
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
