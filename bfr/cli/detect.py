"""The command ``detect``: lists where the faces are."""

from __future__ import annotations

import argparse

from ..files.reports import check_report
from ..files.sources import Source, find_sources
from ..records import counted
from .arguments import (
    add_at_once,
    add_detector,
    add_device,
    add_min_size,
    add_photographs,
    add_report,
    add_score,
    at_once_of,
    load_detector_of,
    pick_device,
)
from .report import Faces, count_faces, exit_code, process, say, say_unread, tell


def add_detect(parser: argparse.ArgumentParser) -> None:
    """The options of the command ``detect``."""
    add_photographs(parser)
    add_report(parser)
    add_detector(parser)
    add_score(parser)
    add_min_size(parser)
    add_device(parser)
    add_at_once(parser)
    parser.set_defaults(command=detect)


def detect(options: argparse.Namespace) -> int:
    """Lists where the faces are."""
    sources = find_sources(options.paths)
    say_unread(options.paths)
    if options.report is not None:
        check_report(options.report, [source.path for source in sources])

    say(f"Loading the detector for {counted(len(sources), 'photograph')} …")

    from ..faces.detect import detect_faces
    from ..files.photos import read_photo

    detector = load_detector_of(options, pick_device(options.device))

    def work(source: Source) -> Faces:
        pixels = read_photo(source.path).pixels
        found = detect_faces(pixels, detector, score=options.score, min_size=options.min_size)
        return found.faces[0]

    at_once = at_once_of(options, len(sources))
    found = process(sources, work, say, options.report, show=_show_faces, at_once=at_once)
    return exit_code(found)


def _show_faces(source: Source, faces: Faces) -> None:
    tell(f"{source.path}: {count_faces(faces)}")
    for number, face in enumerate(faces, 1):
        x0, y0, x1, y1 = face.box
        tell(f"  {number}: {x0:.0f} {y0:.0f} {x1:.0f} {y1:.0f}, score {face.score:.2f}")
