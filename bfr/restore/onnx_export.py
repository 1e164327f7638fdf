"""Restorers as ONNX files that FaceFusion, ReActor and `bfr.restore.onnx` run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, MissingPackageError, WrongArchitectureError
from ..files.integrity import SEAL, UNSEALED, seal
from ..files.whole import atomic_path
from .onnx import RANGE, SIGNED
from .restorer import Restorer

SIZE = 512
"""Side in pixels of the faces that other programs give a restorer, unless its name says else."""

_OPSET = 17


class _Exported(nn.Module):
    """A restorer as other programs call one: faces in [-1, 1], in and out, at one size.

    A network of another size has the faces resized inside. Each axis is one product with a
    matrix, which is the antialiased bicubic resize that `restore_faces` does.
    """

    enter: Tensor
    leave: Tensor

    def __init__(self, restorer: Restorer, size: int):
        super().__init__()
        self.network, self.call = restorer.network, restorer.call
        self.resized = restorer.size not in (None, size)
        if self.resized:
            assert restorer.size is not None
            self.register_buffer("enter", resize_matrix(size, restorer.size))
            self.register_buffer("leave", resize_matrix(restorer.size, size))

    def forward(self, faces: Tensor) -> Tensor:
        faces = faces / 2 + 0.5
        if self.resized:
            faces = self.enter @ faces @ self.enter.transpose(0, 1)
        restored = self.call(self.network, faces, 0.5)
        if self.resized:
            restored = self.leave @ restored @ self.leave.transpose(0, 1)
        return restored * 2 - 1


def resize_matrix(size: int, to: int) -> Tensor:
    """The antialiased bicubic resize of one axis: ``to``×``size``."""
    return F.interpolate(torch.eye(size)[None, None], (to, size), mode="bicubic", antialias=True)[
        0, 0
    ]


def export_onnx(
    path: str | Path,
    restorer: Restorer,
    about: Mapping[str, str] | None = None,
    size: int = SIZE,
) -> None:
    """Writes a restorer as an ONNX file: ``input`` and ``output``, 1×3×S×S RGB in [-1, 1].

    The pixels are those of `restore_faces` on crops of that size, but for rounding.

    Args:
        path: of the file; an earlier export there is replaced, nothing else.
        restorer: a trainable one, on the CPU in float32 or copied there; it is not changed.
        about: where it is from; goes into the file's metadata.
        size: S, the side in pixels of the faces that the file takes, whatever the network's.

    Raises:
        InputError: for a size that cannot be, or a file there that is no export.
        WrongArchitectureError: for a restorer that is no network of torch, that needs a
            fidelity, or whose architecture cannot be exported.
        MissingPackageError: without the package onnx.
        OutputError: if the folder is missing or read-only, or the disk is full.
    """
    if size < 16:
        raise InputError(f"The size of an exported restorer must be at least 16, got {size}.")
    if not restorer.trainable or restorer.uses_fidelity:
        raise WrongArchitectureError(
            "A restorer to export to ONNX must be one of GFPGAN, RestoreFormer, SwinIR, NAFNet, "
            f"got {restorer.name} ({restorer.architecture}). Save it as safetensors."
        )
    onnx = check_replaceable(Path(path))
    with atomic_path(path) as partial:
        _trace(restorer, size, partial)
        model = onnx.load(str(partial))
        facts = {**(about or {}), RANGE: SIGNED, "architecture": restorer.architecture}
        onnx.helper.set_model_props(model, {**facts, SEAL: UNSEALED})
        onnx.save(model, str(partial))
        seal(partial)


def check_replaceable(path: Path) -> Any:
    """Refuses to write where a file is that `export_onnx` did not write.

    Returns:
        The package onnx.

    Raises:
        InputError: if there is one.
        MissingPackageError: without that package.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingPackageError(
            "ONNX export needs the package onnx. Install it: pip install onnx onnxruntime"
        ) from error
    if not path.exists():
        return onnx
    try:
        model = onnx.load(str(path), load_external_data=False)
        exported = any(entry.key == RANGE for entry in model.metadata_props)
    except Exception:  # whatever a file that is no ONNX leads to
        exported = False
    if not exported:
        raise InputError(
            f"What is replaced must be an exported restorer, got {path}, which is something else. "
            "Choose another name."
        )
    return onnx


def _trace(restorer: Restorer, size: int, path: Path) -> None:
    # Nodes run in inference mode, whose tensors cannot be traced.
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes become constants, as they are meant to
        own = restorer.copy().to("cpu", torch.float32)
        exported = _Exported(own, size).eval().requires_grad_(False)
        try:
            torch.onnx.export(
                exported,
                (torch.zeros(1, 3, size, size),),
                str(path),
                input_names=["input"],
                output_names=["output"],
                opset_version=_OPSET,
                dynamo=False,
            )
        except OSError:
            raise
        except Exception as error:  # by architecture and version of torch
            raise WrongArchitectureError(
                f"Cannot export {restorer.name} ({restorer.architecture}) to ONNX with torch "
                f"{torch.__version__}: {type(error).__name__}: {str(error)[:300]}. Save it as "
                "safetensors."
            ) from error
