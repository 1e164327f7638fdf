"""What the command line prints and reports: lines of progress, results, and the JSON report."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import FaceRestorationError
from ..files.sources import Source
from ..files.whole import atomic_path
from ..records import Face, counted

log = logging.getLogger(__name__)

DONE, SOME_FAILED = 0, 1


Faces = tuple[Face, ...]
Report = list[dict[str, Any]]


def process(
    sources: Sequence[Source],
    work: Callable[[Source], Faces],
    say: Callable[[str], None],
    report: Path | None = None,
) -> int:
    """Works on one image after the other; a failure is told and does not stop the rest.

    Args:
        sources: the image files.
        work: what is done with each; returns the faces in it.
        say: takes a line of progress.
        report: the JSON file to write, also when interrupted; None for none.

    Returns:
        How many images failed.

    Raises:
        OutputError: if the report cannot be written; checked before the work.
    """
    entries: Report = []
    if report is not None:
        write_report(report, entries)
    try:
        for index, source in enumerate(sources, 1):
            start, faces, problem = time.monotonic(), (), None
            try:
                faces = work(source)
                outcome = count_faces(faces)
            except FaceRestorationError as error:
                problem = str(error)
                outcome = f"failed: {problem}"
            except Exception as error:
                log.debug("%s failed here:", source.path, exc_info=True)
                problem = f"{type(error).__name__}: {error}"
                outcome = f"failed unexpectedly: {problem} (--verbose shows where)"
            seconds = time.monotonic() - start
            entries.append(report_entry(source.path, faces, seconds, problem))
            say(f"[{index}/{len(sources)}] {source.path}: {outcome}, {seconds:.1f} s")
    finally:
        if report is not None:
            write_report(report, entries)
    return sum(entry["error"] is not None for entry in entries)


def count_faces(faces: Faces) -> str:
    """The number of faces in words."""
    return counted(len(faces), "face") if faces else "no faces"


def report_entry(path: Path, faces: Faces, seconds: float, error: str | None) -> dict[str, Any]:
    """What the report says about one image; coordinates are pixels of the upright photograph."""
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


def write_report(path: Path, entries: Report) -> None:
    """Writes the report as JSON, as a whole or not at all.

    Raises:
        OutputError: if it cannot be written.
    """
    with atomic_path(path) as partial:
        partial.write_text(json.dumps({"images": entries}, indent=1) + "\n", encoding="utf-8")


def tell(line: object) -> None:
    """Writes a line of results to the standard output."""
    sys.stdout.write(f"{line}\n")


def say(line: str) -> None:
    """Writes a line of progress or an error to the standard error output."""
    print(line, file=sys.stderr, flush=True)
