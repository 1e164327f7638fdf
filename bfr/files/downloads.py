"""Published weights: downloaded and verified."""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ..errors import CorruptWeightsError, DownloadError, OutputError
from ..records import OnStep
from .checksums import file_sha256
from .impostors import is_text
from .manifest import PublishedWeights, check_there, get_again
from .whole import atomic_path

_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without an answer


def download(entry: PublishedWeights, folder: str | Path, on_step: OnStep | None = None) -> Path:
    """Downloads published weights into a folder; a whole, checked file or none.

    A good file that exists is kept, and nothing is downloaded. Where the manifest
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
        raise OutputError(
            f"Cannot make the folder {folder}: {error.strerror or error}. Choose another folder, "
            "or check your permissions."
        ) from error
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
            if is_text(file.read(64)):
                raise DownloadError(f"{entry.url} must give weights, got a web page. {by_hand}")
        if expected is not None and digest.hexdigest() != expected:
            raise DownloadError(
                f"{entry.url} must have the sha256 {expected}, got {digest.hexdigest()}. "
                + (
                    "Do not use that file; try again later."
                    if entry.sha256
                    else f"An earlier download had the former. If you trust the change, delete "
                    f"{_sidecar(path)} and try again."
                )
            )
    if expected is None:
        with atomic_path(_sidecar(path)) as partial:
            partial.write_text(f"{digest.hexdigest()}  {entry.file}\n", encoding="ascii")
    return path


def verify(path: str | Path, entry: PublishedWeights) -> str:
    """Compares a file with the manifest, or else with its first download.

    Returns:
        The file's sha256. Where none is known there is nothing to compare with.

    Raises:
        MissingWeightsError: if the file is not there.
        CorruptWeightsError: if its length or checksum differs.
    """
    path = Path(path)
    check_there(path)
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        raise CorruptWeightsError(
            f"{path} must have {entry.size} bytes, got {size}. {get_again(entry.file)}"
        )
    digest = file_sha256(path)
    expected = entry.sha256 or _recorded(path)
    if expected is not None and digest != expected:
        raise CorruptWeightsError(
            f"{path} must have the sha256 {expected}, got {digest}. {get_again(entry.file)}"
        )
    return digest


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
            f"{sidecar} must begin with a sha256 in hexadecimal, got something else. Delete it to "
            "record it again."
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
            f"Cannot download {url}: {error}. Check the network and try again. {by_hand}"
        ) from error
    if done < total or not done:
        raise DownloadError(
            f"The download of {url} must have {total} bytes, got {done}. Try again. {by_hand}"
        )
