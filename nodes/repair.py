"""The node that repairs scratched prints."""

from __future__ import annotations

from comfy_api.latest import io

from ..bfr.faces.retinaface import load_detector
from ..bfr.restore.load import load_restorer
from ..bfr.restore.repair import repair_scratches
from . import memory, schemas
from .convert import mask_to_core, to_comfy, to_core


class RepairScratches(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_RepairScratches",
            display_name="Repair Scratches",
            category=schemas.RESTORE,
            description="Fills the masked parts of a photograph from around them; in faces, the "
            "restorer says what belongs there. Nothing else changes. Put Restore Photo behind it.",
            search_aliases=["scratch", "inpaint", "old photo", "remove dust", "crease"],
            inputs=[
                io.Image.Input("image", display_name="image", tooltip="Photograph or batch."),
                io.Mask.Input(
                    "mask",
                    display_name="mask",
                    tooltip="What to repair: painted in the mask editor, or from another node. It "
                    "has the size of the photograph; an unpainted one changes nothing.",
                ),
                schemas.slider(
                    "grain",
                    "grain",
                    1.0,
                    "Gives what is filled the grain of the photograph. 0: smooth.",
                ),
                io.UpscaleModel.Input(
                    "restorer",
                    display_name="restorer",
                    optional=True,
                    tooltip="From Load Restorer. Not connected: the embedded default.",
                ),
                schemas.Detector.Input(
                    "detector",
                    display_name="detector",
                    optional=True,
                    tooltip="From Load Face Detector. Not connected: the embedded default.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "repaired_image", display_name="image", tooltip="The repaired photograph."
                ),
            ],
        )

    @classmethod
    def execute(cls, image, mask, grain, restorer=None, detector=None) -> io.NodeOutput:
        images, alpha = to_core(image)
        masks = mask_to_core(mask)
        if not masks.any():
            return io.NodeOutput(image)
        if len(masks) == 1:
            masks = masks.expand(len(images), -1, -1, -1)
        detector = detector or memory.manage_detector(load_detector())
        restorer = memory.manage_restorer(restorer or load_restorer())
        memory.load(detector, restorer, faces=8)
        repaired = repair_scratches(
            images, masks, detector, restorer, grain=grain, on_step=memory.progress()
        )
        return io.NodeOutput(to_comfy(repaired, alpha))
