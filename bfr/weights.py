"""Weights files: reading them safely, the manifest of published ones, downloads on request."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import sys
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import (
    CorruptWeightsError,
    DownloadError,
    MissingWeightsError,
    OutputError,
    UnsafeWeightsError,
)
from .images import atomic_path
from .records import OnStep

EMBEDDED_DIR = Path(__file__).resolve().parent.parent / "weights"
"""The folder of the weights that come with the package, and of the manifest."""

_WRAPPERS = ("params_ema", "params", "state_dict", "model")
_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without an answer


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """An entry of the manifest: weights that someone else publishes.

    Attributes:
        name: what it is called on the command line.
        file: the file's name.
        kind: "detector", "restorer", "parser" or "prior".
        url: where it is published.
        sha256: the file's checksum in hexadecimal, or None where it is not known for sure.
        licence: the terms of the weights.
        folder: the sub-folder of ComfyUI's models folder where it belongs.
        size: the file's length in bytes, or None.
        note: what it is good for.
    """

    name: str
    file: str
    kind: str
    url: str
    sha256: str | None
    licence: str
    folder: str
    size: int | None = None
    note: str = ""


@lru_cache(maxsize=1)
def published() -> tuple[PublishedWeights, ...]:
    """The published weights that the package knows, from ``weights/manifest.json``."""
    entries = json.loads((EMBEDDED_DIR / "manifest.json").read_text(encoding="utf-8"))
    return tuple(PublishedWeights(**entry) for entry in entries)


def cache_dir() -> Path:
    """The folder that the command line downloads to; it need not exist."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "face-restoration-tuner"


def find(entry: PublishedWeights, folders: Iterable[str | Path]) -> Path | None:
    """The entry's file in the first of the folders that has it, or None."""
    candidates = (Path(folder) / entry.file for folder in folders)
    return next((path for path in candidates if path.is_file()), None)


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
        raise MissingWeightsError(f"There is no weights file {path}. {_where_from(path.name)}")
    with path.open("rb") as file:
        head = file.read(64)
    _refuse_text(head, path)
    is_safetensors = path.suffix == ".safetensors" or head[8:9] == b"{"
    content, metadata = _read_safetensors(path) if is_safetensors else (_read_torch(path), {})
    state = _unwrap(content, path)
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CorruptWeightsError(
                f"{path} holds NaN or infinity in {name!r}. {_again(path.name)}"
            )
    return state, metadata


def download(entry: PublishedWeights, folder: str | Path, on_step: OnStep | None = None) -> Path:
    """Downloads published weights into a folder; a whole, checked file or none.

    A good file that is there already is kept, and nothing is downloaded. Where the manifest
    knows no checksum, that of the first download is recorded beside the file
    (``FILE.sha256``) and later downloads must match it.

    Args:
        entry: what to download.
        folder: where to; made if it is missing.
        on_step: progress ``on_step(done bytes, total bytes, None)``; raising from it cancels.

    Returns:
        The file's path.

    Raises:
        DownloadError: if the network fails or something else arrives than was promised.
        OutputError: if the folder cannot be written to, or the disk is full.
    """
    folder = Path(folder)
    path = folder / entry.file
    if path.is_file():
        try:
            verify(path, entry)
        except CorruptWeightsError:
            pass  # a damaged file is what a download mends
        else:
            return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot make the folder {folder}: {error.strerror or error}.") from error
    by_hand = f"You can save {entry.url} by hand as {path}."
    expected = entry.sha256 or _recorded(path)
    with atomic_path(path) as partial:
        digest = hashlib.sha256()
        with partial.open("wb") as file:
            for chunk, done, total in _fetch(entry.url, by_hand):
                file.write(chunk)
                digest.update(chunk)
                if on_step is not None:
                    on_step(done, total, None)
        with partial.open("rb") as file:
            if _is_text(file.read(64)):
                raise DownloadError(f"{entry.url} gave a web page and no weights. {by_hand}")
        if expected is not None and digest.hexdigest() != expected:
            raise DownloadError(
                f"{entry.url} has the sha256 {digest.hexdigest()}, and {expected} was expected"
                + (
                    " from the manifest. Do not use that file; try again later."
                    if entry.sha256
                    else f" from an earlier download. If you trust the change, delete "
                    f"{_sidecar(path)} and try again."
                )
            )
    if expected is None:
        with atomic_path(_sidecar(path)) as partial:
            partial.write_text(f"{digest.hexdigest()}  {entry.file}\n", encoding="ascii")
    return path


