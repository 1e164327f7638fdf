"""The pairs folder: degraded faces, first guesses, pseudo targets, and how each was made.

::

    lq/NAME.png        the degraded face, aligned
    guess/NAME.png     the restorer's first guess
    target/NAME.png    the pseudo target
    manifest.jsonl     one line a pair (`Pair`)
    sources.jsonl      one line a photograph (`Photograph`): what need not be looked at again

This module reads the folder, `bfr.pairs.writer` writes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ImageError, InputError
from ..files.photos import read_photo

log = logging.getLogger(__name__)

KINDS = ("lq", "guess", "target")
KEPT, REJECTED = "kept", "rejected"
FLAGGED = "flagged"
"""How the reason begins where a pair was rejected for its flags, and not by hand."""

MANIFEST, SOURCES = "manifest", "sources"


@dataclass(frozen=True, slots=True)
class Photograph:
    """What is known of a source; a line of ``sources.jsonl``.

    Attributes:
        path: the file.
        bytes: its length, which with ``modified`` says whether it must be read again.
        modified: its time of modification in nanoseconds.
        sha256: its checksum, by which a photograph is known whatever its name.
        faces: how many faces were found in it; None if that is not known.
        size: (height, width) of the upright photograph; (0, 0) if that is not known.
        crop: the parameters with which they were found.
    """

    path: str
    bytes: int
    modified: int
    sha256: str
    faces: int | None = None
    size: Sequence[int] = (0, 0)
    crop: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pair:
    """One pair; a line of ``manifest.jsonl``.

    ``crop``, ``guess`` and ``target`` hold the parameters with which each image was made; empty
    where it is not made yet. The guess's names the checksum of the crop that it was made from,
    and the target's that of the guess, so an image is made again just when what it depends on
    has changed.

    Attributes:
        name: the images' file name without suffix.
        source: the photograph's path, or the name of a crop that came without one.
        source_sha256: its checksum.
        face: the face's number in the photograph, from 0.
        image_to_crop: 2×3 matrix from pixels of the upright photograph to pixels of the crop.
        landmarks: the face's five (x, y) landmarks in pixels of the upright photograph.
        score: the detector's confidence in [0, 1].
        crop: detector, least score and size, crop size.
        guess: restorer and fidelity, or the file that the guess came from.
        target: prior, seed, and all settings of the sampling.
        sha256: the checksums of the images by their kind.
        status: "kept" or "rejected".
        reason: why it was rejected; "by hand" also if it was kept by hand.
        flags: what the review found suspicious.
        measures: the figures that the flags follow from; None where there is none.
    """

    name: str
    source: str
    source_sha256: str
    face: int
    image_to_crop: Sequence[Sequence[float]]
    landmarks: Sequence[Sequence[float]]
    score: float
    crop: Mapping[str, Any] = field(default_factory=dict)
    guess: Mapping[str, Any] = field(default_factory=dict)
    target: Mapping[str, Any] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    status: str = KEPT
    reason: str = ""
    flags: Sequence[str] = ()
    measures: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def guessed(self) -> bool:
        """Whether its guess is made, from the present crop."""
        return "guess" in self.sha256 and self.guess.get("lq") == self.sha256.get("lq")

    @property
    def complete(self) -> bool:
        """Whether its target is made, from the present guess and crop."""
        present = "target" in self.sha256 and self.target.get("guess") == self.sha256.get("guess")
        return present and self.guessed

    @property
    def settled(self) -> bool:
        """Whether it was rejected by hand, and not for its flags: it is not made again."""
        return self.status == REJECTED and not self.reason.startswith(FLAGGED)


@dataclass(frozen=True, slots=True)
class PairSet:
    """A pairs folder that was read; the ``BFR_PAIRS`` socket.

    Attributes:
        folder: where it is.
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
    """The file of the image of that kind and pair."""
    return folder / kind / f"{name}.png"


def read_pairs(folder: str | Path) -> PairSet:
    """Reads a pairs folder, finished or not; nothing is written.

    Raises:
        InputError: if it is no pairs folder, or a line of its manifest was damaged by hand.
    """
    folder = Path(folder)
    if not any(folder.glob(f"{MANIFEST}*.jsonl")):
        raise InputError(
            f"{folder} is no pairs folder: it has no {MANIFEST}.jsonl. "
            "Make one: python -m bfr targets PHOTOS -o FOLDER"
        )
    return PairSet(folder, tuple(in_order(read_list(folder, MANIFEST).values())))


def read_image(folder: Path, kind: str, pair: Pair) -> Tensor:
    """An image of a pair, 1×3×S×S float32 RGB in [0, 1].

    Raises:
        ImageError: if it is missing or damaged.
    """
    path = image_path(folder, kind, pair.name)
    try:
        return read_photo(path).pixels
    except ImageError as error:
        raise ImageError(
            f"{error} Or delete it, and build the set again: it is re-made."
        ) from error


def pair_name(source: str, sha256: str, face: int) -> str:
    """A name that no other face of any photograph has, and that every tool can read.

    It is the source's name in plain letters, ten figures of its checksum and the face's number.
    """
    plain = unicodedata.normalize("NFKD", Path(source).stem).encode("ascii", "ignore").decode()
    word = re.sub("[^A-Za-z0-9]+", "-", plain)[:40].strip("-")
    return f"{word or 'photo'}-{sha256[:10]}-{face}"


def pair_seed(base: int, source_sha256: str, face: int) -> int:
    """The seed of a pair, which follows from its source and the set's seed and nothing else."""
    digest = hashlib.sha256(f"{base} {source_sha256} {face}".encode()).digest()
    return int.from_bytes(digest[:6], "big")  # 48 bits: exact in any JSON reader


def same_parameters(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether two stages' parameters agree; what networks are called does not matter."""
    return _essence(stored) == _essence(json.loads(json.dumps(wanted)))


def _essence(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _essence(item) for key, item in value.items() if key != "name"}
    return value


def read_list(folder: Path, kind: str) -> dict[str, Any]:
    """The pairs by name, or the photographs by path, of a folder and of unmerged parts.

    Raises:
        InputError: if a line was damaged by hand.
    """
    make, key = (Pair, "name") if kind == MANIFEST else (Photograph, "path")
    entries: dict[str, Any] = {}
    for path in (folder / f"{kind}.jsonl", *sorted(folder.glob(f"{kind}.part*.jsonl"))):
        for number, line in _read_lines(path):
            if line.get("removed"):
                entries.pop(line[key], None)
                continue
            try:
                entries[line[key]] = make(**line)
            except (TypeError, KeyError) as error:
                raise InputError(
                    f"Line {number} of {path} is no {make.__name__.lower()} ({error}): it was "
                    "changed by hand or written by another version. Mend or delete the line."
                ) from error
    return entries


def _read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The numbered lines; a last one that was cut off in writing is told and left out."""
    if not path.is_file():
        return
    lines = path.read_bytes().splitlines()
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            if not isinstance(line, dict):
                raise ValueError("no object")
        except ValueError as error:
            if number < len(lines):
                raise InputError(
                    f"Line {number} of {path} is damaged ({error}). Mend it, or delete it: the "
                    "next run makes that pair again."
                ) from error
            log.warning("The last line of %s was cut off and does not count.", path)
            return
        yield number, line


def in_order(pairs: Iterable[Pair]) -> list[Pair]:
    """Pairs in the order of their sources and faces."""
    return sorted(pairs, key=lambda pair: (pair.source, pair.face, pair.name))
