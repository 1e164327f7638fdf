"""Files that are called weights and are something else: pictures, web pages, bombs."""

from __future__ import annotations

import string
import zipfile
from pathlib import Path

from ..errors import CorruptWeightsError
from .manifest import get_again

_MOST_UNPACKED = 20  # times the length of a file; PyTorch itself does not compress
_OTHERS = {
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"RIFF": "a picture or a sound",
    b"II*\0": "a picture",
    b"MM\0*": "a picture",
    b"%PDF": "a PDF",
    b"7z\xbc\xaf": "an archive, to be unpacked first",
    b"Rar!": "an archive, to be unpacked first",
    b"\x1f\x8b": "an archive, to be unpacked first",
    b"GGUF": "a GGUF file, for language and latent diffusion models",
    b"\x7fELF": "a program",
    b"MZ": "a program",
}


def refuse_bomb(path: Path) -> None:
    """Refuses an archive that unpacks to far more than its length."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CorruptWeightsError(
            f"{path} must be a weights file, got a damaged archive ({error}). "
            f"{get_again(path.name)}"
        ) from error
    if unpacked > _MOST_UNPACKED * path.stat().st_size:
        raise CorruptWeightsError(
            f"{path} must hold about as much as its {path.stat().st_size} bytes, got an archive "
            f"that unpacks to {unpacked}. Do not use it."
        )


def refuse_repeated(needed: int, path: Path) -> None:
    """Refuses weights whose tensors, which may share their bytes, need far more than its length.

    Args:
        needed: bytes of all tensors, each counted by itself.
        path: the file.
    """
    if needed > _MOST_UNPACKED * path.stat().st_size:
        raise CorruptWeightsError(
            f"{path} must hold plain tensors of about its {path.stat().st_size} bytes, got some of "
            f"{needed}, which share them. Do not use it."
        )


def is_text(head: bytes) -> bool:
    """True if a file begins like a web page, or like what git leaves of a large file.

    The length at the beginning of a safetensors file may look like one, too, but for its zeros.
    """
    return b"\0" not in head and head.lstrip().startswith((b"<", b"version https://git-lfs"))


def refuse_others(head: bytes, path: Path) -> None:
    """Refuses what is called a weights file and is something else."""
    if is_text(head):
        raise CorruptWeightsError(
            f"{path} must be a weights file, got a web page or a pointer to the file: the link was "
            f"opened instead of saved. {get_again(path.name)}"
        )
    kind = next((kind for start, kind in _OTHERS.items() if head.startswith(start)), None)
    if kind is None and head.strip() and not head.strip(string.printable.encode()):
        kind = "text"
    if kind is not None:
        raise CorruptWeightsError(
            f"{path} must be a weights file, got {kind}. {get_again(path.name)}"
        )
