"""The nodes between a photograph and its aligned faces: align, paste."""

from __future__ import annotations

from comfy_api.latest import io

from ..bfr.choices import MASKS
from ..bfr.errors import InputError
from ..bfr.faces.align import align_faces
from ..bfr.faces.detect import detect_faces
from ..bfr.faces.paste import paste_faces
from ..bfr.faces.retinaface import load_detector
from ..bfr.image.tensors import size_in_words
from ..bfr.records import counted
from . import memory, schemas
from .convert import mask_to_comfy, to_comfy, to_core, to_face_set
from .in_front import keep_in_front_input, split_parser
from .progress import progress


class AlignFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_AlignFaces",
            display_name="Align Faces",
            category=schemas.RESTORE,
            description="Cuts out each face, upright and centred (FFHQ 5-point template) as "
            "restorers expect. Stock image nodes can work on the crops before Paste Faces.",
            search_aliases=["face crop", "face alignment", "ffhq align", "crop faces"],
            inputs=[
                io.Image.Input(
                    "image",
                    display_name="image",
                    tooltip="The photograph the faces were found in.",
                ),
                io.MultiType.Input(
                    "faces",
                    types=[schemas.Faces, schemas.FaceLandmarks],
                    display_name="faces",
                    optional=True,
                    tooltip="From Detect Faces or Select Faces, or the face landmarks of the "
                    "core's Detect Face Landmarks (MediaPipe). Not connected: all faces that the "
                    "embedded detector finds.",
                ),
                io.Int.Input(
                    "size",
                    display_name="crop size",
                    default=512,
                    min=64,
                    max=2048,
                    step=64,
                    tooltip="Side of the crops in pixels. 512 suits published restorers; "
                    "Restore Faces resizes to the network's own size and back anyway.",
                ),
                io.Boolean.Input(
                    "need_faces",
                    display_name="stop without a face",
                    default=True,
                    optional=True,
                    tooltip="Stops with a message if no image has a face. Off: passes on an empty "
                    "batch, and Paste Faces returns the images unchanged.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.Image.Output(
                    "crops",
                    display_name="crops",
                    tooltip="One upright crop per face.",
                ),
                schemas.Alignment.Output(
                    "alignment",
                    display_name="alignment",
                    tooltip="Where each crop came from, for Paste Faces.",
                ),
            ],
        )

    @classmethod
    def execute(cls, image, size, need_faces=False, faces=None) -> io.NodeOutput:
        images, _ = to_core(image)
        if faces is None:
            memory.load(detector := memory.manage_detector(load_detector()))
            faces = detect_faces(images, detector, on_step=progress())
        found = to_face_set(faces)
        if need_faces and not found.count:
            raise InputError(
                f"There must be a face to align, got none in {counted(len(images), 'image')} of "
                f"{size_in_words(*images.shape[-2:])}. Lower the minimum score of Detect Faces, "
                "turn the photograph upright, paint the mask over a face, or turn 'stop without a "
                "face' off."
            )
        crops, alignment = align_faces(images, found, size)
        return io.NodeOutput(to_comfy(crops), alignment)


class PasteFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_PasteFaces",
            display_name="Paste Faces",
            category=schemas.RESTORE,
            description="Blends restored crops back into the photograph, or into an upscaled "
            "version of it. Pixels outside the mask stay exactly as they were.",
            search_aliases=[
                "paste back",
                "uncrop faces",
                "face composite",
                "blend faces",
                "face mask",
            ],
            inputs=[
                io.Image.Input(
                    "image",
                    display_name="image",
                    tooltip="The photograph, or the same photograph upscaled by any factor.",
                ),
                io.Image.Input(
                    "crops",
                    display_name="crops",
                    tooltip="The restored crops, in the order of Align Faces.",
                ),
                schemas.Alignment.Input(
                    "alignment", display_name="alignment", tooltip="From Align Faces."
                ),
                *schemas.mask_inputs(MASKS),
                schemas.slider(
                    "strength",
                    "strength",
                    1.0,
                    "How much of the restored face is blended in: 0 leaves the photograph as "
                    "it was, 1 replaces the face.",
                ),
                schemas.Parser.Input(
                    "parser",
                    display_name="parser",
                    optional=True,
                    tooltip="From Load Face Parser; needed by the mask 'parsing' only.",
                ),
                schemas.grain_input(0.0),
                keep_in_front_input(),
            ],
            outputs=[
                io.Image.Output(
                    "pasted_image", display_name="image", tooltip="The finished photograph."
                ),
                io.Mask.Output(
                    "face_mask", display_name="mask", tooltip="Where faces were blended in."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image,
        crops,
        alignment,
        mask_mode,
        feather,
        colour_match,
        strength,
        parser=None,
        grain=0.0,
        keep_in_front=False,
    ) -> io.NodeOutput:
        images, alpha = to_core(image)
        crops, _ = to_core(crops, "crops")
        parser, occlusion = split_parser(parser, keep_in_front)
        parser = parser if mask_mode == "parsing" else None
        if parser or occlusion:
            memory.load(parser, occlusion, faces=len(crops))
        images, masks = paste_faces(
            images,
            crops,
            alignment,
            mask=mask_mode,
            parser=parser,
            feather=feather,
            colour=colour_match,
            strength=strength,
            grain=grain,
            in_front=occlusion,
        )
        return io.NodeOutput(to_comfy(images, alpha), mask_to_comfy(masks))
