"""Face restorers: any that spandrel knows, with the calling convention each was published with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from ..choices import AUTO
from ..errors import (
    CorruptWeightsError,
    InputError,
    MissingPackageError,
    WeightsError,
    WrongArchitectureError,
)
from ..files.handles import NetworkHandle
from ..files.manifest import EMBEDDED_DIR
from ..files.weights import read_state_dict
from ..image.lowpass import lowpass
from ..image.tensors import check_images, resize_square, size_in_words
from ..records import OnStep
from ..runtime.memory import Parts, at_once
from ..runtime.precision import check_precision, chosen_precision, computing
from ..runtime.progress import within
from .bfrffusion import SIZE as BFRFFUSION_SIZE
from .bfrffusion import STEPS as BFRFFUSION_STEPS
from .bfrffusion import build_bfrffusion, is_bfrffusion, make_scheduler
from .onnx import OnnxRestorer

if TYPE_CHECKING:
    from spandrel import ArchRegistry, ImageModelDescriptor

EMBEDDED_RESTORER = EMBEDDED_DIR / "restorer.safetensors"

Call = Callable[[nn.Module, Tensor, float], Tensor]


def _plain(network: nn.Module, faces: Tensor, fidelity: float) -> Tensor:
    return network(faces)


def _gfpgan(network: nn.Module, faces: Tensor, fidelity: float) -> Tensor:
    # The stored noise instead of new: the same face gives the same result, in any batch.
    faces = (faces * 2 - 1).contiguous()  # spandrel's network cannot read channels last
    return network(faces, return_rgb=False, randomize_noise=False)[0] / 2 + 0.5


def _restoreformer(network: nn.Module, faces: Tensor, fidelity: float) -> Tensor:
    return network(faces * 2 - 1)[0] / 2 + 0.5


def _codeformer(network: nn.Module, faces: Tensor, fidelity: float) -> Tensor:
    return network(faces * 2 - 1, weight=fidelity)[0] / 2 + 0.5


@dataclass(frozen=True, eq=False)
class Restorer(NetworkHandle):
    """A face restorer of any kind. ComfyUI's UPSCALE_MODEL nodes run it too, as a 1× upscaler.

    Attributes:
        architecture: spandrel's name of it, such as ``"GFPGAN"``.
        call: ``call(network, faces, fidelity)``, with faces and result B×3×S×S in [0, 1], the
            result not clamped.
        uses_fidelity: whether ``fidelity`` changes the result; only CodeFormer has it.
        trainable: whether ``call`` carries gradients, so that it can be fine-tuned.
        watched: ``watched(network, faces, fidelity, on_step)``, for a restorer of many steps: the
            same as ``call``, with progress and cancelling at every step.
        precision: one of `PRECISIONS` or "auto": what `restore_faces` computes in where the weights
            are float32.
    """

    architecture: str = ""
    call: Call = _plain
    uses_fidelity: bool = False
    trainable: bool = False
    watched: Callable[[nn.Module, Tensor, float, OnStep | None], Tensor] | None = None
    precision: str = "float32"
    scale: ClassVar[int] = 1

    @property
    def computed_in(self) -> str:
        """The number type that `restore_faces` computes in, by its name in torch."""
        if self.dtype != torch.float32:
            return str(self.dtype).removeprefix("torch.")
        return chosen_precision(self.precision, self.device)

    def __call__(
        self, faces: Tensor, fidelity: float = 0.5, on_step: OnStep | None = None
    ) -> Tensor:
        """One forward pass, not clamped.

        Args:
            faces: B×3×S×S RGB in [0, 1], on the network's device and in its dtype, at its own
                size if it has one.
            fidelity: CodeFormer's w in [0, 1].
            on_step: progress within the pass, of a restorer that has many steps.

        Returns:
            B×3×S×S, nominally in [0, 1].
        """
        if self.watched is not None:
            return self.watched(self.network, faces, fidelity, on_step)
        return self.call(self.network, faces, fidelity)


@dataclass(frozen=True, slots=True)
class Convention:
    """How the networks of one architecture are used.

    Attributes:
        size: side of the faces in pixels; None for any.
        call: of `Restorer`.
        precision: of `Restorer`, where one asks for no other.
    """

    size: int | None
    call: Call
    precision: str = AUTO


CONVENTIONS = {
    "GFPGAN": Convention(512, _gfpgan),
    "RestoreFormer": Convention(512, _restoreformer, "float32"),
    "CodeFormer": Convention(512, _codeformer, "float32"),
    "SwinIR": Convention(None, _plain, "float32"),
    "NAFNet": Convention(256, _plain),
}
"""By spandrel's architecture. Published GFPGAN, RestoreFormer and CodeFormer take and give
[-1, 1], which spandrel's own call does for RestoreFormer alone. Those that choose among codes
stay in float32, as a rounding error can choose another code, and so does SwinIR, which gains
nothing (`bfr.runtime.precision`)."""


def load_restorer(
    path: str | Path | None = None, *, steps: int | None = None, precision: str = AUTO
) -> Restorer:
    """Loads a face restorer; its architecture is read from the file's keys.

    Args:
        path: a ``.safetensors``, ``.pth``, ``.ckpt`` (BFRffusion) or ``.onnx`` file; None for the
            embedded weights.
        steps: network calls per face of a BFRffusion; None for the published 50. Others have none.
        precision: one of `PRECISIONS`, which `restore_faces` computes in; "auto" is float32 for
            architectures that were not tried in half precision. An ONNX file has its own.

    Returns:
        The restorer on the CPU in evaluation mode, of the ``size`` in the file's metadata if
        there is one.

    Raises:
        WeightsError: if the file is missing, corrupt, unsafe or no restorer.
        MissingPackageError: for CodeFormer without the package that has its architecture, and
            for an ONNX file without onnxruntime.
        InputError: for a precision that there is not.
    """
    check_precision(precision)
    restorer = _load(path, steps)
    if precision != AUTO and restorer.architecture != "ONNX":
        restorer = replace(restorer, precision=precision)
    return restorer


def _load(path: str | Path | None, steps: int | None) -> Restorer:
    path = Path(path) if path is not None else EMBEDDED_RESTORER
    if path.suffix.lower() == ".onnx":
        return _from_onnx(path)
    state, metadata = read_state_dict(path)
    if is_bfrffusion(state):
        return _from_bfrffusion(state, path, steps or BFRFFUSION_STEPS)
    return _read_spandrel(state, metadata, path)


def _read_spandrel(state: dict[str, Tensor], metadata: dict[str, str], path: Path) -> Restorer:
    from spandrel import ModelLoader, UnsupportedModelError

    loader = ModelLoader(registry=_registry(state, path))
    try:
        descriptor = loader.load_from_state_dict(dict(state))  # spandrel renames keys in place
    except UnsupportedModelError as error:
        raise WrongArchitectureError(
            f"{path} is no network that spandrel knows (first key {next(iter(state))!r}). "
            "Choose a face restorer: GFPGAN, RestoreFormer, CodeFormer, SwinIR, NAFNet or "
            "BFRffusion."
        ) from error
    except Exception as error:  # a key, a shape or a number that the architecture cannot have
        raise WrongArchitectureError(
            f"{path} resembles a network that spandrel knows, but does not fit it "
            f"({type(error).__name__}: {str(error)[:300]}). Use the original file."
        ) from error
    restorer = from_spandrel(descriptor, path.stem)
    if size := metadata.get("size"):
        if not size.isdecimal() or len(size) > 4 or int(size) < 1:
            raise CorruptWeightsError(
                f"{path} must name its face size in whole pixels, got {size[:20]!r}. Get it again."
            )
        restorer = replace(restorer, size=int(size))
    return restorer


def _from_onnx(path: Path) -> Restorer:
    network = OnnxRestorer(path)
    return Restorer(
        network=network.eval(),
        name=path.stem,
        size=network.size,
        architecture="ONNX",
        call=lambda network, faces, fidelity: network.restore(faces, fidelity),  # pyright: ignore[reportCallIssue]
        uses_fidelity=network.weight is not None,
    )


def _from_bfrffusion(state: dict[str, Tensor], path: Path, steps: int) -> Restorer:
    make_scheduler(steps)  # refuses a wrong number before any work
    return Restorer(
        network=build_bfrffusion(state, path),
        name=path.stem,
        size=BFRFFUSION_SIZE,
        architecture="BFRffusion",
        call=lambda network, faces, fidelity: network(faces, steps=steps),
        watched=lambda network, faces, fidelity, on_step: network(
            faces, steps=steps, on_step=on_step
        ),
    )


def from_spandrel(descriptor: object, name: str = "") -> Restorer:
    """The restorer in a descriptor of spandrel, from any loader; put into evaluation mode.

    A descriptor does not name the size of the faces. So it is taken from, in this order: the
    size that the attention masks of a SwinIR behind a pixel unshuffle (the published face
    layout) were made for; the architecture (`CONVENTIONS`). A NAFNet from another loader is
    thus taken for a 256 px face network, which this project's are.

    Architectures that are not in `CONVENTIONS` run through spandrel's own call, the only one
    that knows how they are called; it pads to their size requirements, clamps, and carries no
    gradients.

    Args:
        descriptor: a single-image, 1×, RGB one.
        name: of the weights.

    Raises:
        WrongArchitectureError: if it is anything else.
    """
    from spandrel import ImageModelDescriptor

    if not isinstance(descriptor, ImageModelDescriptor):
        raise WrongArchitectureError(
            f"A restorer must be a network from image to image, got a {type(descriptor).__name__}. "
            "Choose a face restorer such as GFPGAN or SwinIR."
        )
    architecture = descriptor.architecture.name
    _check_shape(descriptor, architecture)
    convention = CONVENTIONS.get(architecture)
    size = convention.size if convention else None
    made_with = getattr(descriptor.model, "hyperparameters", {})
    if made_with.get("start_unshuffle", 1) > 1:
        size = made_with["img_size"] * made_with["start_unshuffle"]
    return Restorer(
        network=descriptor.model.eval(),
        name=name or architecture,
        size=size,
        architecture=architecture,
        call=convention.call if convention else _spandrels_call(descriptor),
        uses_fidelity=architecture == "CodeFormer",
        trainable=convention is not None,
        precision=convention.precision if convention else "float32",
    )


def _spandrels_call(descriptor: ImageModelDescriptor) -> Call:
    """spandrel's own call of an architecture, for any network of it."""

    def call(network: nn.Module, faces: Tensor, fidelity: float) -> Tensor:
        own = copy.copy(descriptor)
        own._model = network
        return own(faces.clone())  # an unknown network may write into its input

    return call


