"""What the nodes' schemas share: the category, our own sockets and recurring inputs."""

from __future__ import annotations

from collections.abc import Sequence

from comfy_api.latest import io

from ..bfr.colour import METHODS

CATEGORY = "image/face restoration"

Detector = io.Custom("BFR_DETECTOR")
Parser = io.Custom("BFR_PARSER")
Faces = io.Custom("BFR_FACES")
Alignment = io.Custom("BFR_ALIGNMENT")
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
            options=list(METHODS),
            default=METHODS[0],
            tooltip="Brings the restored face to the photograph's colours. low frequency: takes "
            "the broad colours and shading of the photograph. lab: matches mean and spread of "
            "each colour channel. none: leaves the restorer's colours.",
            advanced=advanced,
        ),
    ]
