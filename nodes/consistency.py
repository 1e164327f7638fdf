"""The paper's constraint for any diffusion model that ComfyUI samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..bfr.errors import InputError
from ..bfr.prior.constraint import constrain_clean
from . import schemas
from .guidance import factor_input, strength_input

PAPER_STOP = 1 - 90 / 250  # as a part of the sampling schedule, which counts from noise to image


def constraint_patch(
    reference: Tensor, factor: int, strength: float, start: float, stop: float
) -> Callable[[dict[str, Any]], Tensor]:
    """A function for the hook that every sampler's prediction passes through.

    Args:
        reference: the latent as the VAE encoded it.
        factor: φ's factor N, in pixels of the latent.
        strength: as of `constrain_clean`.
        start: where the constraint begins, as a part of the schedule; 0 is pure noise.
        stop: where it ends; 1 is the finished image.
    """

    def constrain_prediction(args: dict[str, Any]) -> Tensor:
        model, clean = args["model"], args["denoised"]
        # Read here and not earlier, because a later node may change the model's schedule.
        schedule = model.model_sampling
        sigma = float(args["sigma"].max())
        inside = schedule.percent_to_sigma(stop) <= sigma <= schedule.percent_to_sigma(start)
        if not inside or strength == 0:
            return clean
        still = reference.ndim == 4 and clean.ndim == 5  # an image for a model of videos
        latent = reference[:, :, None] if still else reference
        return constrain_clean(clean, model.process_latent_in(latent), factor, strength)

    return constrain_prediction


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
                    "sampled: one for the whole batch, or one per latent.",
                ),
                factor_input(
                    4,
                    "How coarse the held shapes are, in pixels of the latent (one is usually 8 "
                    "of the image). Higher: more freedom, less likeness. 1 holds everything.",
                ),
                strength_input(),
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
                "The reference must be one latent, got several kinds (image and sound). Separate "
                "them first."
            )
        if start >= stop:
            raise InputError(
                f"start must be below stop, both parts of the sampling from 0 to 1, got start "
                f"{start:g} and stop {stop:g}. Lower start or raise stop."
            )
        constrained = model.clone()
        patch = constraint_patch(latent, factor, strength, start, stop)
        constrained.set_model_sampler_post_cfg_function(patch)
        return io.NodeOutput(constrained)
