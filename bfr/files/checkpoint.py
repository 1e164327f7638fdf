"""Checkpoints of training: one file of nested tensors and numbers, written whole."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from ..errors import CorruptWeightsError, UnsafeWeightsError
from .whole import atomic_path

_DAMAGE = (RuntimeError, OSError, EOFError, LookupError, ValueError, AttributeError, TypeError)
_DAMAGE = (*_DAMAGE, AssertionError, BadZipFile, zlib.error, pickle.PickleError)
_SAFE = (2, 6)  # before it, weights_only could run code (CVE-2025-32434)


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Replaces a checkpoint as a whole.

    Args:
        path: the file.
        content: what `read_checkpoint` gives back: dicts and lists of tensors and plain values.

    Raises:
        OutputError: if it cannot be written.
    """
    with atomic_path(path) as partial:
        try:
            with partial.open("wb") as file:
                torch.save(dict(content), file)
        except RuntimeError as error:  # how its writer reports what the system refused
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise OSError(str(error).splitlines()[0]) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU; code in it is never run.

    Raises:
        CorruptWeightsError: if the file is damaged, or no checkpoint.
        UnsafeWeightsError: if this torch cannot read it without the risk of running code.
    """
    if tuple(map(int, torch.__version__.split(".")[:2])) < _SAFE:
        raise UnsafeWeightsError(
            f"{path} must be read with torch {'.'.join(map(str, _SAFE))} or newer, got "
            f"{torch.__version__}, which could run code hidden in it. Update torch."
        )
    try:
        with ZipFile(path) as archive:  # torch does not compare the checksums
            if (broken := archive.testzip()) is not None:
                raise ValueError(f"{broken} was changed")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        raise CorruptWeightsError(
            f"{path} must be a checkpoint of training, got something else or a damaged file "
            f"({type(error).__name__}: {str(error)[:200]}). Start again in another folder."
        ) from error
    if not isinstance(content, dict):
        raise CorruptWeightsError(
            f"{path} must be a checkpoint of training, got a {type(content).__name__}. Start "
            "again in another folder."
        )
    return content
