"""Saved workflows of other packs opened with our nodes.

ComfyUI offers these where a workflow names nodes that are not installed. What our node needs and
the other did not have gets our default.
"""

from __future__ import annotations

from typing import Any

from comfy_api.latest import ComfyAPI, io

from ..bfr.restore.load import load_restorer
from . import memory, schemas
from .align import AlignFaces
from .folders import fingerprint
from .loaders import LoadRestorer
from .restore import RestorePhoto
from .weights import chosen_file, download_input, name_input

AS_LARGE = {"enlarge": "1", "grain": 0.0}  # as other packs give the photograph back


class RestorePhotoWith(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_RestorePhotoWith",
            display_name="Restore Photo with Model",
            category=schemas.RESTORE,
            description="Restore Photo with the restorer chosen on the node itself, as in other "
            "packs. Restore Photo offers more settings.",
            search_aliases=["reactor restore face", "restore face", "gfpgan", "codeformer", "gpen"],
            inputs=[
                io.Image.Input("image", display_name="image", tooltip="Photograph or batch."),
                name_input("restorer_name", "restorer", "restorer", embedded=True),
                schemas.slider(
                    "strength",
                    "strength",
                    1.0,
                    "Blends between the damaged face (0) and the restored one (1).",
                ),
                schemas.slider(
                    "fidelity",
                    "fidelity",
                    0.5,
                    "For CodeFormer: 0 gives the best looking face, 1 stays closest to the "
                    "damaged one. Others ignore it.",
                ),
                download_input(),
            ],
            outputs=[
                io.Image.Output(
                    "restored_image", display_name="image", tooltip="The restored photograph."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, restorer_name, **others):
        return fingerprint("restorer", restorer_name)

    @classmethod
    def execute(cls, image, restorer_name, strength, fidelity, download) -> io.NodeOutput:
        path = chosen_file("restorer", restorer_name, download)
        given = {**defaults(RestorePhoto), **AS_LARGE, "strength": strength, "fidelity": fidelity}
        restorer = memory.manage_restorer(load_restorer(path))
        restored = RestorePhoto.execute(image=image, restorer=restorer, **given)
        return io.NodeOutput(restored.args[0])


def defaults(node: type[io.ComfyNode]) -> dict[str, Any]:
    """The values that a new node of that class has, by the ids of its inputs."""
    slots = node.define_schema().inputs
    values = {slot.id: getattr(slot, "default", None) for slot in slots}
    return {id: value for id, value in values.items() if value is not None}


def replace(
    old_id: str, node: type[io.ComfyNode], widgets: list[str], taken: dict[str, str], **fixed: Any
) -> io.NodeReplace:
    """The rule that turns a node of another pack into one of ours.

    Args:
        old_id: its class.
        node: ours.
        widgets: the ids of its widgets, in their order.
        taken: the ids of our inputs that take the values of its own.
        fixed: values of our inputs that are not our defaults.
    """
    values = {id: value for id, value in (defaults(node) | fixed).items() if id not in taken}
    mapping = [{"new_id": new, "old_id": old} for new, old in taken.items()]
    mapping += [{"new_id": id, "set_value": value} for id, value in values.items()]
    return io.NodeReplace(
        new_node_id=node.define_schema().node_id,
        old_node_id=old_id,
        old_widget_ids=widgets,
        input_mapping=mapping,  # outputs keep their places: ComfyUI cannot map a chain of them
    )


def known() -> list[io.NodeReplace]:
    """The nodes of facerestore, facerestore_cf and ReActor that restore or cut out faces."""
    reactor = ["facedetection", "model", "visibility", "codeformer_weight"]
    named = {
        "image": "image",
        "restorer_name": "model",
        "strength": "visibility",
        "fidelity": "codeformer_weight",
    }
    more = ["face_selection", "sort_by", "reverse_order", "take_start", "take_count"]
    with_model = {
        "image": "image",
        "restorer": "facerestore_model",
        "fidelity": "codeformer_fidelity",
    }
    return [
        replace(
            "FaceRestoreModelLoader", LoadRestorer, ["model_name"], {"restorer_name": "model_name"}
        ),
        replace(
            "FaceRestoreCFWithModel",
            RestorePhoto,
            ["facedetection", "codeformer_fidelity"],
            with_model,
            **AS_LARGE,
        ),
        replace(
            "FaceRestoreWithModel",
            RestorePhoto,
            ["facedetection"],
            {"image": "image", "restorer": "facerestore_model"},
            **AS_LARGE,
        ),
        replace("CropFace", AlignFaces, ["facedetection"], {"image": "image"}, need_faces=False),
        replace("ReActorRestoreFace", RestorePhotoWith, reactor, named),
        replace("ReActorRestoreFaceAdvanced", RestorePhotoWith, reactor + more, named),
    ]


async def register_replacements() -> None:
    """Tells ComfyUI of all of them."""
    for replacement in known():
        await ComfyAPI().node_replacement.register(replacement)
