"""What the nodes' schemas share: the category, our own sockets and recurring inputs."""

from __future__ import annotations

from comfy_api.latest import io

from ..bfr.errors import InputError

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


def check_choice(name: str, value: str, choices: tuple[str, ...] | list[str]) -> None:
    """Refuses a combo value that is not in the list (a linked one is not checked by ComfyUI).

    Raises:
        InputError: naming the valid choices.
    """
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}; got {value!r}.")
