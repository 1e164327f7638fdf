"""The paper's constraint for any diffusion model that ComfyUI samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from comfy_api.latest import io
from torch import Tensor

from ..bfr.errors import InputError
from ..bfr.image.lowpass import lowpass
from . import schemas

PAPER_STOP = 1 - 90 / 250  # as a part of the sampling schedule, which counts from noise to image


def constrain_clean(clean: Tensor, reference: Tensor, factor: int, strength: float) -> Tensor:
    """The constraint on a prediction of the clean image: ``x₀ + strength·φ(reference − x₀)``.

    A step puts the same noise on x₀ as on the reference, so this is the paper's replacement of
    the noised low frequencies, and no sampler needs to know of it. Where the factor does not
    divide a side, the difference is mirrored beyond the edges first.

    Args:
        clean: B×…×H×W, the prediction.
        reference: the same, or one for all of the batch.
        factor: φ's factor N, at most the shorter side.
        strength: 0 changes nothing, 1 replaces the low frequencies.

    Returns:
        A tensor like ``clean``.

    Raises:
        InputError: if the shapes differ, or the factor is larger than a side.
    """
    if clean.ndim < 4 or clean.shape[1:] != reference.shape[1:]:
        raise InputError(
            f"The reference must be as large as the sampled latent, {_shape(clean)}, and is "
            f"{_shape(reference)}. Encode it with the model's own VAE, at the same size."
        )
    if len(reference) not in (1, len(clean)):
        raise InputError(
            f"The reference must hold one latent, or one for each of the {len(clean)} sampled, "
            f"and holds {len(reference)}."
        )
    height, width = clean.shape[-2:]
    if factor > min(height, width):
        raise InputError(
            f"The low-pass factor must be at most the latent's shorter side, {min(height, width)}, "
            f"and {factor} came. A latent is usually 8 times smaller than its image."
        )
    margins = (0, -width % factor, 0, -height % factor)
    missing = (reference.to(clean.device).float() - clean.float()).flatten(1, -3)
    coarse = lowpass(F.pad(missing, margins, mode="reflect"), factor)[..., :height, :width]
    return clean + strength * coarse.reshape(clean.shape).to(clean)


def constraint_patch(
    reference: Tensor, factor: int, strength: float, start: float, stop: float
) -> Callable[[dict[str, Any]], Tensor]:
    """A function for the hook that every sampler's prediction goes through.

    Args:
        reference: the latent as the VAE encoded it.
        factor: φ's factor N, in pixels of the latent.
        strength: as of `constrain_clean`.
        start: where the constraint begins, as a part of the schedule; 0 is pure noise.
        stop: where it ends; 1 is the finished image.
    """

    def constrain_prediction(args: dict[str, Any]) -> Tensor:
        model, clean = args["model"], args["denoised"]
        # Asked for here and not before: a later node may change the model's schedule.
        schedule = model.model_sampling
        sigma = float(args["sigma"].max())
        inside = schedule.percent_to_sigma(stop) <= sigma <= schedule.percent_to_sigma(start)
        if not inside or strength == 0:
            return clean
        still = reference.ndim == 4 and clean.ndim == 5  # an image for a model of videos
        latent = reference[:, :, None] if still else reference
        return constrain_clean(clean, model.process_latent_in(latent), factor, strength)

    return constrain_prediction


def _shape(latent: Tensor) -> str:
    return "×".join(map(str, latent.shape[1:]))


class ApplyConsistency(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_ApplyConsistency",
            display_name="Apply Consistency (any model)",
            category=schemas.TARGETS,
            description="Holds the coarse shapes and colours of a reference while any diffusion "
            "model samples with the ordinary samplers, and leaves the detail to the model.",
            search_aliases=[
                "low frequency guidance",
                "ilvr",
                "structure guidance",
                "consistency guidance",
                "keep composition",
                "face detailer",
                "adetailer",
            ],
            inputs=[
                io.Model.Input(
                    "model", display_name="model", tooltip="Any diffusion model, before a sampler."
                ),
                io.Latent.Input(
                    "reference",
                    display_name="reference",
                    tooltip="The image to stay close to, from VAE Encode, at the size that is "
                    "sampled. One, or one for each latent of the batch.",
                ),
                schemas.factor_input(
                    4,
                    "How coarse the held shapes are, in pixels of the latent (one is usually 8 "
                    "of the image). Higher: more freedom, less likeness. 1 holds everything.",
                ),
                schemas.strength_input(),
                schemas.slider(
                    "start",
                    "start",
                    0.0,
                    "Where in the sampling the reference begins to hold: 0 at pure noise. Later: "
                    "the model lays out the picture by itself first.",
                ),
                schemas.slider(
                    "stop",
                    "stop",
                    PAPER_STOP,
                    "Where in the sampling the model is set free: 1 never. Earlier: more natural "
                    "detail, less likeness; later: the reference's faults come back.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    "constrained_model", display_name="model", tooltip="For any sampler."
                )
            ],
        )

    @classmethod
    def execute(cls, model, reference, factor, strength, start, stop) -> io.NodeOutput:
        latent = reference["samples"]
        if getattr(latent, "is_nested", False):
            raise InputError(
                "The reference must be one latent, and latents of several kinds (image and "
                "sound) came. Separate them first."
            )
        if start >= stop:
            raise InputError(
                f"start must be before stop, as parts of the sampling from 0 to 1, and start "
                f"{start:g} and stop {stop:g} came."
            )
        constrained = model.clone()
        patch = constraint_patch(latent, factor, strength, start, stop)
        constrained.set_model_sampler_post_cfg_function(patch)
        return io.NodeOutput(constrained)
