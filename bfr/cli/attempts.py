"""Photographs one by one, side by side on this machine or on a cluster: how each went."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import FaceRestorationError
from ..files.places import same_in_every_folder
from ..files.sources import Source
from ..records import Face, counted
from .arguments import EMBEDDED, NONE, at_once_of
from .parts import Entry, Parts

log = logging.getLogger(__name__)

# Options that name a file.
_NETWORKS = ("detector", "restorer", "parser", "identity", "occlusion", "prior")


@dataclass(frozen=True, slots=True)
class Job:
    """One photograph to work on.

    Attributes:
        source: as the user named it, and the report names it.
        target: where its result goes, if there is one.
    """

    source: Source
    target: Path | None = None

    def anywhere(self) -> Job:
        """The same for a process with another working folder."""
        target = self.target and same_in_every_folder(self.target)
        return Job(Source(same_in_every_folder(self.source.path), self.source.name), target)


@dataclass(frozen=True, slots=True)
class Found:
    """The faces of a photograph, with what the report adds about each and about all of them."""

    faces: tuple[Face, ...]
    details: Sequence[Mapping[str, Any]] = ()
    told: str | None = None


Work = Callable[[Job], Found]


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of the work on a photograph.

    Attributes:
        entry: of the report.
        outcome: in words.
        faces: that were found.
    """

    entry: Entry
    outcome: str
    faces: tuple[Face, ...] = ()


def attempt(job: Job, work: Work, path: Path | None = None) -> Attempt:
    """Works on one photograph; what goes wrong becomes part of the attempt.

    Args:
        job: the photograph.
        work: what is done with it.
        path: how the report names it; None for as the job does.
    """
    start, found, problem = time.monotonic(), Found(()), None
    try:
        found = work(job)
        outcome = found.told or count_faces(found.faces)
    except FaceRestorationError as error:
        problem = str(error)
        outcome = f"failed: {problem}"
    except Exception as error:
        log.debug("%s failed here:", job.source.path, exc_info=True)
        problem = f"{type(error).__name__}: {error}"
        outcome = f"failed unexpectedly: {problem} (--verbose shows where)"
    seconds = time.monotonic() - start
    entry = report_entry(path or job.source.path, found.faces, seconds, problem)
    for face, added in zip(entry["faces"], found.details, strict=False):
        face.update(added)
    return Attempt(entry, outcome, found.faces)


def count_faces(faces: tuple[Face, ...]) -> str:
    """The number of faces in words."""
    return counted(len(faces), "face") if faces else "no faces"


def report_entry(path: Path, faces: tuple[Face, ...], seconds: float, error: str | None) -> Entry:
    """The report's entry about one image; coordinates are pixels of the upright photograph."""
    return {
        "path": str(path),
        "faces": [
            {
                "box": [round(value, 2) for value in face.box],
                "score": round(face.score, 4),
                "landmarks": [[round(x, 2), round(y, 2)] for x, y in face.landmarks],
            }
            for face in faces
        ],
        "seconds": round(seconds, 3),
        "error": error,
    }


def attempts(
    options: argparse.Namespace,
    jobs: Sequence[Job],
    load: Callable[[argparse.Namespace], Work],
    parts: Parts | None = None,
) -> Iterator[tuple[Source, Attempt]]:
    """Works on photographs, on this machine or with ``--ray`` on a cluster.

    Args:
        options: of the command.
        jobs: the photographs.
        load: the networks that the options name, and what is done with a photograph; called once
            in each worker of a cluster, and so a function that pickle knows by its name.
        parts: where the workers of a cluster put the entries of an unfinished report.

    Yields:
        Each photograph and how it went, in the order of the jobs.
    """
    if options.ray is not None:
        yield from _on_cluster(options, jobs, load, parts)
        return
    from ..runtime.side_by_side import in_order

    work = load(options)
    for job, done in in_order(jobs, lambda job: attempt(job, work), at_once_of(options, len(jobs))):
        yield job.source, done


def _on_cluster(
    options: argparse.Namespace,
    jobs: Sequence[Job],
    load: Callable[[argparse.Namespace], Work],
    parts: Parts | None,
) -> Iterator[tuple[Source, Attempt]]:
    from ..cluster.pool import cluster, needs_of, spread

    items = ((job.anywhere(), job.source) for job in jobs)
    loader = partial(_load_in_worker, load, anywhere(options), parts and parts.anywhere())
    with cluster(options.ray):
        for (_, source), done in spread(items, loader, _lost, needs_of(options.device)):
            yield source, done


def _load_in_worker(
    load: Callable[[argparse.Namespace], Work], options: argparse.Namespace, parts: Parts | None
) -> Callable[[tuple[Job, Source]], Attempt]:
    work = load(options)

    def attempt_and_keep(item: tuple[Job, Source]) -> Attempt:
        job, source = item
        done = attempt(job, work, source.path)
        if parts is not None:
            parts.write(source, done.entry)
        return done

    return attempt_and_keep


def _lost(item: tuple[Job, Source], why: str) -> Attempt:
    """The error for a photograph whose workers died repeatedly."""
    problem = f"Its worker died again and again: {why}"
    return Attempt(report_entry(item[1].path, (), 0.0, problem), f"failed: {problem}")


def anywhere(options: argparse.Namespace) -> argparse.Namespace:
    """The options for a process with another working folder: local paths are absolute."""
    given = dict(vars(options))
    for name, value in given.items():
        if isinstance(value, Path):
            given[name] = value.absolute()
        elif name == "person" and value:
            given[name] = [path.absolute() for path in value]
        elif name in _NETWORKS and value and value not in (EMBEDDED, NONE):
            file = Path(value)
            given[name] = str(file.absolute()) if file.exists() else value
    return argparse.Namespace(**given)
