"""A pairs folder that many machines write to at once, on shared storage or in an object store.

The pairs of a photograph are made in a folder of their worker's own and then put in place: first
the images, then a part of each list whose number follows from the photograph. The part of
``sources.jsonl`` is last and says that the photograph is done, so what a dead worker leaves does
not count. Readers know parts (`bfr.pairs.folder`): the folder is a pairs folder at any moment.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from ..errors import ImageError
from ..faces.retinaface import Detector
from ..files.places import files_below, is_remote, local_copy
from ..files.sources import Source
from ..files.whole import copy_file
from ..prior.guidance import Guidance
from ..prior.prior import Prior
from ..prior.settings import fingerprint
from ..restore.restorer import Restorer
from .build import build_pairs, crop_size
from .crops import Search, is_fresh
from .folder import KINDS, image_path, in_order, pair_name, pair_seed, read_lists, same_parameters
from .format import MANIFEST, SOURCES, is_list, list_file
from .guesses import made_by
from .lines import write_lines
from .pair import Pair, Photograph
from .run import BuildReport
from .settings import PairSettings
from .writer import PairWriter


@dataclass(frozen=True, slots=True)
class MadeWith:
    """What pairs are made with, as their lines record it.

    Attributes:
        crop: of the crops.
        guess: of the guesses, besides their crop.
        target: of the targets, besides their guess and seed.
        seed: of the set.
    """

    crop: Mapping[str, Any]
    guess: Mapping[str, Any]
    target: Mapping[str, Any]
    seed: int

    def fits(self, pair: Pair) -> bool:
        """Whether a pair is complete and made with the same, or rejected by hand."""
        if pair.settled:
            return True
        seed = pair_seed(self.seed, pair.source_sha256, pair.face)
        return pair.complete and all(
            same_parameters(made, wanted)
            for made, wanted in (
                (pair.crop, self.crop),
                (pair.guess, {"lq": pair.sha256["lq"], **self.guess}),
                (pair.target, {"guess": pair.sha256["guess"], "seed": seed, **self.target}),
            )
        )


@dataclass(frozen=True, slots=True)
class Maker:
    """The networks and settings that pairs are made with; arguments of `build_pairs`."""

    detector: Detector
    restorer: Restorer
    prior: Prior
    settings: PairSettings

    def made_with(self) -> MadeWith:
        """What it records of them."""
        settings = self.settings
        sample = settings.sample or Guidance().settings(self.prior)
        size = crop_size(settings, self.restorer, self.prior)
        return MadeWith(
            Search(self.detector, settings.score, settings.min_size, size).parameters(),
            made_by(self.restorer, settings.fidelity),
            fingerprint(self.prior, sample),
            sample.seed,
        )

    def put(self, source: Source, out: Path) -> int:
        """Makes the pairs of a photograph and puts them into a shared folder.

        Args:
            source: the photograph.
            out: the folder, made by `shared_folder`.

        Returns:
            The number of faces.

        Raises:
            ImageError: if the photograph cannot be read, or something of it cannot be made.
            OutputError: if the folder cannot be written to.
            WeightsError: if a network gives NaN.
        """
        with local_copy(source.path) as path, tempfile.TemporaryDirectory(prefix="bfr-") as name:
            folder, place = Path(name), place_of(source)
            own = Source(path, source.name)
            report = build_pairs(
                [own], folder, self.detector, self.restorer, self.prior, self.settings
            )
            if report.problems:
                raise ImageError("; ".join(problem for _, problem in report.problems))
            pairs, photographs = read_lists(folder)
            (photograph,) = photographs.values()
            for pair in pairs.values():
                for kind in KINDS:
                    copy_file(image_path(folder, kind, pair.name), image_path(out, kind, pair.name))
        lines = [asdict(replace(pair, source=place)) for pair in in_order(pairs.values())]
        if lines:
            write_lines(_part(out, MANIFEST, place), lines)
        write_lines(_part(out, SOURCES, place), [asdict(replace(photograph, path=place))])
        return len(lines)


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


def place_of(source: Source) -> str:
    """How a photograph's place is recorded: its URL, or its absolute path."""
    return str(source.path if is_remote(source.path) else source.path.resolve())


def _names(photograph: Photograph) -> list[str]:
    """The names of a photograph's pairs."""
    faces = range(photograph.faces or 0)
    return [pair_name(photograph.path, photograph.sha256, face) for face in faces]


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _part(out: Path, kind: str, place: str) -> Path:
    number = int(hashlib.sha256(place.encode(errors="surrogatepass")).hexdigest()[:15], 16)
    return out / f"{kind}.part{number + 1}.jsonl"  # 0 is the writer's own
