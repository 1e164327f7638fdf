"""What the nodes' schemas share: the menu's folders, our own sockets and recurring inputs."""

from __future__ import annotations

from collections.abc import Sequence

from comfy_api.latest import io

from ..bfr.choices import COLOURS, SAMPLERS

CATEGORY = "image/face restoration"  # in the node library, with a folder for each kind of work
RESTORE, TARGETS, TUNE = f"{CATEGORY}/restore", f"{CATEGORY}/targets", f"{CATEGORY}/tune"
MEASURE, EXAMPLES = f"{CATEGORY}/measure", f"{CATEGORY}/examples"
STEPS = 250  # into which the paper divides the noise

Detector = io.Custom("BFR_DETECTOR")
Parser = io.Custom("BFR_PARSER")
Faces = io.Custom("BFR_FACES")
Alignment = io.Custom("BFR_ALIGNMENT")
Prior = io.Custom("BFR_PRIOR")
Pairs = io.Custom("BFR_PAIRS")
FaceLandmarks = io.Custom("FACE_LANDMARKS")  # the core's MediaPipe nodes


def slider(
    id: str,
    display_name: str,
    default: float,
    tooltip: str,
    *,
    low: float = 0.0,
    high: float = 1.0,
    step: float = 0.01,
    advanced: bool | None = None,
) -> io.Float.Input:
    """A FLOAT input drawn as a slider."""
    return io.Float.Input(
        id,
        display_name=display_name,
        default=default,
        min=low,
        max=high,
        step=step,
        display_mode=io.NumberDisplay.slider,
        tooltip=tooltip,
        advanced=advanced,
    )


def step_slider(id: str, display_name: str, default: int, low: int, tooltip: str) -> io.Int.Input:
    """An INT input for a sampling step, drawn as a slider."""
    return io.Int.Input(
        id,
        display_name=display_name,
        default=default,
        min=low,
        max=STEPS,
        display_mode=io.NumberDisplay.slider,
        tooltip=tooltip,
    )


def score_input(advanced: bool | None = None) -> io.Float.Input:
    return slider(
        "score",
        "minimum score",
        0.5,
        "How sure the detector must be. Lower finds more faces in bad photographs, and more "
        "things that are none; higher keeps only clear ones.",
        low=0.05,
        advanced=advanced,
    )


def min_size_input(advanced: bool | None = None) -> io.Int.Input:
    return io.Int.Input(
        "min_size",
        display_name="minimum size",
        default=0,
        min=0,
        max=8192,
        tooltip="Faces whose box is smaller than this many pixels (longer side) are left alone.",
        advanced=advanced,
    )


def mask_inputs(masks: Sequence[str], advanced: bool | None = None) -> list[io.Input]:
    """How faces are blended back; shared by Paste Faces and Restore Photo."""
    auto = " auto: parsing if a parser is connected, else soft oval." if "auto" in masks else ""
    return [
        io.Combo.Input(
            "mask_mode",
            display_name="mask",
            options=list(masks),
            default=masks[0],
            tooltip="What is pasted. soft oval: a face-shaped area that fades out. square: the "
            "whole crop with soft edges, hair and background included. parsing: the outline "
            f"that the face parser finds (connect one).{auto}",
            advanced=advanced,
        ),
        slider(
            "feather",
            "feather",
            0.1,
            "Width of the soft edge, as a part of the crop's side. Wider hides seams; narrower "
            "keeps more of the restored face.",
            high=0.5,
            advanced=advanced,
        ),
        io.Combo.Input(
            "colour_match",
            display_name="colour match",
            options=list(COLOURS),
            default=COLOURS[0],
            tooltip="Brings the restored face to the photograph's colours. low frequency: takes "
            "the broad colours and shading of the photograph. lab: matches mean and spread of "
            "each colour channel. none: leaves the restorer's colours.",
            advanced=advanced,
        ),
    ]


def seed_input(tooltip: str) -> io.Int.Input:
    return io.Int.Input(
        "seed",
        display_name="seed",
        default=0,
        min=0,
        max=2**64 - 1,
        control_after_generate=io.ControlAfterGenerate.fixed,
        tooltip=tooltip,
    )


def factor_input(default: int, tooltip: str) -> io.Int.Input:
    return io.Int.Input(
        "factor",
        display_name="low-pass factor",
        default=default,
        min=1,
        max=64,
        tooltip=tooltip,
    )


def strength_input() -> io.Float.Input:
    return slider(
        "strength",
        "strength",
        1.0,
        "How firmly the coarse shapes are held. 1: they are replaced, as in the paper. Lower: "
        "the model may bend them. 0: not at all, the face drifts towards somebody else's.",
    )


def guidance_inputs() -> list[io.Input]:
    """How a pseudo target is sampled; shared by all nodes that sample some."""
    return [
        step_slider(
            "start",
            "start",
            150,
            2,
            "How far the guess is dissolved into noise before it is painted anew, in steps of "
            "250. Higher: more repair and new detail, less likeness. Lower: stays closer to the "
            "guess, its faults included.",
        ),
        step_slider(
            "stop",
            "stop",
            90,
            0,
            "Down to which step the guess holds the coarse shapes; below it the prior paints "
            "freely. Higher: more natural detail, less likeness. Lower: the shapes hold longer, "
            "and so do the guess's blotches. It must be below start.",
        ),
        factor_input(
            8,
            "How coarse the held shapes are: what survives shrinking the face this many times. "
            "Higher: more freedom, less likeness. The paper takes 8, and 16 after SwinIR. It "
            "must divide the prior's size: 2, 4, 8, 16 or 32.",
        ),
        strength_input(),
        io.Combo.Input(
            "sampler",
            display_name="sampler",
            options=list(SAMPLERS),
            default=SAMPLERS[0],
            tooltip="How the noise is taken away. ddpm: the paper's, with fresh noise at every "
            "step, for all calls. ddim, dpm-solver++ and unipc take large steps: choose one of "
            "them with few network calls.",
        ),
        io.Int.Input(
            "calls",
            display_name="network calls",
            default=0,
            min=0,
            max=STEPS,
            tooltip="How often the network looks at each face. 0: at every step from start, as "
            "in the paper. Fewer is quicker and coarser; 25 with dpm-solver++ comes close.",
        ),
        seed_input(
            "Draws the noise, and with it the invented detail: another seed, other "
            "hairs and pores on the same face. Face number n of a batch uses seed + n."
        ),
        slider(
            "eta",
            "eta",
            0.0,
            "Fresh noise at every step of the ddim sampler: 0 none, smoother faces; 1 as much "
            "as ddpm, more texture. Other samplers take none of it.",
            advanced=True,
        ),
        io.Int.Input(
            "steps",
            display_name="steps",
            default=STEPS,
            min=10,
            max=1000,
            tooltip="Into how many steps the prior's whole noise is divided; start and stop "
            "count in them. Leave it at the paper's 250 to compare settings with others.",
            advanced=True,
        ),
        io.Boolean.Input(
            "suit_prior",
            display_name="suit the prior",
            default=True,
            tooltip="start, stop and low-pass factor are meant for faces of 512 px, as in the "
            "paper. On: for a prior of another size they are changed so that as much of the face "
            "is forgotten and held; the report says to what. Off: they are taken as they are.",
            advanced=True,
        ),
    ]


def sampled_at_once_input() -> io.Int.Input:
    return io.Int.Input(
        "batch_size",
        display_name="batch size",
        default=4,
        min=1,
        max=64,
        tooltip="Faces sampled at once; the result does not depend on it. It is halved by "
        "itself when memory runs out.",
        advanced=True,
    )
