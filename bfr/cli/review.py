"""The command ``review``: looks through pairs and rejects some."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BusyError
from ..files.reports import check_drawing, write_drawing
from ..records import counted
from .arguments import add_detector, add_device, load_detector_of, pick_device
from .report import DONE, say, tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..pairs.folder import PairSet
    from ..pairs.pair import Pair

SHOWN = ("all", "kept", "rejected", "flagged")


def add_review(parser: argparse.ArgumentParser) -> None:
    """The options of the command ``review``."""
    parser.set_defaults(command=review)
    add = parser.add_argument
    add("pairs", type=Path, metavar="PAIRS", help="the set's folder")
    add("--sheet", type=Path, metavar="FILE", help="draw the pairs into FILE, FILE-2 and so on")
    add("--show", choices=SHOWN, default="all", help="which to draw and list (%(default)s)")
    names = "by name or number, or a range such as 3-7"
    add("--reject", nargs="+", default=[], metavar="PAIR", help=f"leave pairs out, {names}")
    add("--keep", nargs="+", default=[], metavar="PAIR", help=f"put pairs back, {names}")
    add("--reject-flagged", action="store_true", help="leave out every flagged pair")
    add_detector(parser)
    add_device(parser)


def review(options: argparse.Namespace) -> int:
    """Flags what stands out in a set, rejects or readmits pairs, and draws them."""
    from ..pairs.folder import read_pairs

    read_pairs(options.pairs)  # refuses a wrong folder before anything is loaded
    if options.sheet is not None:
        check_drawing(options.sheet)

    from ..pairs.review import check_pairs, mark_pairs

    detector = load_detector_of(options, pick_device(options.device))
    try:
        check_pairs(options.pairs, detector)
    except BusyError as error:
        say(f"New pairs are not measured now: {error}")
    pairs = mark_pairs(
        options.pairs,
        reject=options.reject,
        keep=options.keep,
        reject_flagged=options.reject_flagged,
    )
    shown = [pair for pair in pairs.pairs if _is_shown(pair, options.show)]
    names = {pair.name for pair in shown}
    for place, pair in enumerate(pairs.pairs, 1):
        if pair.name in names and (pair.flags or pair.status != "kept" or not pair.complete):
            state = pair.status if pair.complete else "unfinished"
            remarks = pair.reason if pair.reason else ", ".join(pair.flags)
            tell(f"{place}: {pair.name}: {state}{f' ({remarks})' if remarks else ''}")
    if options.sheet is not None:
        _draw(pairs, shown, options.sheet)
    flagged = sum(bool(pair.flags) for pair in pairs.pairs)
    say(f"{counted(len(pairs.pairs), 'pair')}: {len(pairs.kept)} to train with, {flagged} flagged.")
    return DONE


def _is_shown(pair: Pair, which: str) -> bool:
    return which == "all" or which == pair.status or (which == "flagged" and bool(pair.flags))


def _draw(pairs: PairSet, shown: Sequence[Pair], path: Path) -> None:
    from ..pairs.contact_sheet import PAIRS_A_SHEET, lay_out_pairs

    shown = [pair for pair in shown if pair.complete]
    if not shown:
        say(f"There is no such pair to draw into {path}.")
    for page, start in enumerate(range(0, len(shown), PAIRS_A_SHEET), 1):
        file = path if page == 1 else path.with_stem(f"{path.stem}-{page}")
        sheet = lay_out_pairs(pairs, shown[start : start + PAIRS_A_SHEET])
        write_drawing(file, sheet.picture)
        tell(file)
