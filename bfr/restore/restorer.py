"""Face restorers: any that spandrel knows, with the calling convention each was published with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from spandrel import (
    MAIN_REGISTRY,
    ArchRegistry,
    ImageModelDescriptor,
    ModelLoader,
    UnsupportedModelError,
)
from torch import Tensor, nn

from ..errors import (
    CorruptWeightsError,
    InputError,
    MissingPackageError,
    WeightsError,
    WrongArchitectureError,
)
from ..files.manifest import EMBEDDED_DIR
from ..files.weights import read_state_dict
from ..image.lowpass import lowpass
from ..image.tensors import check_images, resize_square
from ..records import OnStep
from ..runtime.memory import Parts

EMBEDDED_RESTORER = EMBEDDED_DIR / "restorer.safetensors"

Call = Callable[[nn.Module, Tensor, float], Tensor]


@dataclass(frozen=True, slots=True)
class Convention:
    """How the networks of one architecture are used.

    Attributes:
        size: side in pixels of the faces they were trained on; None for any.
        call: ``call(network, faces, fidelity)``, faces and result B×3×H×W in [0, 1].
    """

    size: int | None
    call: Call


def _plain(network: nn.Module, faces: Tensor, fidelity: float) -> Tensor:
    return network(faces)


def _gfpgan(network: nn.Module, faces: Tensor, fidelity: float) -> Tensor:
    # The stored noise instead of new: the same face gives the same result, in any batch.
    return network(faces * 2 - 1, return_rgb=False, randomize_noise=False)[0] / 2 + 0.5


def _restoreformer(network: nn.Module, faces: Tensor, fidelity: float) -> Tensor:
    return network(faces * 2 - 1)[0] / 2 + 0.5


def _codeformer(network: nn.Module, faces: Tensor, fidelity: float) -> Tensor:
    return network(faces * 2 - 1, weight=fidelity)[0] / 2 + 0.5


CONVENTIONS = {
    "GFPGAN": Convention(512, _gfpgan),
    "RestoreFormer": Convention(512, _restoreformer),
    "CodeFormer": Convention(512, _codeformer),
    "SwinIR": Convention(None, _plain),
    "NAFNet": Convention(256, _plain),
}
"""By spandrel's architecture id. Published GFPGAN, RestoreFormer and CodeFormer take and give
[-1, 1], which spandrel's own call does for RestoreFormer alone."""


def load_restorer(path: str | Path | None = None) -> ImageModelDescriptor:
    """Loads a face restorer; its architecture is read from the file's keys.

    Args:
        path: a ``.safetensors`` or ``.pth`` file; None for the embedded weights.

    Returns:
        spandrel's descriptor on the CPU in evaluation mode, as ComfyUI's Load Upscale Model
        gives. A ``size`` in the file's metadata becomes the tag that `native_size` reads.

    Raises:
        WeightsError: if the file is missing, corrupt, unsafe or no restorer.
        MissingPackageError: for CodeFormer without the package that has its architecture.
    """
    path = Path(path) if path is not None else EMBEDDED_RESTORER
    state, metadata = read_state_dict(path)
    loader = ModelLoader(registry=_registry(state, path))
    try:
        restorer = loader.load_from_state_dict(dict(state))  # spandrel renames keys in place
    except UnsupportedModelError as error:
        raise WrongArchitectureError(
            f"{path} is no network that spandrel knows (first key {next(iter(state))!r}). "
            "Choose a face restorer: GFPGAN, RestoreFormer, CodeFormer, SwinIR or NAFNet."
        ) from error
    except Exception as error:  # a key, a shape or a number that the architecture cannot have
        raise WrongArchitectureError(
            f"{path} resembles a network that spandrel knows, but does not fit it "
            f"({type(error).__name__}: {str(error)[:300]}). Use the original file."
        ) from error
    _check_restorer(restorer)
    assert isinstance(restorer, ImageModelDescriptor)
    if size := metadata.get("size"):
        if not size.isdecimal() or int(size) < 1:
            raise CorruptWeightsError(
                f"{path} should name its face size in pixels, and names {size!r}."
            )
        restorer.tags.append(f"{size}px")
    return restorer.eval()


def native_size(restorer: ImageModelDescriptor) -> int | None:
    """Side in pixels of the faces that a restorer was trained on; None if any size will do.

    A descriptor carries no metadata, and ComfyUI's own loader does not pass it on. So the size
    is, in this order: the tag ``"…px"`` that `load_restorer` sets from the file's metadata; for
    SwinIR behind a pixel unshuffle (the published face layout), the size that its attention
    masks were made for; that of the architecture in `CONVENTIONS`. A NAFNet from another
    loader is thus taken for a 256 px face network, which this project's are.
    """
    for tag in restorer.tags:
        if tag.endswith("px") and tag[:-2].isdecimal():
            return int(tag[:-2])
    made_with = getattr(restorer.model, "hyperparameters", {})
    if made_with.get("start_unshuffle", 1) > 1:
        return made_with["img_size"] * made_with["start_unshuffle"]
    convention = CONVENTIONS.get(restorer.architecture.id)
    return convention.size if convention else None


def supports_fidelity(restorer: ImageModelDescriptor) -> bool:
    """Whether ``fidelity`` changes what the restorer does; only CodeFormer has it."""
    return restorer.architecture.id == "CodeFormer"


