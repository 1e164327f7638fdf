"""The command ``video``: the frames of a clip, restored without flicker."""

from __future__ import annotations

import argparse
import re

from ..files.reports import check_report
from ..files.sources import Source, find_sources, plan_targets
from ..files.whole import prepare_folders
from .arguments import count, refuse_remote
from .arguments import number as in_range
from .report import DONE, say, say_unread, write_report
from .restoring import add_restoring, load_networks, load_person, settings_of


def add_video(parser: argparse.ArgumentParser) -> None:
    add_restoring(parser, enlarge=1)
    parser.set_defaults(command=video)
    add, frames = parser.add_argument, in_range(0, 1000)
    add(
        "--smoothing",
        type=frames,
        default=3.0,
        help="frames over which landmarks are smoothed (%(default)s)",
    )
    add(
        "--steadiness",
        type=frames,
        default=1.5,
        help="frames over which restored faces are averaged where they agree (%(default)s)",
    )
    add(
        "--max-gap",
        type=in_range(0, 1000, int),
        default=4,
        help="missed frames in a row that are bridged (%(default)s)",
    )
    add("--chunk", type=count, default=16, help="frames in memory at once (%(default)s)")


def video(options: argparse.Namespace) -> int:
    """Restores the frames of one clip; one without a face is copied byte for byte."""
    refuse_remote("video", *options.paths, options.out, options.report)
    sources = sorted(find_sources(options.paths, options.out), key=_by_number)
    targets = plan_targets(sources, options.out, options.existing)
    say_unread(options.paths, options.out)
    if options.report is not None:
        check_report(options.report, [source.path for source in sources])
        write_report(options.report, [])
    prepare_folders(options.out, targets.values())

    from ..restore.settings import VideoSettings
    from .frames import restore_folder

    names = ("smoothing", "steadiness", "max_gap", "chunk")
    own = {name: getattr(options, name) for name in names}
    settings = VideoSettings(**settings_of(options), **own)
    networks = load_networks(options)
    person = load_person(options, networks)
    entries = restore_folder(
        sources,
        targets,
        settings=settings,
        say=say,
        person=person,
        overwrite=options.existing == "overwrite",
        **networks,
    )
    if options.report is not None:
        write_report(options.report, entries)
    return DONE


def _by_number(source: Source) -> list[str | int]:
    """Puts frame 10 after frame 9, whether the numbers are padded or not."""
    parts = re.split(r"(\d+)", str(source.path))
    return [int(part) if part.isdecimal() else part for part in parts]
