"""A pairs folder that many machines write to at once, on shared storage or in an object store.

Workers put the pairs of a photograph into it (`Maker`), and whoever gives out the work says what is
missing and merges the lists.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from ..files.places import files_below, is_remote
from ..files.sources import Source
from ..files.whole import copy_file
from .crops import is_fresh
from .folder import KINDS, image_path, in_order, pair_name, same_parameters
from .format import MANIFEST, SOURCES, is_list, list_file
from .maker import MadeWith, place_of
from .pair import Pair, Photograph
from .run import BuildReport
from .writer import PairWriter


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """A shared pairs folder, seen from where the work is given out.

    Attributes:
        out: the folder.
        writer: its lists; of a remote folder those of a local copy without images.
    """

    out: Path
    writer: PairWriter
    _merged: set[str] = field(default_factory=set)

    def undone(self, sources: Sequence[Source], made: MadeWith) -> list[Source]:
        """The sources of which something is missing, or made with something else.

        The images are looked for in one listing and not read. A remote photograph is known by its
        URL: whether it changed is not asked.
        """
        present = {str(path) for path in files_below(self.out)}
        found, seen = list[Source](), set[str]()
        for source in sources:
            known = self.writer.photographs.get(place_of(source))
            if known is None or not (is_remote(source.path) or is_fresh(known)):
                found.append(source)
            elif known.sha256 not in seen:  # of copies the first
                seen.add(known.sha256)
                if not self._is_done(known, made, present):
                    found.append(source)
        return found

    def _is_done(self, photograph: Photograph, made: MadeWith, present: set[str]) -> bool:
        if photograph.faces is None or not same_parameters(photograph.crop, made.crop):
            return False
        pairs = [self.writer.pairs.get(name) for name in _names(photograph)]
        return all(
            pair is not None
            and made.fits(pair)
            and all(str(image_path(self.out, kind, pair.name)) in present for kind in KINDS)
            for pair in pairs
        )

    def finish(self, sources: Sequence[Source]) -> BuildReport:
        """Merges what the workers have put, and reports on the set.

        Of photographs that are the same file the first of the sources counts, and pairs of faces
        that are no longer there are deleted, as `build_pairs` does.

        Args:
            sources: all of them, in order.

        Returns:
            A report without what was made now and what failed.
        """
        self.fetch(parts_alone=True)
        self.writer.sync()
        report = BuildReport()
        self._tidy([place_of(source) for source in sources], report)
        self.writer.sync()
        if is_remote(self.out):
            for kind in (MANIFEST, SOURCES):
                copy_file(list_file(self.writer.folder, kind), list_file(self.out, kind))
            if self._merged:
                cast(Any, self.out).fs.rm(sorted(self._merged))
        report.pairs = replace(report.pairs, folder=self.out, pairs=self._pairs())
        return report

    def _pairs(self) -> tuple[Pair, ...]:
        return tuple(in_order(self.writer.pairs.values()))

    def _tidy(self, places: Sequence[str], report: BuildReport) -> None:
        """Drops the pairs of duplicates and of vanished faces."""
        first: dict[str, Photograph] = {}
        for place in dict.fromkeys(places):
            photograph = self.writer.photographs.get(place)
            if photograph is None:
                continue
            other = first.setdefault(photograph.sha256, photograph)
            if other is not photograph:
                report.duplicates.append((place, other.path))
                bare = replace(photograph, faces=None, size=(0, 0), crop={})
                if photograph != bare:  # its pairs are the other's
                    self.writer.put_photograph(bare)
            elif photograph.faces == 0:
                report.faceless.append(place)
        wanted = {name: one.path for one in first.values() for name in _names(one)}
        known = set(places)
        for pair in self._pairs():
            if pair.name in wanted:
                if pair.source != wanted[pair.name]:
                    self.writer.put([replace(pair, source=wanted[pair.name])])
            elif pair.source in known or pair.source_sha256 in first:
                for kind in KINDS:
                    image_path(self.out, kind, pair.name).unlink(missing_ok=True)
                self.writer.drop(pair)
                report.removed += 1

    def fetch(self, *, parts_alone: bool) -> None:
        """Brings the lists of a remote folder to the local copy.

        Args:
            parts_alone: of the lists only what workers have put; the copy is newer than the rest.
        """
        if not is_remote(self.out):
            return
        remote = cast(Any, self.out)
        remote.fs.invalidate_cache()
        try:
            names = [name.rstrip("/") for name in remote.fs.ls(remote.path, detail=False)]
        except FileNotFoundError:
            return
        parts = [name for name in names if is_list(_last(name)) and ".part" in _last(name)]
        wanted = parts if parts_alone else [name for name in names if is_list(_last(name))]
        if wanted:
            remote.fs.get(wanted, [str(self.writer.folder / _last(name)) for name in wanted])
        self._merged.update(parts)


@contextmanager
def shared_folder(out: Path) -> Iterator[SharedFolder]:
    """Opens a shared pairs folder, and merges what an earlier run left in parts.

    A local one is locked. A remote one must have one run at a time.

    Raises:
        BusyError: if another process is writing to the folder.
        OutputError: if it cannot be written to.
        InputError: if its lists are damaged.
    """
    with ExitStack() as stack:
        folder = out
        if is_remote(out):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bfr-")))
        shared = SharedFolder(out, PairWriter(folder))
        shared.fetch(parts_alone=False)
        stack.enter_context(shared.writer)
        yield shared


def _names(photograph: Photograph) -> list[str]:
    """The names of a photograph's pairs."""
    faces = range(photograph.faces or 0)
    return [pair_name(photograph.path, photograph.sha256, face) for face in faces]


def _last(name: str) -> str:
    return name.rpartition("/")[2]
