"""The command line: ``python -m bfr restore|video|detect|targets|review|finetune|evaluate|models``.

torch is imported inside the commands, so that ``--help`` and wrong options answer at once.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import FaceRestorationError
from . import evaluate, finetune, restore, review, targets, video, weights
from .report import say

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)

BAD_USAGE, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the words after ``python -m bfr``; None for those of the process.

    Returns:
        The exit code: 0 all done, 1 some images failed (the others are done), 2 bad usage,
        130 interrupted.
    """
    options = build_parser().parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger(__package__).setLevel(logging.DEBUG if options.verbose else logging.WARNING)
    try:
        return options.command(options)
    except FaceRestorationError as error:
        log.debug("It happened here:", exc_info=True)
        say(f"error: {error}")
        return BAD_USAGE
    except KeyboardInterrupt:
        say("Interrupted. What was finished is kept.")
        return INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(
        prog="python -m bfr", description="Restore the faces of damaged photographs."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--verbose", action="store_true", help="show where an error happened")
    restore.add_restore(
        commands.add_parser("restore", parents=[shared], help="restore photographs")
    )
    video.add_video(
        commands.add_parser("video", parents=[shared], help="restore a folder of frames")
    )
    restore.add_detect(commands.add_parser("detect", parents=[shared], help="find faces"))
    for name, add, help in (
        ("targets", targets.add_targets, "make pseudo targets, to tune a restorer with"),
        ("review", review.add_review, "look through pseudo targets, and reject some"),
        ("finetune", finetune.add_finetune, "tune a restorer to its pseudo targets"),
        ("evaluate", evaluate.add_evaluate, "measure restored faces, and compare restorers"),
    ):
        add(commands.add_parser(name, parents=[shared], help=help))
    published = commands.add_parser(
        "models", parents=[shared], help="list, download and verify published weights"
    )
    published.set_defaults(command=weights.show)
    actions = published.add_subparsers(metavar="ACTION")
    action = actions.add_parser("list", parents=[shared], help="what there is, and its licence")
    action.set_defaults(command=weights.show)
    action = actions.add_parser("download", parents=[shared], help="get published weights")
    action.add_argument("names", nargs="+", metavar="NAME")
    action.set_defaults(command=weights.download)
    action = actions.add_parser("verify", parents=[shared], help="check downloaded weights")
    action.add_argument("names", nargs="*", metavar="NAME", help="all, if none is named")
    action.set_defaults(command=weights.verify)
    return parser
