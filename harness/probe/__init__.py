"""A pack for the tests only: shows what ComfyUI keeps in memory and makes test inputs."""

from __future__ import annotations

import gc

import comfy.model_base
import comfy.model_management as model_management
import comfy.ops
import comfy.supported_models
import torch
from aiohttp import web
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import CoreModelPatcher
from comfy.sd1_clip import SD1ClipModel
from comfy_api.latest import ComfyExtension, io
from safetensors.torch import save_file
from server import PromptServer  # pyright: ignore[reportAttributeAccessIssue]

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


@PromptServer.instance.routes.get("/probe/managed")
async def managed(request):
    """Classes of the managed networks."""
    return web.json_response([type(m.model).__name__ for m in model_management.loaded_models()])


@PromptServer.instance.routes.get("/probe/loaded")
async def loaded(request):
    """Classes of the managed networks, and how many networks of ours are alive at all.

    Not while a prompt runs: Python fails to build a tuple that `gc.get_objects` has just seen.
    """
    gc.collect()
    names = [type(m.model).__name__ for m in model_management.loaded_models()]
    kinds = ("RetinaFace", "NAFNet", "UNet")
    alive = [type(o).__name__ for o in gc.get_objects() if type(o).__name__ in kinds]
    return web.json_response({"managed": names, "cached": alive})


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


class Noisy(torch.nn.Module):
    """Stands for a diffusion model: what it calls the noise follows from its input alone."""

    dtype = torch.float32

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.mix = torch.nn.Parameter(torch.randn(4, 4, generator=generator), requires_grad=False)

    def forward(self, x, timesteps, context=None, **others):
        return torch.einsum("oc,bchw->bohw", self.mix, x).tanh()


class ProbeModel(io.ComfyNode):
    """A MODEL of four-channel latents, and conditioning that it does not look at."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeModel",
            inputs=[],
            outputs=[io.Model.Output(), io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        config = comfy.supported_models.SD15({"disable_unet_model_creation": True})
        config.set_inference_dtype(torch.float32, None)
        model = comfy.model_base.BaseModel(config, device=torch.device("cpu"))
        model.diffusion_model = Noisy()
        devices = model_management.get_torch_device(), model_management.unet_offload_device()
        return io.NodeOutput(CoreModelPatcher(model, *devices), [[torch.zeros(1, 77, 768), {}]])


class ProbeLatent(io.ComfyNode):
    """A LATENT with coarse shapes."""

    @classmethod
    def define_schema(cls):
        sides = [io.Int.Input(name) for name in ("channels", "height", "width", "count")]
        return io.Schema(node_id="ProbeLatent", inputs=sides, outputs=[io.Latent.Output()])

    @classmethod
    def execute(cls, channels, height, width, count) -> io.NodeOutput:
        down, right = torch.linspace(0, 5, height), torch.linspace(0, 4, width)
        waves = torch.sin(down[:, None] + right + torch.arange(channels)[:, None, None])
        return io.NodeOutput({"samples": 5 * waves.repeat(count, 1, 1, 1)})


class ProbeDistance(io.ComfyNode):
    """The distance of two latents in the means of squares, as TEXT."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeDistance",
            inputs=[io.Latent.Input("one"), io.Latent.Input("other"), io.Int.Input("square")],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, one, other, square) -> io.NodeOutput:
        means = [
            torch.nn.functional.avg_pool2d(latent["samples"], square) for latent in (one, other)
        ]
        return io.NodeOutput(str(float((means[0] - means[1]).abs().mean())))


# Stable Diffusion 1.5.
UNET = {"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320}
UNET |= {"num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4], "num_heads": 8}
UNET |= {"transformer_depth": [1] * 6 + [0] * 2, "transformer_depth_middle": 1}
UNET |= {"transformer_depth_output": [1] * 9 + [0] * 3, "context_dim": 768}
UNET |= {"use_spatial_transformer": True, "legacy": False, "use_linear_in_transformer": False}
VAE = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3}
VAE |= {"ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": []}


def random_like(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Half-precision weights that keep the size of what passes through; vectors are constant."""
    if tensor.ndim < 2:
        return torch.ones(tensor.shape, dtype=torch.float16)
    few = torch.randn(min(tensor.numel(), 1 << 20), generator=generator)
    times = -(-tensor.numel() // len(few))
    values = few.repeat(times)[: tensor.numel()].reshape(tensor.shape)
    return (values * tensor[0].numel() ** -0.5).half()


class ProbeCheckpoint(io.ComfyNode):
    """Writes a checkpoint of Stable Diffusion 1.5 at its full size, 2.1 GB, of random weights."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeCheckpoint",
            inputs=[io.String.Input("path")],
            outputs=[io.String.Output()],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, path) -> io.NodeOutput:
        generator, state = torch.Generator().manual_seed(0), {}
        operations = comfy.ops.disable_weight_init
        with torch.device("meta"):
            unet = UNetModel(**UNET, dtype=torch.float16, operations=operations)
            parts = {
                "model.diffusion_model": unet,
                "first_stage_model": AutoencoderKL(ddconfig={**VAE, "dropout": 0.0}, embed_dim=4),
                "cond_stage_model": SD1ClipModel(device="meta").clip_l,
            }
        for name, part in parts.items():
            for key, tensor in part.state_dict().items():
                state[f"{name}.{key}"] = random_like(tensor, generator)
        save_file(state, path)
        return io.NodeOutput(str(len(state)))


class ProbeExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [ProbeFaceLandmarks, ProbeModel, ProbeLatent, ProbeDistance, ProbeCheckpoint]


async def comfy_entrypoint() -> ProbeExtension:
    return ProbeExtension()
