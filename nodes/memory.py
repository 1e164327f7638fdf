"""Networks under ComfyUI's memory management; progress and interrupt."""

from __future__ import annotations

from dataclasses import dataclass

import comfy.model_management as model_management
import comfy.utils
from comfy.model_patcher import CoreModelPatcher, ModelPatcher
from PIL import Image
from spandrel import ImageModelDescriptor
from torch import Tensor, nn

from ..bfr.prior import Prior
from ..bfr.records import OnStep

_PREVIEW_SIDE = 512
_FACE_BYTES = 6 * 64 * 512 * 512 * 4  # six float32 layers of 64 channels at 512 px
_PRIOR_LAYERS = 16  # a U-Net holds some 12 layers as large as its first one; measured
_SEARCH_BYTES = 8 * 16 * 1600 * 1600 * 4  # eight of 16 channels at the largest search size


def manage(network: nn.Module) -> ModelPatcher:
    """Hands a network to ComfyUI, which from now on decides where its weights lie."""
    return CoreModelPatcher(
        network,
        load_device=model_management.get_torch_device(),
        offload_device=model_management.unet_offload_device(),
    )


@dataclass(frozen=True, slots=True)
class ManagedPrior:
    """A prior whose network ComfyUI manages; the ``BFR_PRIOR`` socket."""

    prior: Prior
    patcher: ModelPatcher


def manage_prior(prior: Prior) -> ManagedPrior:
    """Hands a prior's network to ComfyUI."""
    return ManagedPrior(prior, manage(prior.network))


def restorer_patcher(restorer: ImageModelDescriptor) -> ModelPatcher:
    """The patcher of an UPSCALE_MODEL, which ComfyUI's own loader keeps as ``.patcher``."""
    patcher = getattr(restorer, "patcher", None)
    if patcher is None:
        patcher = restorer.patcher = manage(restorer.model)  # pyright: ignore[reportAttributeAccessIssue]
    return patcher


def load(*patchers: ModelPatcher, faces: int = 0, needed: int = 0) -> None:
    """Moves networks to the computing device, making room for the work to come.

    Args:
        patchers: the networks.
        faces: how many go through a restorer or parser at once.
        needed: bytes that other work needs, which comes after that.
    """
    needed = max(needed, _SEARCH_BYTES + faces * _FACE_BYTES)
    model_management.load_models_gpu(patchers, memory_required=needed, force_full_load=True)


def sampling_bytes(prior: Prior, faces: int) -> int:
    """The memory that a prior needs beside its weights, for as many faces at once."""
    first = next(m for m in prior.network.modules() if isinstance(m, nn.Conv2d))
    channels = 3 * first.out_channels / first.in_channels  # a pixel, if pixels are folded or not
    return int(4 * faces * prior.size**2 * channels * _PRIOR_LAYERS)


def progress() -> OnStep:
    """A callback for the core that moves the node's progress bar and obeys Cancel.

    A preview, if the core sends one, is shown on the node (its first image).
    """
    bar = comfy.utils.ProgressBar(1)

    def on_step(done: int, total: int, preview: Tensor | None = None) -> None:
        model_management.throw_exception_if_processing_interrupted()
        image = None
        if preview is not None:
            picture = _to_pil(preview[0])
            side = _PREVIEW_SIDE * max(1, picture.width // picture.height)
            image = ("JPEG", picture, min(side, max(picture.size)))
        bar.update_absolute(done, total, image)

    return on_step


def _to_pil(image: Tensor) -> Image.Image:
    pixels = image.movedim(0, -1).mul(255).round().clamp(0, 255).byte()
    return Image.fromarray(pixels.cpu().numpy())
