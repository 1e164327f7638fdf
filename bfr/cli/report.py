"""Output of the command line: lines of progress and results, and the JSON report."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import InputError
from ..files.reports import check_report, write_text
from ..files.sources import Source, unread_files
from ..records import Face, counted
from .attempts import Attempt
from .parts import Entry, Parts

DONE, SOME_FAILED = 0, 1

_NAMED = 8  # files that are left out
_PAUSE = 2.0  # least seconds between two versions of a report
_LIGHT = 20  # times the seconds that writing it takes: a long report is written less often
# Names of files may hold what moves a terminal's cursor, begins a line or turns text around.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def process(
    sources: Sequence[Source],
    attempts: Iterable[tuple[Source, Attempt]],
    say: Callable[[str], None],
    report: Path | None = None,
    earlier: Mapping[Source, Entry] | None = None,
    show: Callable[[Source, tuple[Face, ...]], None] = lambda source, faces: None,
) -> int:
    """Follows the work on images, and reports them; a failure does not stop the rest.

    Args:
        sources: all images, in the order of the report.
        attempts: the images that are worked on and how each went, as it is done.
        say: takes a line of progress.
        report: the JSON file to write, also when interrupted; None for none.
        earlier: entries of an earlier run that stay in the report; their images are not worked on.
        show: prints what was found in an image.

    Returns:
        How many images failed.

    Raises:
        OutputError: if the report cannot be written; checked before the work.
    """
    entries, failed, due = dict(earlier or {}), 0, time.monotonic() + _PAUSE
    total = len(sources) - len(entries)

    def write() -> None:
        if report is not None:
            write_report(report, [entries[source] for source in sources if source in entries])

    write()
    try:
        for index, (source, done) in enumerate(attempts, 1):
            problem = done.entry["error"]
            if problem is None:
                show(source, done.faces)
            failed += problem is not None
            entries[source] = done.entry
            seconds = done.entry["seconds"]
            say(f"[{index}/{total}] {source.path}: {done.outcome}, {seconds:.1f} s")
            if (now := time.monotonic()) > due:
                write()
                taken = time.monotonic() - now
                due = now + taken + max(_PAUSE, _LIGHT * taken)
    finally:
        write()
    return failed


def write_report(path: Path, entries: Sequence[Entry]) -> None:
    """Writes the report as JSON, as a whole or not at all.

    Raises:
        InputError: if the path is a picture's.
        OutputError: if it cannot be written.
    """
    write_text(path, json.dumps({"images": entries}, indent=1) + "\n")


def earlier_entries(path: Path | None, skipped: Sequence[Source]) -> dict[Source, Entry]:
    """The entries of an earlier report about images that are skipped now.

    An image that the earlier run finished but did not get to report has an entry without faces.

    Raises:
        InputError: if the file is no report.
    """
    if path is None or not skipped:
        return {}
    check_report(path)
    known: dict[str, Entry] = {}
    if path.exists():
        try:
            known = {entry["path"]: entry for entry in json.loads(path.read_bytes())["images"]}
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(
                f"{path} must be a report of this command, got {type(error).__name__}: {error}. "
                "Choose another name."
            ) from error
    known |= Parts(path).read()
    unknown = {"faces": None, "seconds": None, "error": None}
    return {
        source: known.get(str(source.path), {"path": str(source.path), **unknown})
        for source in skipped
    }


def say_unread(paths: Sequence[Path], out: Path | None = None) -> None:
    """Names what is in folders and not read (`unread_files`)."""
    files = unread_files(paths, out)
    if files:
        named = ", ".join(map(str, files[:_NAMED])) + (", …" if len(files) > _NAMED else "")
        left = f"{counted(len(files), 'name')} left out"
        why = "links to folders or to nothing, closed folders, formats that are not read"
        say(f"{left} ({why}): {named}")


def exit_code(failed: int) -> int:
    """The exit code after `process`, which is explained if any images failed."""
    if failed:
        say(f"{failed} of the images failed; the lines above say why.")
    return SOME_FAILED if failed else DONE


def tell(line: object) -> None:
    """Writes a line of results to the standard output."""
    sys.stdout.write(f"{printable(str(line))}\n")


def tell_all(text: str) -> None:
    """Writes the lines of a text of results to the standard output."""
    for line in text.split("\n"):
        tell(line)


def say(line: str) -> None:
    """Writes a line of progress or an error to the standard error output."""
    print(printable(line), file=sys.stderr, flush=True)


def printable(line: str) -> str:
    """A line in which characters that could control a terminal, or end it, are escaped."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), line)


class PrintableFormatter(logging.Formatter):
    """Formats log lines for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))
