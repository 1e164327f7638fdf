"""Shared parts of the nodes' schemas: menu folders, our own sockets and recurring inputs."""

from __future__ import annotations

from collections.abc import Sequence

from comfy_api.latest import io

from ..bfr.choices import COLOURS, NUMBERINGS

CATEGORY = "image/face restoration"  # in the node library, with a folder for each kind of work
RESTORE, TARGETS, TUNE = f"{CATEGORY}/restore", f"{CATEGORY}/targets", f"{CATEGORY}/tune"
MEASURE, EXAMPLES = f"{CATEGORY}/measure", f"{CATEGORY}/examples"

Detector = io.Custom("BFR_DETECTOR")
Parser = io.Custom("BFR_PARSER")
Recognizer = io.Custom("BFR_RECOGNIZER")
Faces = io.Custom("BFR_FACES")
Alignment = io.Custom("BFR_ALIGNMENT")
Prior = io.Custom("BFR_PRIOR")
Pairs = io.Custom("BFR_PAIRS")
Damage = io.Custom("BFR_DAMAGE")
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
    optional: bool = False,
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
        optional=optional,
    )


def score_input(advanced: bool | None = None) -> io.Float.Input:
    return slider(
        "score",
        "minimum score",
        0.5,
        "How sure the detector must be. Lower finds more faces in bad photographs, and more "
        "things that are not faces; higher keeps only clear ones.",
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


def numbering_input(advanced: bool | None = None) -> io.Combo.Input:
    return io.Combo.Input(
        "numbering",
        display_name="numbering",
        options=list(NUMBERINGS),
        default="rows",  # prompts that do not name it count by size, as they did
        optional=True,
        tooltip="How the faces are numbered. size: from the largest to the smallest. rows: row by "
        "row from the top, each from left to right, as people in a group photograph are named.",
        advanced=advanced,
    )


def mask_inputs(masks: Sequence[str], advanced: bool | None = None) -> list[io.Input]:
    """The inputs of blending faces back; shared by Paste Faces and Restore Photo."""
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
            "Width of the soft edge, as a share of the crop's side. Wider hides seams; narrower "
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


def grain_input(default: float) -> io.Float.Input:
    """The amount of grain on pasted faces; added later, so prompts without it get none."""
    return slider(
        "grain",
        "grain",
        default,
        "Gives the restored faces the grain of the photograph around them, so that they are not "
        "smooth in a grainy print. 0: none, 1: as much as around them.",
        optional=True,
    )


def recognizer_input(use: str) -> io.Input:
    """The network that tells persons apart; optional and last, because it was added later."""
    return Recognizer.Input(
        "recognizer",
        display_name="recognizer",
        optional=True,
        tooltip=f"From Load Face Recognizer: {use} Not connected: the embedded default.",
    )


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