def run_restorer(restorer: ImageModelDescriptor, faces: Tensor, fidelity: float = 0.5) -> Tensor:
    """One forward pass with the architecture's own convention, not clamped.

    For the architectures in `CONVENTIONS` it goes through ``restorer.model`` and carries
    gradients. Others run through spandrel's call, the only one that knows how they are called
    (it pads to their size requirements, clamps, and carries none).

    Args:
        restorer: the network, on the device and in the dtype of ``faces``.
        faces: B×3×H×W RGB in [0, 1], at the network's own size if it has one.
        fidelity: CodeFormer's w in [0, 1].

    Returns:
        B×3×H×W, nominally in [0, 1].
    """
    convention = CONVENTIONS.get(restorer.architecture.id)
    if convention is None:
        return restorer(faces.clone())  # an unknown network may write into its input
    return convention.call(restorer.model, faces, fidelity)


@torch.no_grad()
def restore_faces(
    crops: Tensor,
    restorer: ImageModelDescriptor,
    *,
    fidelity: float = 0.5,
    strength: float = 1.0,
    lock: float = 0.0,
    lock_factor: int = 16,
    batch_size: int = 8,
    on_step: OnStep | None = None,
) -> Tensor:
    """Restores aligned faces: x̂ = R(y), the paper's first guess.

    The crops are resized to the network's own size and back. With R the result of that, φ the
    low-pass and y the crop, the output is ``y + strength·(R + lock·(φ(y) − φ(R)) − y)``. When
    memory runs out, the batch is halved and the work goes on.

    Args:
        crops: N×3×S×S RGB in [0, 1], aligned faces; N may be 0.
        restorer: a descriptor of `load_restorer`, or any other 1×, RGB one of spandrel; put
            into evaluation mode.
        fidelity: CodeFormer's w in [0, 1]: 0 looks best, 1 is closest to the input.
        strength: blend in [0, 1] from the crop (0) to the restored face (1).
        lock: how much of the crop's colours and coarse shape is put back, in [0, 1].
        lock_factor: φ's factor N, in pixels of the crop; divides S.
        batch_size: faces that go through the network at once.
        on_step: progress in faces; the preview is the batch just restored.

    Returns:
        N×3×S×S in [0, 1], of the device and dtype of ``crops``.

    Raises:
        InputError: for crops or settings out of their range.
        WrongArchitectureError: for a network that is no 1×, RGB one.
        WeightsError: if the network gives NaN.
        OutOfMemoryError: if there is not even memory for one face.
    """
    check_images(crops, "crops")
    _check_restorer(restorer)
    for name, value in (("fidelity", fidelity), ("strength", strength), ("lock", lock)):
        if not 0 <= value <= 1:
            raise InputError(f"{name} must lie in [0, 1], and {value} came.")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, and {batch_size} came.")
    height, width = crops.shape[-2:]
    if height != width and native_size(restorer) is not None:
        raise InputError(f"Face crops must be square, and {height}×{width} came. Align the faces.")
    if lock:
        lowpass(crops[:0], lock_factor)  # refuses a wrong factor before any work
    restorer.eval()
    results = torch.empty_like(crops)
    parts = Parts(batch_size, "restore", "a smaller restorer")
    for part, restored in parts.of(
        len(crops), lambda part: _restore(crops[part], restorer, fidelity)
    ):
        if lock:
            restored = restored + lock * lowpass(crops[part] - restored, lock_factor)
        # lerp is exact at both ends.
        results[part] = crops[part].lerp(restored, strength).clamp(0, 1)
        if on_step is not None:
            on_step(part.stop, len(crops), results[part])
    return results


def _restore(batch: Tensor, restorer: ImageModelDescriptor, fidelity: float) -> Tensor:
    """R(y) at the batch's own size, device and dtype."""
    own, size = batch.shape[-1], native_size(restorer)
    faces = resize_square(batch, size) if size else batch
    restored = run_restorer(restorer, faces.to(restorer.device, restorer.dtype), fidelity)
    if restored.shape != faces.shape:
        raise WrongArchitectureError(
            f"The restorer made {tuple(restored.shape)} of {tuple(faces.shape)}. "
            "Choose a face restorer, whose result has the size of its input."
        )
    if not bool(torch.isfinite(restored).all()):
        raise WeightsError(
            f"The restorer ({restorer.architecture.name}, {restorer.dtype}) gave NaN. "
            "Use float32, or get its weights again."
        )
    return resize_square(restored.to(batch), own) if size else restored.to(batch)


def _registry(state: dict[str, Tensor], path: Path) -> ArchRegistry:
    """spandrel's architectures; for CodeFormer, those of its extra package."""
    if not {"position_emb", "idx_pred_layer.1.weight"} <= state.keys():
        return MAIN_REGISTRY
    try:
        from spandrel_extra_arches import EXTRA_REGISTRY  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPackageError(
            f"{path} is a CodeFormer, whose architecture comes in a package of its own: "
            "pip install spandrel_extra_arches. Its licence (S-Lab License 1.0) forbids "
            "commercial use."
        ) from error
    return EXTRA_REGISTRY


def _check_restorer(restorer: object) -> None:
    if not isinstance(restorer, ImageModelDescriptor):
        raise WrongArchitectureError(
            f"A restorer must be a network from image to image, and a {type(restorer).__name__} "
            "came. Choose a face restorer such as GFPGAN or SwinIR."
        )
    name, channels = restorer.architecture.name, (restorer.input_channels, restorer.output_channels)
    if restorer.scale != 1:
        raise WrongArchitectureError(
            f"This {name} is a {restorer.scale}× upscaler, and a restorer keeps the size. Use it "
            "to upscale the whole photograph instead, and choose a face restorer here."
        )
    if channels != (3, 3):
        raise WrongArchitectureError(
            f"A restorer takes 3 channels (RGB) and gives 3, and this {name} takes {channels[0]} "
            f"and gives {channels[1]}. Choose another network."
        )
