"""Before and after under one slider, which web/compare.js draws."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from comfy_api.latest import io, ui
from torch import Tensor

from ..bfr.errors import InputError
from . import schemas
from .convert import to_comfy, to_core

MOST_SHOWN = 64  # pairs that the editor is given to leaf through


def at_size(images: Tensor, height: int, width: int) -> Tensor:
    """B×3×H×W resized, in [0, 1]; as they are if they have that size."""
    if images.shape[-2:] == (height, width) or not len(images):
        return images
    size = (height, width)
    return F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)


class CompareImages(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_CompareImages",
            display_name="Compare Before and After",
            category=schemas.MEASURE,
            description="Shows two versions of a picture under one slider, at one size, in both "
            "renderings of the editor. Page through the pairs of a batch.",
            search_aliases=["image compare", "before after", "slider", "side by side"],
            is_output_node=True,
            has_intermediate_output=True,
            inputs=[
                io.Image.Input(
                    "before", display_name="before", tooltip="The picture on the slider's left."
                ),
                io.Image.Input(
                    "after",
                    display_name="after",
                    tooltip="The picture on the slider's right: as many as before, of any size. "
                    "Both are shown at its size.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "side_by_side",
                    display_name="side by side",
                    tooltip="Each pair side by side, at one size.",
                )
            ],
        )

    @classmethod
    def execute(cls, before, after) -> io.NodeOutput:
        old, new = to_core(before, "before")[0], to_core(after, "after")[0]
        if len(old) != len(new):
            raise InputError(
                f"before and after must hold as many pictures, got {len(old)} and {len(new)}. "
                "Connect the same batch before and after your change."
            )
        height, width = new.shape[-2:]
        old = at_size(old, height, width)
        versions = [
            ui.PreviewImage(to_comfy(images[:MOST_SHOWN])).values if len(images) else []
            for images in (old, new)
        ]
        pairs = [{"before": left, "after": right} for left, right in zip(*versions, strict=True)]
        shown = {"pairs": pairs, "width": width, "height": height}
        return io.NodeOutput(to_comfy(torch.cat([old, new], 3)), ui={"bfr_compare": [shown]})
