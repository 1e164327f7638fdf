"""Reading a face restorer from a file or from ComfyUI: its keys tell its architecture."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..choices import AUTO
from ..errors import CorruptWeightsError, MissingPackageError, WrongArchitectureError
from ..files.bounds import no_larger_than
from ..files.handles import refuse_integers
from ..files.manifest import EMBEDDED_DIR
from ..files.weights import read_state_dict
from ..runtime.precision import check_precision
from .bfrffusion import SIZE as BFRFFUSION_SIZE
from .bfrffusion import STEPS as BFRFFUSION_STEPS
from .bfrffusion import make_scheduler
from .bfrffusion_checkpoint import build_bfrffusion, is_bfrffusion
from .norms import fuse_norms
from .onnx import OnnxRestorer
from .restorer import CONVENTIONS, Call, Restorer

if TYPE_CHECKING:
    from spandrel import ArchRegistry, ImageModelDescriptor

EMBEDDED_RESTORER = EMBEDDED_DIR / "restorer.safetensors"


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
        with no_larger_than(state):
            descriptor = loader.load_from_state_dict(dict(state))  # it renames keys in place
    except UnsupportedModelError as error:
        raise WrongArchitectureError(
            f"{path} must be a network that spandrel knows, got the first key "
            f"{next(iter(state))!r}. Choose a face restorer: GFPGAN, RestoreFormer, CodeFormer, "
            "SwinIR, NAFNet or BFRffusion."
        ) from error
    except Exception as error:  # a key, a shape or a number that the architecture cannot have
        raise WrongArchitectureError(
            f"{path} must fit the network it resembles, got {type(error).__name__}: "
            f"{str(error)[:300]}. Use the original file."
        ) from error
    restorer = from_spandrel(descriptor, path.stem)
    refuse_integers(restorer.network, state, path)
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
    fuse_norms(descriptor.model)
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


def _registry(state: dict[str, Tensor], path: Path) -> ArchRegistry:
    """spandrel's architectures; for CodeFormer, those of its extra package."""
    from spandrel import MAIN_REGISTRY

    if not {"position_emb", "idx_pred_layer.1.weight"} <= state.keys():
        return MAIN_REGISTRY
    try:
        from spandrel_extra_arches import EXTRA_REGISTRY  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPackageError(
            f"{path} is a CodeFormer and needs the package spandrel_extra_arches. Install it: pip "
            "install spandrel_extra_arches. Its licence (S-Lab License 1.0) forbids commercial use."
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
