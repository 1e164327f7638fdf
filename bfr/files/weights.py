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

from ..errors import (
    CorruptWeightsError,
    UnsafeWeightsError,
    WrongArchitectureError,
)
from .checksums import tensors_sha256
from .impostors import refuse_bomb, refuse_others, refuse_repeated
from .integrity import TENSORS, verify_file, verify_tensors
from .manifest import check_there, get_again
from .whole import atomic_path

_WRAPPERS = ("params_ema", "params", "state_dict", "model")
_SAFE_TORCH = (2, 6)  # before it, weights_only could be made to run code (CVE-2025-32434)


def read_state_dict(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads the tensors of a weights file; code in it is never run.

    Both safetensors and PyTorch's own files are read, told apart by their first bytes. The
    common wrappers ``params_ema``, ``params``, ``state_dict`` and ``model`` (in this order) and
    a ``module.`` before every name are taken off. Numbers of 8 bits become float32. Weights of ours
    are compared with their checksums.

    Args:
        path: the file.

    Returns:
        The tensors by name, on the CPU, and the metadata (empty except for safetensors).

    Raises:
        MissingWeightsError: if there is no such file; the message says where it belongs.
        CorruptWeightsError: if it is truncated, no weights file, unpacks to far more than its
            length, or holds NaN or infinity, or anything but plain tensors by name; or is one
            of ours that was changed.
        UnsafeWeightsError: if it holds pickled code, or this PyTorch cannot read it safely.
        WrongArchitectureError: if its weights are quantised to integers or scaled.
    """
    path = Path(path)
    check_there(path)
    try:
        with path.open("rb") as file:
            head = file.read(64)
        refuse_others(head, path)
        verify_file(path)
        is_safetensors = path.suffix == ".safetensors" or head[8:9] == b"{"
        content, metadata = _read_safetensors(path) if is_safetensors else (_read_torch(path), {})
    except OSError as error:
        raise CorruptWeightsError(
            f"{path} must be readable, got: {error.strerror or error}. Check its permissions."
        ) from error
    if is_safetensors:
        verify_tensors(path, content, metadata)
    state = _unwrap(content, path)
    for name, tensor in state.items():
        if kind := _oddity(tensor):
            raise CorruptWeightsError(
                f"{path} must hold plain tensors, got a {kind} tensor as {name!r}. Save the "
                "network's state dict in float32 or float16."
            )
    refuse_repeated(sum(t.numel() * t.element_size() for t in state.values()), path)
    return {name: _plain(name, tensor, path) for name, tensor in state.items()}, metadata


def whole_number(text: str, low: int, high: int) -> int:
    """A number that a file's metadata names.

    Raises:
        ValueError: if it is none from low to high.
    """
    if len(text) > 20 or not low <= int(text) <= high:
        raise ValueError(f"{text[:20]} is not from {low} to {high}")
    return int(text)


def write_state_dict(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors as safetensors; a whole file or none.

    Args:
        path: of the file, replaced if it exists.
        tensors: by name, no two of which share memory.
        metadata: text by name, such as the architecture and the licence; the checksum of the
            tensors is added, which `read_state_dict` compares.

    Raises:
        OutputError: if the folder is missing or read-only, or the disk is full.
    """
    state = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as partial:
        try:
            save_file(state, partial, {**(metadata or {}), TENSORS: tensors_sha256(state)})
        except SafetensorError as error:  # its way to say that the disk is full
            raise OSError(str(error)) from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise CorruptWeightsError(
            f"{path} must be a whole safetensors file, got: {error}. {get_again(path.name)}"
        ) from error


def _read_torch(path: Path) -> Any:
    if torch_version() < _SAFE_TORCH:
        raise UnsafeWeightsError(
            f"{path} must be .safetensors, or be read with PyTorch 2.6 or newer, got PyTorch "
            f"{torch.__version__}, in which other files can run code. Update PyTorch, or get the "
            "weights as .safetensors."
        )
    refuse_bomb(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # by kind of damage: EOFError, KeyError, RuntimeError, pickle's
        reason = str(error)
        if re.search("unsupported|TorchScript", reason, re.IGNORECASE):
            code = re.search(r"GLOBAL ([\w.]+)", reason)
            named = f" ({code[1]})" if code else ""
            raise UnsafeWeightsError(
                f"{path} must hold plain tensors, got pickled code{named}, which is never run. Get "
                "the weights as .safetensors, or as a plain state dict, from a source you trust."
            ) from error
        raise CorruptWeightsError(
            f"{path} must be a weights file, got a damaged or another one. {get_again(path.name)}"
        ) from error


def torch_version() -> tuple[int, ...]:
    """The version of PyTorch, as (major, minor)."""
    return tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise CorruptWeightsError(
            f"{path} must hold weights by name, got none. {get_again(path.name)}"
        )
    for name, value in content.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            raise CorruptWeightsError(
                f"{path} must hold tensors by name alone, got a {type(value).__name__} as "
                f"{str(name)[:80]!r}. Save the network's state dict alone."
            )
    prefix = "module." if all(name.startswith("module.") for name in content) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in content.items()}


def _plain(name: str, tensor: Tensor, path: Path) -> Tensor:
    """The tensor, verified to be finite, whole and of a type that networks compute in."""
    if name.endswith(("scale_weight", "weight_scale", "scaled_fp8", "scale_input")):
        raise WrongArchitectureError(
            f"{path} must hold weights as they are, got scaled ones of 8 bits ({name!r}). Choose "
            "the file in float16 or float32."
        )
    if tensor.is_floating_point():
        if tensor.dtype.itemsize == 1:
            try:
                tensor = tensor.float()
            except NotImplementedError as error:  # of two numbers in a byte
                raise WrongArchitectureError(
                    f"{path} must hold numbers that can be computed with, got {tensor.dtype} as "
                    f"{name!r}. Choose the file in float16 or float32."
                ) from error
        if not bool(torch.isfinite(tensor).all()):
            raise CorruptWeightsError(
                f"{path} must hold finite weights, got NaN or infinity in {name!r}. "
                f"{get_again(path.name)}"
            )
    elif name.endswith((".weight", ".bias")):
        raise WrongArchitectureError(
            f"{path} must hold floating-point weights, got {tensor.dtype} as {name!r}. Quantised "
            "networks are not run here: choose the file in float16 or float32."
        )
    return tensor


def _oddity(tensor: Tensor) -> str:
    """The reason why a tensor is unusual, such as "sparse"; empty for a plain one."""
    if tensor.is_meta:
        return "meta"
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        return "sparse, quantised or nested"
    if tensor.is_complex():
        return "complex"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "repeated"  # it would take far more memory than the file
    return ""
