"""Checks that our own weights are unchanged: embedded files, copies of them, tuned files.

Files of other programs have no checksum to compare.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from ..errors import CorruptWeightsError
from .checksums import file_sha256, tensors_sha256
from .manifest import EMBEDDED_DIR

CHECKSUMS = EMBEDDED_DIR / "SHA256SUMS"
"""The checksums of the embedded weights, as ``sha256sum`` writes and checks them."""

TENSORS = "tensors_sha256"
"""The metadata that holds the checksum of a file's tensors (`tensors_sha256`)."""

SEAL = "sealed_sha256"
"""The metadata that holds the checksum of an ONNX file of ours: that of its bytes with `UNSEALED`
in the checksum's place."""

UNSEALED = hashlib.sha256(b"unsealed").hexdigest()

# The first detector, which had the header of a later one.
_EARLIER = frozenset({"cbb58c29fa579eeffdf4324236d37c7a4330e2874753fc47e888012735fed953"})
_LONGEST = 1_000_000  # bytes of a header of ours


def verify_file(path: Path) -> None:
    """Compares embedded weights, and copies of them anywhere, with their checksum.

    A copy is known by its header: names, shapes and provenance.

    Raises:
        CorruptWeightsError: if their bytes are others.
    """
    if path.resolve().parent == EMBEDDED_DIR:
        expected, cure = embedded_checksums().get(path.name), "Install the pack again."
    else:
        expected = checksums_by_header().get(_header(path))
        cure = "Copy the file again from the pack's folder weights."
    if expected is None:
        return
    if (found := file_sha256(path)) != expected and found not in _EARLIER:
        raise CorruptWeightsError(
            f"{path} must have the sha256 {expected}, got {found}: the file is damaged. {cure}"
        )


def verify_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Compares the tensors of a file with the checksum in its metadata, if it holds one.

    Raises:
        CorruptWeightsError: if they are others.
    """
    expected = metadata.get(TENSORS)
    if expected is not None and tensors_sha256(tensors) != expected:
        raise CorruptWeightsError(
            f"{path} must hold the tensors that it was written with ({TENSORS} in its metadata), "
            "got others: it is damaged, or was changed by another program. Get it again, or save "
            "a changed network without that entry."
        )


def seal(path: Path) -> None:
    """Puts the checksum of a file into it, where it says `UNSEALED`."""
    content = path.read_bytes()
    path.write_bytes(
        content.replace(UNSEALED.encode(), hashlib.sha256(content).hexdigest().encode())
    )


def verify_seal(path: Path, metadata: Mapping[str, str]) -> None:
    """Compares an ONNX file with the checksum in its metadata, if it holds one.

    Raises:
        CorruptWeightsError: if its bytes are others.
    """
    expected = metadata.get(SEAL)
    if expected is None:
        return
    digest = hashlib.sha256()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.rfind(expected.encode())
        with memoryview(content) as view:
            digest.update(view[: max(start, 0)])
            digest.update(UNSEALED.encode())
            digest.update(view[start + len(expected) :])
    if digest.hexdigest() != expected:
        raise CorruptWeightsError(
            f"{path} must hold what it was written with ({SEAL} in its metadata), got something "
            "else: it is damaged, or was changed by another program. Export it again, or take "
            "that entry out of a changed file."
        )


@lru_cache(maxsize=1)
def embedded_checksums() -> dict[str, str]:
    """The checksums of the embedded weights by their names."""
    lines = CHECKSUMS.read_text(encoding="ascii").splitlines() if CHECKSUMS.is_file() else []
    pairs = (line.split() for line in lines)
    return {name.lstrip("*"): sha256 for sha256, name in pairs}


@lru_cache(maxsize=1)
def checksums_by_header() -> dict[bytes | None, str]:
    """The checksums of the embedded weights by the digests of their headers."""
    files = {name: EMBEDDED_DIR / name for name in embedded_checksums()}
    found = {
        _header(path): embedded_checksums()[name] for name, path in files.items() if path.is_file()
    }
    found.pop(None, None)
    return found


def _header(path: Path) -> bytes | None:
    """The digest of a safetensors file's header; None for another file."""
    with path.open("rb") as file:
        start = file.read(9)
        if len(start) < 9 or start[8:] != b"{":
            return None
        (length,) = struct.unpack("<Q", start[:8])
        return None if length > _LONGEST else hashlib.sha256(file.read(length - 1)).digest()