@torch.no_grad()
def restore_faces(
    crops: Tensor,
    restorer: Restorer,
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
    memory runs out, the batch is halved and the work goes on. The network computes in the
    restorer's ``computed_in``, and again in float32 where half precision gave NaN.

    Args:
        crops: N×3×S×S RGB in [0, 1], aligned faces; N may be 0.
        restorer: of `load_restorer` or `from_spandrel`; put into evaluation mode.
        fidelity: CodeFormer's w in [0, 1]: 0 looks best, 1 is closest to the input.
        strength: blend in [0, 1] from the crop (0) to the restored face (1).
        lock: how much of the crop's colours and coarse shape is put back, in [0, 1].
        lock_factor: φ's factor N, in pixels of the crop; divides S.
        batch_size: the most faces that go through the network at once; a processor takes them
            one by one, which is quicker.
        on_step: progress in faces, or in hundredths of them where a restorer has many steps; the
            preview is the batch just restored.

    Returns:
        N×3×S×S in [0, 1], of the device and dtype of ``crops``.

    Raises:
        InputError: for crops or settings out of their range, or what is no `Restorer`.
        WrongArchitectureError: for a network that changes the size.
        WeightsError: if the network gives NaN.
        OutOfMemoryError: if there is not even memory for one face.
    """
    check_images(crops, "crops")
    if not isinstance(restorer, Restorer):
        raise InputError(f"restorer must be a Restorer, got a {type(restorer).__name__}.")
    for name, value in (("fidelity", fidelity), ("strength", strength), ("lock", lock)):
        if not 0 <= value <= 1:
            raise InputError(f"{name} must be in [0, 1], got {value}.")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}.")
    height, width = crops.shape[-2:]
    if height != width and restorer.size is not None:
        raise InputError(
            f"crops must be square, got {size_in_words(height, width)}. Align the faces."
        )
    if lock:
        lowpass(crops[:0], lock_factor)  # refuses a wrong factor before any work
    restorer.network.eval()
    results = torch.empty_like(crops)
    unit = 1 if restorer.watched is None else 100

    def restore(part: slice) -> Tensor:
        stage = within(on_step, part.start * unit, part.stop * unit, len(crops) * unit)
        return _restore(crops[part], restorer, fidelity, stage)

    parts = Parts(at_once(batch_size, restorer.device), "restore", "a smaller restorer")
    for part, restored in parts.of(len(crops), restore):
        if lock:
            restored = restored + lock * lowpass(crops[part] - restored, lock_factor)
        # lerp is exact at both ends.
        results[part] = crops[part].lerp(restored, strength).clamp(0, 1)
        if on_step is not None:
            on_step(part.stop * unit, len(crops) * unit, results[part])
    return results


def _restore(batch: Tensor, restorer: Restorer, fidelity: float, on_step: OnStep) -> Tensor:
    """R(y) at the batch's own size, device and dtype."""
    own, size = batch.shape[-1], restorer.size
    faces = resize_square(batch, size) if size else batch
    given, lower = faces.to(restorer.device, restorer.dtype), restorer.computed_in
    if lower == "float32":
        restored = restorer(given, fidelity, on_step)
    else:
        order = torch.channels_last  # half precision is slow without; convolutions keep it
        with computing(lower, restorer.device):
            restored = restorer(given.contiguous(memory_format=order), fidelity, on_step)
        if restorer.dtype == torch.float32 and not bool(torch.isfinite(restored).all()):
            restored = restorer(given, fidelity, on_step)
    if restored.shape != faces.shape:
        raise WrongArchitectureError(
            f"The restorer made {tuple(restored.shape)} of {tuple(faces.shape)}. "
            "Choose a face restorer, whose result has the size of its input."
        )
    if not bool(torch.isfinite(restored).all()):
        raise WeightsError(
            f"The restorer ({restorer.name}, {restorer.dtype}) gave NaN. "
            "Use float32, or get its weights again."
        )
    return resize_square(restored.to(batch), own) if size else restored.to(batch)


def _registry(state: dict[str, Tensor], path: Path) -> ArchRegistry:
    """spandrel's architectures; for CodeFormer, those of its extra package."""
    from spandrel import MAIN_REGISTRY

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


def _check_shape(descriptor: ImageModelDescriptor, name: str) -> None:
    channels = descriptor.input_channels, descriptor.output_channels
    if descriptor.scale != 1:
        raise WrongArchitectureError(
            f"A restorer must keep the size, got a {descriptor.scale}× upscaler ({name}). Upscale "
            "the whole photograph with it instead, and choose a face restorer here."
        )
    if channels != (3, 3):
        raise WrongArchitectureError(
            f"A restorer must take and give 3 channels (RGB), got a {name} that takes "
            f"{channels[0]} and gives {channels[1]}. Choose another network."
        )
