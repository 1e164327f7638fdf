"""The nodes that find and repair the scratches of prints."""

from __future__ import annotations

from comfy_api.latest import io

from ..bfr.faces.retinaface import load_detector
from ..bfr.restore.load import load_restorer
from ..bfr.restore.repair import repair_scratches
from ..bfr.restore.scratches import MIN_SIZE, find_scratches, mark_scratches
from . import memory, schemas
from .convert import mask_to_comfy, mask_to_core, to_comfy, to_core
from .progress import progress


class FindScratches(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_FindScratches",
            display_name="Find Scratches",
            category=schemas.RESTORE,
            description="Marks the scratches, folds, tears, dust and fibres of a photograph, for "
            "Repair Scratches or any inpainting.",
            search_aliases=["scratch mask", "scratch detection", "dust", "crease", "old photo"],
            inputs=[
                io.Image.Input("image", display_name="image", tooltip="Photograph or batch."),
                schemas.slider(
                    "sensitivity",
                    "sensitivity",
                    0.5,
                    "Higher finds fainter scratches, and more that are not: wires, hair, folds in "
                    "clothes. 0: only the surest.",
                ),
                io.Float.Input(
                    "min_size",
                    display_name="minimum size",
                    default=MIN_SIZE,
                    min=0.0,
                    max=1000.0,
                    step=1.0,
                    tooltip="Scratches shorter than this many pixels, such as specks, are ignored.",
                ),
                io.Int.Input(
                    "grow",
                    display_name="grow",
                    default=2,
                    min=0,
                    max=64,
                    tooltip="Widens each scratch by this many pixels, so that its soft edge is "
                    "repaired, too.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.Mask.Output(
                    "mask", display_name="mask", tooltip="The scratches, for Repair Scratches."
                ),
                io.Image.Output(
                    "overlay",
                    display_name="overlay",
                    tooltip="The image with its scratches in red.",
                ),
            ],
        )

    @classmethod
    def execute(cls, image, sensitivity, min_size, grow) -> io.NodeOutput:
        images, _ = to_core(image)
        masks = find_scratches(
            images,
            memory.load_scratch_finder(),
            sensitivity=sensitivity,
            min_size=min_size,
            grow=grow,
            on_step=progress(),
        )
        overlay = to_comfy(mark_scratches(images, masks))
        return io.NodeOutput(mask_to_comfy(masks), overlay)


class RepairScratches(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_RepairScratches",
            display_name="Repair Scratches",
            category=schemas.RESTORE,
            description="Fills the masked parts of a photograph from around them; in faces, the "
            "restorer decides what belongs there. Nothing else changes. Put Restore Photo after "
            "it.",
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
            images, masks, detector, restorer, grain=grain, on_step=progress()
        )
        return io.NodeOutput(to_comfy(repaired, alpha))
