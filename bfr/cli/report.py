"""Output of the command line: lines of progress and results, and the JSON report."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import FaceRestorationError, InputError
from ..files.reports import check_report, write_text
from ..files.sources import Source, unread_files
from ..records import Face, counted

log = logging.getLogger(__name__)

DONE, SOME_FAILED = 0, 1

Faces = tuple[Face, ...]
Report = list[dict[str, Any]]

_NAMED = 8  # files that are left out
_PAUSE = 2.0  # seconds between two versions of a report
# Names of files may hold what moves a terminal's cursor or turns the direction of text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def process(
    sources: Sequence[Source],
    work: Callable[[Source], Faces],
    say: Callable[[str], None],
    report: Path | None = None,
    earlier: Iterable[dict[str, Any]] = (),
    details: Mapping[Path, Sequence[Mapping[str, Any]]] | None = None,
    show: Callable[[Source, Faces], None] = lambda source, faces: None,
    at_once: int = 1,
) -> int:
    """Works on images, and reports them in their order; a failure does not stop the rest.

    Args:
        sources: the image files.
        work: what is done with each; returns the faces in it.
        say: takes a line of progress.
        report: the JSON file to write, also when interrupted; None for none.
        earlier: entries of an earlier run that stay in the report.
        details: what ``work`` adds about each face of an image, by the image's path.
        show: prints what was found in an image.
        at_once: images that are worked on side by side.

    Returns:
        How many images failed.

    Raises:
        OutputError: if the report cannot be written; checked before the work.
    """
    from ..runtime.side_by_side import in_order

    entries, failed, written = list(earlier), 0, time.monotonic()
    if report is not None:
        write_report(report, entries)
    attempts = in_order(sources, lambda source: _attempt(source, work), at_once)
    try:
        for index, (source, (faces, problem, outcome, seconds)) in enumerate(attempts, 1):
            if problem is None:
                show(source, faces)
            failed += problem is not None
            entries.append(report_entry(source.path, faces, seconds, problem))
            more = (details or {}).get(source.path, ())
            for face, added in zip(entries[-1]["faces"], more, strict=False):
                face.update(added)
            say(f"[{index}/{len(sources)}] {source.path}: {outcome}, {seconds:.1f} s")
            if report is not None and time.monotonic() - written > _PAUSE:
                write_report(report, entries)
                written = time.monotonic()
    finally:
        if report is not None:
            write_report(report, entries)
    return failed


def _attempt(
    source: Source, work: Callable[[Source], Faces]
) -> tuple[Faces, str | None, str, float]:
    """The faces of an image, what went wrong, both in words, and the seconds it took."""
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
    return faces, problem, outcome, time.monotonic() - start


def count_faces(faces: Faces) -> str:
    """The number of faces in words."""
    return counted(len(faces), "face") if faces else "no faces"


def report_entry(path: Path, faces: Faces, seconds: float, error: str | None) -> dict[str, Any]:
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


def write_report(path: Path, entries: Report) -> None:
    """Writes the report as JSON, as a whole or not at all.

    Raises:
        InputError: if the path is a picture's.
        OutputError: if it cannot be written.
    """
    write_text(path, json.dumps({"images": entries}, indent=1) + "\n")


def earlier_entries(path: Path | None, skipped: Sequence[Source]) -> Report:
    """The entries of an earlier report about images that are skipped now.

    An image that the earlier run finished but did not get to report has an entry without faces.

    Raises:
        InputError: if the file is no report.
    """
    if path is None or not skipped:
        return []
    check_report(path)
    known: dict[str, dict[str, Any]] = {}
    if path.exists():
        try:
            known = {entry["path"]: entry for entry in json.loads(path.read_bytes())["images"]}
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(
                f"{path} must be a report of this command, got {type(error).__name__}: {error}. "
                "Choose another name."
            ) from error
    unknown = {"faces": None, "seconds": None, "error": None}
    paths = [str(source.path) for source in skipped]
    return [known.get(path, {"path": path, **unknown}) for path in paths]


def say_unread(paths: Sequence[Path], out: Path | None = None) -> None:
    """Names the pictures in folders that are not read (`unread_files`)."""
    files = unread_files(paths, out)
    if files:
        named = ", ".join(map(str, files[:_NAMED])) + (", …" if len(files) > _NAMED else "")
        say(f"{counted(len(files), 'file')} left out, of formats that are not read: {named}")


def exit_code(failed: int) -> int:
    """The exit code after `process`, which is explained if any images failed."""
    if failed:
        say(f"{failed} of the images failed; the lines above say why.")
    return SOME_FAILED if failed else DONE


def tell(line: object) -> None:
    """Writes a line of results to the standard output."""
    sys.stdout.write(f"{printable(str(line))}\n")


def say(line: str) -> None:
    """Writes a line of progress or an error to the standard error output."""
    print(printable(line), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Text without the characters that could steer a terminal; they are spelled out."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


class PrintableFormatter(logging.Formatter):
    """Formats log lines for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
