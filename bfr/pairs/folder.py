"""The pairs folder: degraded faces, first guesses, pseudo targets, and how each was made.

::

    lq/NAME.png        the degraded face, aligned
    guess/NAME.png     the restorer's first guess
    target/NAME.png    the pseudo target
    manifest.jsonl     one line per pair (`Pair`)
    sources.jsonl      one line per photograph (`Photograph`): what need not be looked at again
    marks.jsonl        one line per verdict: which pair was rejected or kept, and why

A folder may come from a stranger. Its lists are read strictly (`bfr.pairs.format`), its images
are compared with their checksums, and links in it are refused. This module reads the folder,
`bfr.pairs.writer` writes it.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ImageError, InputError
from ..files.checksums import file_sha256
from ..files.photos import read_photo
from .format import (
    FLAGGED,
    KEPT,
    MANIFEST,
    MARKS,
    REJECTED,
    SOURCES,
    list_file,
    part_files,
    read_entries,
)
from .lines import check_image_file, refuse_link
from .pair import Pair, Photograph

KINDS = ("lq", "guess", "target")


@dataclass(frozen=True, slots=True)
class PairSet:
    """A pairs folder that was read; the ``BFR_PAIRS`` socket.

    Attributes:
        folder: its path.
        pairs: all pairs, in the order of their sources and faces.
    """

    folder: Path
    pairs: tuple[Pair, ...]

    @property
    def kept(self) -> tuple[Pair, ...]:
        """The pairs to train with: complete, and not rejected."""
        return tuple(pair for pair in self.pairs if pair.complete and pair.status == KEPT)

    def path(self, kind: str, pair: Pair) -> Path:
        """The file of a pair's "lq", "guess" or "target"."""
        return image_path(self.folder, kind, pair.name)


def image_path(folder: Path, kind: str, name: str) -> Path:
    """The file of a pair's "lq", "guess" or "target", by the pair's name."""
    return folder / kind / f"{name}.png"


def read_pairs(folder: str | Path) -> PairSet:
    """Reads a pairs folder, finished or not; nothing is written.

    Raises:
        InputError: if it is no pairs folder, or a line of its lists is not what it should be.
    """
    folder = Path(folder)
    if not (list_file(folder, MANIFEST).exists() or part_files(folder, MANIFEST)):
        raise InputError(
            f"{folder} must be a pairs folder, got one without {MANIFEST}.jsonl. Build the "
            "training pairs first, or check the name."
        )
    return PairSet(folder, tuple(in_order(read_lists(folder)[0].values())))


def read_image(folder: Path, kind: str, pair: Pair) -> Tensor:
    """An image of a pair, 1×3×S×S float32 RGB in [0, 1].

    Raises:
        ImageError: if it is missing, damaged, another than was made, a link or not square.
    """
    path = image_path(folder, kind, pair.name)
    refuse_link(path.parent)
    check_image_file(path)
    try:
        pixels = read_photo(path).pixels
    except ImageError as error:
        raise ImageError(
            f"{error} Or delete it and build the set again, which remakes it."
        ) from error
    if kind in pair.sha256 and file_sha256(path) != pair.sha256[kind]:
        raise ImageError(
            f"{path} must have the sha256 {pair.sha256[kind][:12]}… that the set records, got "
            "another: it was exchanged or edited. Put the old file back, or delete it and build "
            "the set again, which remakes it."
        )
    if pixels.shape[-1] != pixels.shape[-2]:
        raise ImageError(
            f"{path} must be square, got {pixels.shape[-1]}×{pixels.shape[-2]} pixels. Delete it "
            "and build the set again, which remakes it."
        )
    return pixels


def pair_name(source: str, sha256: str, face: int) -> str:
    """A name that no other face of any photograph has, and that every tool can read.

    It is the source's name in plain letters, ten digits of its checksum and the face's number.
    """
    plain = unicodedata.normalize("NFKD", Path(source).stem).encode("ascii", "ignore").decode()
    word = re.sub("[^A-Za-z0-9]+", "-", plain)[:40].strip("-")
    return f"{word or 'photo'}-{sha256[:10]}-{face}"


def pair_seed(base: int, source_sha256: str, face: int) -> int:
    """The seed of a pair, which follows from its source and the set's seed alone."""
    digest = hashlib.sha256(f"{base} {source_sha256} {face}".encode()).digest()
    return int.from_bytes(digest[:6], "big")  # 48 bits: exact in any JSON reader


def same_parameters(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """True if two stages' parameters agree, whatever their networks are called."""
    return _essence(stored) == _essence(json.loads(json.dumps(wanted)))


def _essence(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _essence(item) for key, item in value.items() if key != "name"}
    return value


def read_lists(folder: Path) -> tuple[dict[str, Pair], dict[str, Photograph]]:
    """The pairs by name and the photographs by path, with what is not merged yet.

    Raises:
        InputError: if a line is not what it should be, or part of the folder is a link.
    """
    for kind in KINDS:
        refuse_link(folder / kind)
    # Parts first: merging moves their lines into the list, and never out of it.
    parts = {
        kind: [line for path in part_files(folder, kind) for line in read_entries(path, kind)]
        for kind in (MANIFEST, SOURCES)
    }
    pairs: dict[str, Pair] = {}
    for line in read_entries(list_file(folder, MANIFEST), MANIFEST) + parts[MANIFEST]:
        if "removed" in line:
            pairs.pop(line["name"], None)
        else:
            pairs[line["name"]] = Pair(**line)
    for mark in read_entries(list_file(folder, MARKS), MARKS):
        if (pair := pairs.get(mark["name"])) is not None and _still_meant(mark, pair):
            pairs[pair.name] = replace(pair, status=mark["status"], reason=mark["reason"])
    photographs = read_entries(list_file(folder, SOURCES), SOURCES) + parts[SOURCES]
    return pairs, {line["path"]: Photograph(**line) for line in photographs}


def _still_meant(mark: Mapping[str, Any], pair: Pair) -> bool:
    """True if a mark is about the present target; what is rejected by hand stays so anyway."""
    by_hand = mark["status"] == REJECTED and not mark["reason"].startswith(FLAGGED)
    return by_hand or mark["target"] == pair.sha256.get("target", "")


def in_order(pairs: Iterable[Pair]) -> list[Pair]:
    """Pairs in the order of their sources and faces."""
    return sorted(pairs, key=lambda pair: (pair.source, pair.face, pair.name))
