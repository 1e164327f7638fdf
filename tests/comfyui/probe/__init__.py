"""A pack for the tests only: shows what ComfyUI keeps in memory and makes test inputs."""

from __future__ import annotations

import gc

import comfy.model_management as model_management
import torch
from aiohttp import web
from comfy_api.latest import ComfyExtension, io
from server import PromptServer  # pyright: ignore[reportAttributeAccessIssue]

import nodes

# The points our conversion reads, as they lie in MediaPipe's canonical face (x right, y up).
CANONICAL = {
    33: (-4.445859, 2.663991),
    133: (-1.856432, 2.585245),
    159: (-3.180527, 3.051022),
    145: (-3.146560, 2.334650),
    362: (1.856432, 2.585245),
    263: (4.445859, 2.663991),
    386: (3.180527, 3.051022),
    374: (3.146560, 2.334650),
    1: (0.0, -1.126865),
    61: (-2.456206, -4.342621),
    291: (2.456206, -4.342621),
}


@PromptServer.instance.routes.get("/probe/loaded")
async def loaded(request):
    """Classes of the managed networks, and how many networks of ours are alive at all."""
    gc.collect()
    names = [type(m.model).__name__ for m in model_management.loaded_models()]
    kinds = ("RetinaFace", "NAFNet")
    alive = [type(o).__name__ for o in gc.get_objects() if type(o).__name__ in kinds]
    return web.json_response({"managed": names, "cached": alive})


@PromptServer.instance.routes.get("/probe/schemas")
async def schemas(request):
    """Ids and types of inputs and outputs of our nodes; /object_info lacks the outputs' ids."""
    known = getattr(nodes, "NODE_CLASS_" + "MAPPINGS")
    found = {}
    for node_id in sorted(key for key in known if key.startswith("BFR_")):
        schema = known[node_id].GET_SCHEMA()
        found[node_id] = {
            "inputs": {item.id: item.get_io_type() for item in schema.inputs},
            "outputs": [[item.id, item.get_io_type()] for item in schema.outputs],
        }
    return web.json_response(found)


class ProbeFaceLandmarks(io.ComfyNode):
    """FACE_LANDMARKS of one upright face at a given place, as the MediaPipe node gives them."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeFaceLandmarks",
            inputs=[
                io.Image.Input("image"),
                io.Float.Input("x"),
                io.Float.Input("y"),
                io.Float.Input("eye_distance"),
            ],
            outputs=[io.Custom("FACE_LANDMARKS").Output()],
        )

    @classmethod
    def execute(cls, image, x, y, eye_distance) -> io.NodeOutput:
        scale = eye_distance / 6.3
        mesh = torch.zeros(478, 2)
        for index, (px, py) in CANONICAL.items():
            mesh[index] = torch.tensor([x + scale * px, y - scale * py])
        box = (x - eye_distance, y - eye_distance, x + eye_distance, y + 1.5 * eye_distance)
        face = {"landmarks_xy": mesh.numpy(), "bbox_xyxy": torch.tensor(box).numpy(), "score": 0.9}
        frames = [[face] for _ in image]
        size = (image.shape[1], image.shape[2])
        return io.NodeOutput({"frames": frames, "image_size": size, "connection_sets": {}})


class ProbeExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [ProbeFaceLandmarks]


async def comfy_entrypoint() -> ProbeExtension:
    return ProbeExtension()
