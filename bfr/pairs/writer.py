"""Writing the pairs folder so that it can be stopped at any moment and by several at once.

One program writes to a folder at a time (`bfr.files.lock`), with one or several processes. The
lists are only ever replaced as a whole. While a set is being made, each process appends what it
has done to parts of its own (``manifest.part0.jsonl``), which readers see as well. Every stage
ends with merging them, and after an interruption the next run begins with it. So the folder can be
read at any moment, and at most the line that was being written is lost.

Verdicts are no part of this: they are appended to ``marks.jsonl`` (`add_marks`), so that pairs can
be rejected while a set is being made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ImageError, OutputError
from ..files.checksums import file_sha256
from ..files.lock import only_writer
from ..files.photos import Photo, read_photo
from ..files.whole import check_writable, remove_leftovers
from ..files.writing import write_photo
from ..image.tensors import from_uint8, to_uint8
from ..runtime.processes import Share
from .folder import KINDS, image_path, in_order, read_lists
from .format import MANIFEST, MARKS, SOURCES, list_file, part_files
from .lines import append_lines, refuse_link, write_lines
from .pair import Pair, Photograph

_STAGES = {"lq": "crop", "guess": "guess", "target": "target"}


class PairWriter:
    """A pairs folder being written, by one process or by one of several.

    Use it in a ``with`` statement. Entering locks the folder, repairs what an interrupted run left
    and merges its parts; leaving merges this run's.

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
        self._open = ExitStack()

    def __enter__(self) -> PairWriter:
        with ExitStack() as stack:
            if self.share.rank == 0:
                check_writable(self.folder)
                for kind in KINDS:
                    refuse_link(self.folder / kind)
                stack.enter_context(only_writer(self.folder))
                for folder in (self.folder, *(self.folder / kind for kind in KINDS)):
                    check_writable(folder)
                    remove_leftovers(folder, locked=True)
            self.sync()
            self._open = stack.pop_all()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._open:
            if kind is None:
                self.sync()
            elif self.share.count == 1:
                self._merge()

    def sync(self) -> None:
        """Waits for the other processes, and learns what all have done.

        The parts are merged first: if two parts have a line about one pair, neither is known to be
        newer.
        """
        self.share.wait()
        lists = self._merge() if self.share.rank == 0 else None
        self.share.wait()
        self.pairs, self.photographs = lists or read_lists(self.folder)
        self.share.wait()

    def put(self, pairs: Iterable[Pair]) -> None:
        """Records pairs, new or changed.

        Raises:
            OutputError: if the disk is full or the folder gone; also of the other methods.
        """
        pairs = list(pairs)
        self.pairs.update({pair.name: pair for pair in pairs})
        self._append(MANIFEST, [asdict(pair) for pair in pairs])

    def put_photograph(self, photograph: Photograph) -> None:
        """Records what is known of a photograph."""
        self.photographs[photograph.path] = photograph
        self._append(SOURCES, [asdict(photograph)])

    def forget(self, pairs: Sequence[Pair], kind: str) -> list[Pair]:
        """Marks an image as not made, before it is made again."""
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
        """True if an image was made and is still there; a damaged one counts as missing.

        Raises:
            ImageError: if another image is in its place, which might be someone's work.
        """
        path = image_path(self.folder, kind, pair.name)
        if kind not in pair.sha256 or path.is_symlink() or not path.is_file():
            return False
        if file_sha256(path) == pair.sha256[kind]:
            return True
        try:
            read_photo(path)
        except ImageError:
            return False
        raise ImageError(
            f"{path} must be the image that was made, got another: it was exchanged or edited. "
            "Delete it to have it made again, or put the old one back."
        )

    def drop(self, pair: Pair) -> None:
        """Deletes a pair and its images."""
        try:
            for kind in KINDS:
                image_path(self.folder, kind, pair.name).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"Cannot delete {error.filename}: {error.strerror}. Check its folder's permissions."
            ) from error
        del self.pairs[pair.name]
        self._append(MANIFEST, [{"name": pair.name, "removed": True}])

    def _append(self, kind: str, entries: Sequence[Mapping[str, Any]]) -> None:
        path = self.folder / f"{kind}.part{self.share.rank}.jsonl"
        append_lines(path, entries)

    def _merge(self) -> tuple[dict[str, Pair], dict[str, Photograph]]:
        pairs, photographs = read_lists(self.folder)
        ordered = in_order(pairs.values())
        write_lines(list_file(self.folder, MANIFEST), map(asdict, ordered))
        by_path = (photographs[path] for path in sorted(photographs))
        write_lines(list_file(self.folder, SOURCES), map(asdict, by_path))
        for path in part_files(self.folder, MANIFEST) + part_files(self.folder, SOURCES):
            path.unlink()
        return pairs, photographs


def add_marks(folder: Path, pairs: Iterable[Pair]) -> None:
    """Records the status and reason of pairs; also while a set is being made.

    Raises:
        InputError: if the list of marks is a link.
        OutputError: if it cannot be written.
    """
    path = list_file(folder, MARKS)
    refuse_link(path)
    marks = [
        {
            "name": pair.name,
            "status": pair.status,
            "reason": pair.reason,
            "target": pair.sha256.get("target", ""),
        }
        for pair in pairs
    ]
    append_lines(path, marks)


def write_pair(
    writer: PairWriter, name: str, lq: Tensor, guess: Tensor, target: Tensor, **facts: Any
) -> Pair:
    """Records a finished pair whose images come from elsewhere.

    Args:
        writer: of the set.
        name: of the pair; a plain file name.
        lq: 1×3×S×S RGB in [0, 1], the degraded face.
        guess: the first guess, alike.
        target: the target, alike.
        facts: further fields of `Pair`; ``guess`` and ``target`` would be ambiguous and are set
            here.

    Returns:
        The pair as it is recorded.
    """
    plain = {
        "source": f"{name}.png",
        "source_sha256": pixels_sha256(as_written(lq)),
        "face": 0,
        "image_to_crop": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        "landmarks": [],
        "score": 1.0,
    }
    pair = Pair(name=name, **{**plain, **facts})
    for kind, image in zip(KINDS, (lq, guess, target), strict=True):
        pair = writer.write_image(pair, kind, image)
    made_from = {"guess": {"lq": pair.sha256["lq"]}, "target": {"guess": pair.sha256["guess"]}}
    pair = replace(pair, **made_from)
    writer.put([pair])
    return pair


def as_written(image: Tensor) -> Tensor:
    """A 1×3×S×S image on the CPU with the 8 bits per channel that its file will have."""
    return from_uint8(to_uint8(image))


def pixels_sha256(image: Tensor) -> str:
    """The checksum of an image's size and pixels."""
    values = (image * 255).round().to(torch.uint8).contiguous().numpy()
    return hashlib.sha256(str(values.shape).encode() + values.tobytes()).hexdigest()
