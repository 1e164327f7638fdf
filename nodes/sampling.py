"""The nodes that sample pseudo targets: as set, or over a grid of settings."""

from __future__ import annotations

import torch
from comfy_api.latest import io
from torch import Tensor

from ..bfr.errors import InputError
from ..bfr.prior import sweep, sweep_results
from ..bfr.prior.guidance import Guidance
from ..bfr.prior.sample import sample_targets
from ..bfr.records import OnStep
from . import memory, schemas
from .convert import mask_to_core, to_comfy, to_core
from .guidance import guidance_inputs, sampled_at_once_input, slider_inputs
from .progress import progress
from .sheet import show

# How many of the three panels each preview shows.
PREVIEWS = {"face, reference and difference": 3, "predicted face": 1, "none": 0}


def load_prior(managed: memory.ManagedPrior, faces: int) -> None:
    """Moves a prior to the computing device, with room for that many faces at once."""
    memory.load(managed, needed=memory.sampling_bytes(managed.prior, faces))


def show_panels(on_step: OnStep, panels: int) -> OnStep:
    """Passes on the first of the three panels of a preview."""

    def shown(done: int, total: int, preview: Tensor | None = None) -> None:
        if preview is not None:
            preview = preview[..., : panels * preview.shape[-1] // 3] if panels else None
        on_step(done, total, preview)

    return shown


class SamplePseudoTargets(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_SamplePseudoTargets",
            display_name="Sample Pseudo Targets",
            category=schemas.TARGETS,
            description="Turns restored faces into clean ones that keep their likeness: a "
            "diffusion model of clean faces paints the detail again while colours and shapes are "
            "held to the guess. One slider goes from exactly this face to a new face like it.",
            search_aliases=[
                "diffusion prior",
                "face diffusion",
                "consistency guidance",
                "ilvr",
                "pseudo target",
            ],
            inputs=[
                io.Image.Input(
                    "crops",
                    display_name="crops",
                    tooltip="The guess: restored faces, from Restore Faces or any other node.",
                ),
                schemas.Prior.Input("prior", display_name="prior", tooltip="From Load Prior."),
                *guidance_inputs(),
                sampled_at_once_input(),
                io.Combo.Input(
                    "preview",
                    display_name="preview",
                    options=list(PREVIEWS),
                    default=next(iter(PREVIEWS)),
                    tooltip="What the node shows while it works: the clean face that the prior "
                    "predicts; beside it the held part of the guess, and what is added to it "
                    "(grey: nothing).",
                ),
                *slider_inputs(),
                io.Mask.Input(
                    "mask",
                    display_name="mask",
                    optional=True,
                    tooltip="Scratches and tears on the crops: the prior paints them, while the "
                    "rest of the face is held. One mask, or one per crop. For the soft hold.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "targets", display_name="targets", tooltip="The clean faces, in their order."
                ),
                io.Image.Output(
                    "low_pass_reference",
                    display_name="low-pass reference",
                    tooltip="The part of each guess that the constraint holds.",
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="What was done; show it with Preview as Text.",
                ),
            ],
        )

    @classmethod
    def execute(cls, crops, prior, batch_size, preview, mask=None, **guidance) -> io.NodeOutput:
        if preview not in PREVIEWS:
            raise InputError(
                f"preview must be one of {', '.join(PREVIEWS)}, got {preview!r}. Choose one of "
                "them."
            )
        guesses, _ = to_core(crops, "crops")
        settings = Guidance(**guidance, batch_size=batch_size).settings(prior.prior)
        if len(guesses):
            load_prior(prior, min(batch_size, len(guesses)))
        on_step = show_panels(progress(), PREVIEWS[preview])
        masks = None if mask is None else mask_to_core(mask)
        sampled = sample_targets(guesses, prior.prior, settings, masks=masks, on_step=on_step)
        return io.NodeOutput(to_comfy(sampled.targets), to_comfy(sampled.reference), sampled.report)


def axis_inputs(id: str, default: str, values: str, other: list[str]) -> list[io.Input]:
    """A swept parameter and its values."""
    place = "column" if id == "across" else "row"
    return [
        io.Combo.Input(
            id,
            display_name=id,
            options=[*sweep.PARAMETERS, *other],
            default=default,
            tooltip=f"The setting that changes from {place} to {place}, instead of its own "
            "slider's value.",
        ),
        io.String.Input(
            f"{id}_values",
            display_name=f"{id} values",
            default=values,
            tooltip="Its values, separated by commas. Each costs a whole sampling per "
            f"{'row' if id == 'across' else 'column'}.",
        ),
    ]


class SweepGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_SweepGuidance",
            display_name="Sweep Guidance",
            category=schemas.TARGETS,
            description="Samples one face with every combination of two settings, all from the "
            "same noise, and lays the results out in a labelled grid, with the likeness to the "
            "guess and the sharpness under each.",
            search_aliases=["xy plot", "grid search", "compare settings", "parameter sweep"],
            has_intermediate_output=True,
            inputs=[
                io.Image.Input(
                    "crops",
                    display_name="crops",
                    tooltip="The guess: restored faces, one of which is used.",
                ),
                schemas.Prior.Input("prior", display_name="prior", tooltip="From Load Prior."),
                *axis_inputs("across", "freedom", "0, 0.25, 0.5, 0.75, 1", []),
                *axis_inputs("down", "detail", "-1, 0, 1", [sweep.NOTHING]),
                io.Int.Input(
                    "face",
                    display_name="skip faces",
                    default=0,
                    min=0,
                    max=4095,
                    tooltip="Skips this many faces of the batch before face number counts. Older "
                    "workflows choose their face with it.",
                    advanced=True,
                ),
                *guidance_inputs(),
                *slider_inputs(),
                schemas.Detector.Input(
                    "detector",
                    display_name="detector",
                    optional=True,
                    tooltip="From Load Face Detector: also measures how far eyes, nose and "
                    "mouth have moved.",
                ),
                io.Int.Input(
                    "face_number",
                    display_name="face number",
                    default=1,
                    min=1,
                    max=4096,
                    optional=True,
                    tooltip="Which face of the batch: 1 is the first.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "grid",
                    display_name="grid",
                    tooltip="The labelled grid. A combination that cannot be sampled stays "
                    "empty and says why.",
                ),
                io.Image.Output(
                    "cells",
                    display_name="cells",
                    tooltip="The sampled faces alone, row by row, without the empty places.",
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="The figures of every cell; show it with Preview as Text.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        crops,
        prior,
        across,
        across_values,
        down,
        down_values,
        face,
        detector=None,
        face_number=1,
        **guidance,
    ) -> io.NodeOutput:
        guesses, _ = to_core(crops, "crops")
        number = face + face_number
        if number > len(guesses):
            raise InputError(
                f"face number must be at most the number of faces in crops, {len(guesses)}, got "
                f"{number}. Lower it."
            )
        guess = guesses[number - 1 : number]
        columns = sweep.read_axis(across, across_values)
        rows = sweep.read_axis(down, down_values)
        cells = sweep.plan(columns, rows, guidance, prior.prior)
        load_prior(prior, 1)
        faces = sweep.sample_cells(guess, prior.prior, cells, len(columns.values), progress())
        if detector is not None:
            memory.load(detector)
        recognizer = memory.load_recognizer()
        figures = sweep_results.measure(guess, faces, prior.prior, detector, recognizer)
        title = sweep.shared(columns, rows, guidance)
        grid = sweep_results.draw(faces, cells, figures, columns, rows, title)
        return io.NodeOutput(
            to_comfy(grid.picture),
            to_comfy(torch.cat([sampled for sampled in faces if sampled is not None])),
            sweep_results.report(cells, figures, title),
            ui=show(grid, sweep_results.about(cells, figures)),
        )
