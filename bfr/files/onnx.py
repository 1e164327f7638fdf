"""ONNX files, run by onnxruntime on the device that a torch network would use."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import (
    CorruptWeightsError,
    MissingPackageError,
    WeightsError,
    WrongArchitectureError,
)
from .checksums import file_sha256
from .integrity import verify_seal
from .manifest import check_there, get_again

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

log = logging.getLogger(__name__)

_TYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
}
_PROVIDERS = {
    "cuda": ("CUDAExecutionProvider", "MIGraphXExecutionProvider", "ROCMExecutionProvider"),
    "mps": ("CoreMLExecutionProvider",),
    "privateuseone": ("DmlExecutionProvider",),
    "xpu": ("OpenVINOExecutionProvider",),
}


@dataclass(frozen=True, slots=True)
class Slot:
    """An input or output of an ONNX file.

    Attributes:
        name: of it.
        dtype: of its numbers.
        shape: its sides; 0 where the file leaves one open.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} ({'×'.join(str(side or '?') for side in self.shape) or '1'})"


class OnnxModule(nn.Module):
    """An ONNX file as a module. The device of its buffers decides where onnxruntime works.

    Attributes:
        path: of the file.
        inputs: what it takes.
        outputs: what it gives.
        metadata: text by name.

    Raises:
        MissingPackageError: without onnxruntime.
        WeightsError: if the file is missing, damaged or no ONNX file, or an export of ours that
            was changed (`verify_seal`).
    """

    def __init__(self, path: Path):
        super().__init__()
        check_there(path)
        self.path = path
        # As a network with weights has them: a device and a type, and what its checksum is of.
        self.register_buffer("place", torch.zeros(1))
        digest = list(bytes.fromhex(file_sha256(path)))
        self.register_buffer("checksum", torch.tensor(digest, dtype=torch.uint8))
        self._sessions: dict[str, InferenceSession] = {}
        session = self._session(torch.device("cpu"))
        self.inputs = tuple(_slot(given, path) for given in session.get_inputs())
        self.outputs = tuple(_slot(given, path) for given in session.get_outputs())
        self.metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
        verify_seal(path, self.metadata)

    def forward(self, feeds: Mapping[str, Tensor]) -> list[Tensor]:
        """Runs the file.

        Args:
            feeds: tensors by the names of the inputs, on any device and of any type.

        Returns:
            The outputs in float32, on the device of this module.

        Raises:
            WeightsError: if onnxruntime fails.
        """
        device = self.get_buffer("place").device
        arrays = {
            slot.name: feeds[slot.name].detach().to("cpu", slot.dtype).numpy()
            for slot in self.inputs
        }
        try:
            results = self._session(device).run(None, arrays)
        except Exception as error:  # onnxruntime's own classes, by provider
            raise WeightsError(
                f"Cannot run {self.path.name} in onnxruntime on {device}: {str(error)[:300]}. Use "
                "the device cpu, or another file."
            ) from error
        return [torch.from_numpy(result).float().to(device) for result in results]

    def _session(self, device: torch.device) -> InferenceSession:
        """The session for a device; only one is kept, as each holds all weights."""
        key = str(device)
        if key not in self._sessions:
            self._sessions.clear()
            self._sessions[key] = _open(self.path, device)
        return self._sessions[key]

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxModule:
        return type(self)(self.path).to(self.get_buffer("place").device)  # sessions have no copy


def _open(path: Path, device: torch.device) -> InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(
            f"{path.name} needs the package onnxruntime, as every ONNX file does. Install it: pip "
            "install onnxruntime (onnxruntime-gpu for an NVIDIA card, onnxruntime-directml on "
            "Windows)."
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; its warnings are about its own optimisations
    options.intra_op_num_threads = torch.get_num_threads()
    providers = providers_for(device, onnxruntime.get_available_providers())
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's own classes, by kind of damage
        raise CorruptWeightsError(
            f"{path} must be an ONNX file for onnxruntime {onnxruntime.__version__}, got: "
            f"{str(error)[:300]}. {get_again(path.name)}"
        ) from error


def providers_for(device: torch.device, available: Sequence[str]) -> list[Any]:
    """onnxruntime's providers for a device, best first; the CPU comes last, always.

    Args:
        device: where a network of torch would be.
        available: the providers of the installed onnxruntime.
    """
    wanted = _PROVIDERS.get(device.type, ())
    found = next((name for name in wanted if name in available), None)
    if found is None:
        if wanted:
            log.warning(
                "onnxruntime has no provider for %s, so ONNX files run on the CPU. Install "
                "onnxruntime-gpu for an NVIDIA card, or onnxruntime-directml on Windows.",
                device,
            )
        return ["CPUExecutionProvider"]
    numbered = device.type in ("cuda", "privateuseone")
    options = {"device_id": device.index or 0} if numbered else {}
    return [(found, options), "CPUExecutionProvider"]


def _slot(given: Any, path: Path) -> Slot:
    """An input or output as onnxruntime describes it, with names or None for open sides."""
    if given.type not in _TYPES:
        raise WrongArchitectureError(
            f"{path} must take and give floating-point tensors, got {given.type} as "
            f"{given.name!r}. Choose a restorer such as GPEN, or a detector such as YOLO."
        )
    shape = (side if isinstance(side, int) and side > 0 else 0 for side in given.shape)
    return Slot(given.name, _TYPES[given.type], tuple(shape))
