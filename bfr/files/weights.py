"""Weights files: read safely, written whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CorruptWeightsError, MissingWeightsError, UnsafeWeightsError
from .manifest import get_again, where_from
from .whole import atomic_path

_WRAPPERS = ("params_ema", "params", "state_dict", "model")


def read_state_dict(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads the tensors of a weights file; code in it is never run.

    Both safetensors and PyTorch's own files are read, told apart by their first bytes. The
    common wrappers ``params_ema``, ``params``, ``state_dict`` and ``model`` (in this order) and
    a ``module.`` before every name are taken off.

    Args:
        path: the file.

    Returns:
        The tensors by name, on the CPU, and the metadata (empty but for safetensors).

    Raises:
        MissingWeightsError: if there is no such file; the message says where it belongs.
        CorruptWeightsError: if it is truncated, no weights file, or holds NaN or infinity.
        UnsafeWeightsError: if it holds pickled code.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingWeightsError(f"There is no weights file {path}. {where_from(path.name)}")
    with path.open("rb") as file:
        head = file.read(64)
    _refuse_text(head, path)
    is_safetensors = path.suffix == ".safetensors" or head[8:9] == b"{"
    content, metadata = _read_safetensors(path) if is_safetensors else (_read_torch(path), {})
    state = _unwrap(content, path)
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CorruptWeightsError(
                f"{path} holds NaN or infinity in {name!r}. {get_again(path.name)}"
            )
    return state, metadata


def write_state_dict(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors as safetensors; a whole file or none.

    Args:
        path: of the file, replaced if it exists.
        tensors: by name, no two of which share memory.
        metadata: text by name, such as the architecture and the licence.

    Raises:
        OutputError: if the folder is missing or read-only, or the disk is full.
    """
    state = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as partial:
        try:
            save_file(state, partial, dict(metadata or {}))
        except SafetensorError as error:  # its way to say that the disk is full
            raise OSError(str(error)) from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise CorruptWeightsError(
            f"{path} is no whole safetensors file ({error}). {get_again(path.name)}"
        ) from error


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # by kind of damage: EOFError, KeyError, RuntimeError, pickle's
        reason = str(error)
        if re.search("unsupported|TorchScript", reason, re.IGNORECASE):
            code = re.search(r"GLOBAL ([\w.]+)", reason)
            raise UnsafeWeightsError(
                f"{path} holds pickled code{f' ({code[1]})' if code else ''}, which is never run. "
                "Get the weights as .safetensors, or as a plain state dict, from a source you "
                "trust."
            ) from error
        raise CorruptWeightsError(
            f"{path} is damaged or no weights file. {get_again(path.name)}"
        ) from error


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise CorruptWeightsError(f"{path} holds no weights by name. {get_again(path.name)}")
    if others := [name for name, value in content.items() if not isinstance(value, Tensor)]:
        raise CorruptWeightsError(
            f"{path} holds other things than weights, as {str(others[0])!r}. "
            "Save the network's state dict alone."
        )
    prefix = "module." if all(name.startswith("module.") for name in content) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in content.items()}


def is_text(head: bytes) -> bool:
    """Whether a file begins like a web page, or like what git leaves of a large file."""
    return head.lstrip().startswith((b"<", b"version https://git-lfs"))


def _refuse_text(head: bytes, path: Path) -> None:
    if is_text(head):
        raise CorruptWeightsError(
            f"{path} is a web page or a pointer to the file, not the file: the link was opened "
            f"instead of saved. {get_again(path.name)}"
        )
