"""Weights inside pickled networks, read without their code.

Some programs save a whole network instead of its state dict, so that reading the file would
import and run the classes in it. Here torch's own restricted reader builds inert stand-ins for
these classes: objects that hold what was stored and do nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CorruptWeightsError, UnsafeWeightsError
from .impostors import refuse_bomb
from .manifest import check_there, get_again


class Inert:
    """Stands in for a pickled class: accepts any arguments and keeps its state."""

    def __new__(cls, *args: object, **kwargs: object) -> Inert:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object):
        self.state: Any = {}

    def __setstate__(self, state: object) -> None:
        self.state = state

    def get(self, name: str) -> Any:
        """An attribute that was stored; None if it was not."""
        state = getattr(self, "state", None)
        return state.get(name) if isinstance(state, Mapping) else None


def holds_network(path: Path) -> bool:
    """True if a file that ``torch.save`` wrote holds objects besides tensors and plain values.

    Raises:
        CorruptWeightsError: if it unpacks to far more than its length.
    """
    refuse_bomb(path)
    try:
        return bool(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # no such file, or one of another kind: its reader says so
        return False


def read_pickled(path: Path) -> Any:
    """Reads what ``torch.save`` wrote, with `Inert` objects in place of all others.

    Raises:
        MissingWeightsError: if there is no such file.
        UnsafeWeightsError: if it asks for what even torch's reader with stand-ins refuses.
        CorruptWeightsError: if it is damaged, of another kind, or unpacks to far more than its
            length.
    """
    check_there(path)
    refuse_bomb(path)
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        stand_ins: Any = [(type(name.rpartition(".")[2], (Inert,), {}), name) for name in names]
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # by kind of damage: RuntimeError, KeyError, pickle's
        if "weights_only" in str(error).lower() or "Unsupported" in str(error):
            raise UnsafeWeightsError(
                f"{path} must hold plain tensors, got code, which is never run "
                f"({str(error)[:200]}). Export it to ONNX."
            ) from error
        raise CorruptWeightsError(
            f"{path} must be a weights file, got a damaged or another one. {get_again(path.name)}"
        ) from error


def tensors_of(network: Inert, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers of a pickled ``torch.nn.Module``, by their names."""
    for kind in ("_parameters", "_buffers"):
        for name, tensor in (network.get(kind) or {}).items():
            if isinstance(tensor, Tensor):
                yield f"{prefix}{name}", tensor.detach()
    for name, module in (network.get("_modules") or {}).items():
        if isinstance(module, Inert):
            yield from tensors_of(module, f"{prefix}{name}.")
