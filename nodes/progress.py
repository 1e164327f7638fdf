"""The node's progress bar and Cancel, as callbacks for the core."""

from __future__ import annotations

import comfy.model_management as model_management
import comfy.utils
from PIL import Image
from torch import Tensor

from ..bfr.errors import CancelledError
from ..bfr.image.tensors import to_uint8
from ..bfr.records import OnStep

_PREVIEW_SIDE = 512


def saving_progress() -> OnStep:
    """`progress`, with Cancel as the core's own, which saves and gives what there is so far."""
    tell = progress()

    def on_step(done: int, total: int, preview: Tensor | None = None) -> None:
        try:
            tell(done, total, preview)
        except model_management.InterruptProcessingException as interrupt:
            raise CancelledError("It was cancelled in ComfyUI.") from interrupt

    return on_step


def progress() -> OnStep:
    """A callback for the core that moves the node's progress bar and obeys Cancel.

    A preview, if the core sends one, is shown on the node (its first image).
    """
    bar = comfy.utils.ProgressBar(1)

    def on_step(done: int, total: int, preview: Tensor | None = None) -> None:
        model_management.throw_exception_if_processing_interrupted()
        image = None
        if preview is not None:
            picture = Image.fromarray(to_uint8(preview[:1])[0])
            side = _PREVIEW_SIDE * max(1, picture.width // picture.height)
            image = ("JPEG", picture, min(side, max(picture.size)))
        bar.update_absolute(done, total, image)

    return on_step