def verify(path: str | Path, entry: PublishedWeights) -> str:
    """Compares a file with what the manifest, or else its first download, says of it.

    Returns:
        The file's sha256. Where none is known there is nothing to compare with.

    Raises:
        MissingWeightsError: if the file is not there.
        CorruptWeightsError: if its length or checksum is another.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingWeightsError(f"There is no weights file {path}. {_where_from(path.name)}")
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        raise CorruptWeightsError(
            f"{path} has {size} bytes, and {entry.size} were expected. {_again(entry.file)}"
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    expected = entry.sha256 or _recorded(path)
    if expected is not None and digest != expected:
        raise CorruptWeightsError(
            f"{path} has the sha256 {digest}, and {expected} was expected. {_again(entry.file)}"
        )
    return digest


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise CorruptWeightsError(
            f"{path} is no whole safetensors file ({error}). {_again(path.name)}"
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
            f"{path} is damaged or no weights file. {_again(path.name)}"
        ) from error


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise CorruptWeightsError(f"{path} holds no weights by name. {_again(path.name)}")
    if others := [name for name, value in content.items() if not isinstance(value, Tensor)]:
        raise CorruptWeightsError(
            f"{path} holds other things than weights, as {str(others[0])!r}. "
            "Save the network's state dict alone."
        )
    prefix = "module." if all(name.startswith("module.") for name in content) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in content.items()}


def _is_text(head: bytes) -> bool:
    """Whether a file begins like a web page, or like what git leaves of a large file."""
    return head.lstrip().startswith((b"<", b"version https://git-lfs"))


def _refuse_text(head: bytes, path: Path) -> None:
    if _is_text(head):
        raise CorruptWeightsError(
            f"{path} is a web page or a pointer to the file, not the file: the link was opened "
            f"instead of saved. {_again(path.name)}"
        )


def _entry_of(file: str) -> PublishedWeights | None:
    return next((entry for entry in published() if entry.file == file), None)


def _where_from(file: str) -> str:
    entry = _entry_of(file)
    if entry is None:
        return "Check the name, or choose another file."
    return (
        f"Get it with 'python -m bfr models download {entry.name}', or save {entry.url} into "
        f"ComfyUI's models/{entry.folder}."
    )


def _again(file: str) -> str:
    entry = _entry_of(file)
    return f"Delete it and download it again{f' from {entry.url}' if entry else ''}."


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _recorded(path: Path) -> str | None:
    """The checksum recorded at the first download, or None."""
    sidecar = _sidecar(path)
    if not sidecar.is_file():
        return None
    words = sidecar.read_text(encoding="ascii", errors="replace").split()
    if not words or not re.fullmatch("[0-9a-f]{64}", words[0]):
        raise CorruptWeightsError(
            f"{sidecar} should begin with a sha256 in hexadecimal. Delete it to record it anew."
        )
    return words[0]


def _fetch(url: str, by_hand: str) -> Iterator[tuple[bytes, int, int]]:
    """Yields chunks, and the bytes done and to do so far; the length may be unknown at first."""
    request = urllib.request.Request(url, headers={"User-Agent": "face-restoration-tuner"})
    done = 0
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            total = int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(_CHUNK):
                done += len(chunk)
                yield chunk, done, total or done
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadError(
            f"Downloading {url} failed ({error}). Check the network and try again. {by_hand}"
        ) from error
    if done < total or not done:
        raise DownloadError(
            f"Downloading {url} ended after {done} of {total} bytes. Try again. {by_hand}"
        )
