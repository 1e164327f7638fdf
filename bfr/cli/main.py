"""The command line: ``python -m bfr restore|video|detect|targets|review|finetune|evaluate|models``.

torch is imported inside the commands, so that ``--help`` and wrong options answer at once.
"""

from __future__ import annotations

import argparse
import io
import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..errors import FaceRestorationError
from . import detect, evaluate, finetune, restore, review, targets, video, weights
from .report import PrintableFormatter, say

log = logging.getLogger(__name__)

BAD_USAGE, INTERRUPTED, TERMINATED = 2, 130, 143


class Terminated(KeyboardInterrupt):
    """The system asks the process to end; it is treated as Ctrl+C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the words after ``python -m bfr``; None for those of the process.

    Returns:
        The exit code: 0 all done, 1 some images failed (the others are done), 2 bad usage,
        130 interrupted, 143 terminated.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the encoding lacks is spelled out
            stream.reconfigure(errors="backslashreplace")
    options = build_parser().parse_args(arguments)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler])
    package = logging.getLogger(__name__.partition(".")[0])
    package.setLevel(logging.DEBUG if options.verbose else logging.WARNING)
    try:
        with _termination_interrupts():
            return options.command(options)
    except FaceRestorationError as error:
        log.debug("It happened here:", exc_info=True)
        say(f"error: {error}")
        return BAD_USAGE
    except KeyboardInterrupt as interrupt:
        say("Interrupted. What was finished is kept.")
        return TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Lets SIGTERM stop the work as Ctrl+C does, so that it is saved."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def build_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(
        prog="python -m bfr", description="Restore the faces of damaged photographs."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--verbose", action="store_true", help="show where an error happened")
    for name, add, help in (
        ("restore", restore.add_restore, "restore photographs"),
        ("video", video.add_video, "restore a folder of frames"),
        ("detect", detect.add_detect, "find faces"),
        ("targets", targets.add_targets, "make pseudo targets, to tune a restorer with"),
        ("review", review.add_review, "look through pseudo targets, and reject some"),
        ("finetune", finetune.add_finetune, "tune a restorer to its pseudo targets"),
        ("evaluate", evaluate.add_evaluate, "measure restored faces, and compare restorers"),
    ):
        add(commands.add_parser(name, parents=[shared], help=help))
    published = commands.add_parser(
        "models", parents=[shared], help="list, download and verify published weights"
    )
    weights.add_models(published, shared)
    return parser
