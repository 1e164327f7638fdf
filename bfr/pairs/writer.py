"""Writing the pairs folder so that it can be stopped at any moment and by several at once.

Both lists of the folder are only ever replaced as a whole. While a set is being made, each process
appends what it has done to parts of its own (``manifest.part0.jsonl``), which readers see as well.
Every stage of the work ends with merging them; after an interruption the next run begins with it.
So whenever the work is stopped, the folder can be read, and at most the line that was being
written is lost.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import OutputError
from ..files.checksums import file_sha256
from ..files.photos import Photo, write_photo
from ..files.whole import atomic_path, check_writable
from ..image.tensors import from_uint8, to_uint8
from ..runtime.processes import Share
from .folder import KINDS, MANIFEST, SOURCES, Pair, Photograph, image_path, in_order, read_list

_PARTIAL = re.compile(r"\.[0-9a-f]{32}\.part")  # what `atomic_path` leaves when it is killed
_STAGES = {"lq": "crop", "guess": "guess", "target": "target"}


class PairWriter:
    """A pairs folder being written by one of several processes.

    Use it in a ``with`` statement. Entering repairs what an interrupted run left and merges its
    parts; leaving merges this run's.

    Attributes:
        folder: the pairs folder; made if missing.
        share: this process's share of the work.
        pairs: the pairs by name, as this process knows them; `sync` adds the others'.
        photographs: the photographs by path.
    """

    def __init__(self, folder: Path, share: Share | None = None):
        self.folder, self.share = folder, share or Share()
        self.pairs: dict[str, Pair] = {}
        self.photographs: dict[str, Photograph] = {}

    def __enter__(self) -> PairWriter:
        if self.share.rank == 0:
            for folder in (self.folder, *(self.folder / kind for kind in KINDS)):
                check_writable(folder)
                for path in folder.iterdir():
                    if _PARTIAL.fullmatch(path.name):
                        path.unlink(missing_ok=True)
        self.sync()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.sync()
        elif self.share.count == 1:
            self._merge()

    def sync(self) -> None:
        """Waits for the other processes, and learns what all have done.

        The parts are merged first: of two parts with a line about one pair, none is the newer.
        """
        self.share.wait()
        if self.share.rank == 0:
            self._merge()
        self.share.wait()
        self.pairs = read_list(self.folder, MANIFEST)
        self.photographs = read_list(self.folder, SOURCES)
        self.share.wait()

    def put(self, pairs: Iterable[Pair]) -> None:
        """Writes down pairs, new or changed.

        Raises:
            OutputError: if the disk is full or the folder gone; also of the other methods.
        """
        pairs = list(pairs)
        self.pairs.update({pair.name: pair for pair in pairs})
        self._append(MANIFEST, [asdict(pair) for pair in pairs])

    def put_photograph(self, photograph: Photograph) -> None:
        """Writes down what is known of a photograph."""
        self.photographs[photograph.path] = photograph
        self._append(SOURCES, [asdict(photograph)])

    def forget(self, pairs: Sequence[Pair], kind: str) -> list[Pair]:
        """Takes back that an image is made, before it is made again."""
        forgotten = []
        for pair in pairs:
            others = {other: sha256 for other, sha256 in pair.sha256.items() if other != kind}
            forgotten.append(replace(pair, sha256=others, **{_STAGES[kind]: {}}))
        known = [new for new, old in zip(forgotten, pairs, strict=True) if new != old]
        if known:
            self.put(known)
        return forgotten

    def write_image(self, pair: Pair, kind: str, image: Tensor) -> Pair:
        """Writes an image of a pair, 1×3×S×S in [0, 1], and returns the pair with its checksum."""
        path = image_path(self.folder, kind, pair.name)
        write_photo(path, Photo(image))
        return replace(pair, sha256={**pair.sha256, kind: file_sha256(path)})

    def has_image(self, pair: Pair, kind: str) -> bool:
        """Whether an image was made and is still there."""
        path = image_path(self.folder, kind, pair.name)
        return kind in pair.sha256 and path.is_file() and path.stat().st_size > 0

    def drop(self, pair: Pair) -> None:
        """Deletes a pair and its images."""
        try:
            for kind in KINDS:
                image_path(self.folder, kind, pair.name).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"Cannot delete {error.filename}: {error.strerror}.") from error
        del self.pairs[pair.name]
        self._append(MANIFEST, [{"name": pair.name, "removed": True}])

    def _append(self, kind: str, lines: list[dict[str, Any]]) -> None:
        path = self.folder / f"{kind}.part{self.share.rank}.jsonl"
        try:
            with path.open("ab") as file:
                file.write(b"".join(map(_line, lines)))
        except OSError as error:
            raise OutputError(
                f"Cannot write {path}: {error.strerror or error}. Make room on the disk or check "
                "the folder, and run the same again: what is done is kept."
            ) from error

    def _merge(self) -> None:
        pairs = in_order(read_list(self.folder, MANIFEST).values())
        photographs = read_list(self.folder, SOURCES)
        write_list(self.folder / f"{MANIFEST}.jsonl", pairs)
        write_list(self.folder / f"{SOURCES}.jsonl", [photographs[p] for p in sorted(photographs)])
        for path in self.folder.glob("*.part*.jsonl"):
            path.unlink()


def write_list(path: Path, entries: Iterable[Pair | Photograph]) -> None:
    """Replaces a list as a whole; one that would not change is left alone."""
    lines = b"".join(_line(asdict(entry)) for entry in entries)
    if path.is_file() and path.read_bytes() == lines:
        return
    with atomic_path(path) as partial:
        partial.write_bytes(lines)


def as_written(image: Tensor) -> Tensor:
    """A 1×3×S×S image on the CPU with the 8 bits a channel that its file will have."""
    return from_uint8(to_uint8(image))


def pixels_sha256(image: Tensor) -> str:
    """The checksum of an image's size and pixels."""
    values = (image * 255).round().to(torch.uint8).contiguous().numpy()
    return hashlib.sha256(str(values.shape).encode() + values.tobytes()).hexdigest()


def _line(entry: dict[str, Any]) -> bytes:
    text = json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="surrogatepass")  # a file's name may be no text
