"""The command ``detect``: lists where the faces are."""

from __future__ import annotations

import argparse

from ..files.places import local_copy
from ..files.reports import check_report
from ..files.sources import Source, find_sources
from ..records import Face, counted
from .arguments import (
    add_at_once,
    add_detector,
    add_device,
    add_min_size,
    add_numbering,
    add_photographs,
    add_ray,
    add_report,
    add_score,
    load_detector_of,
    pick_device,
)
from .attempts import Found, Job, Work, attempts, count_faces
from .parts import Parts
from .report import exit_code, process, say, say_unread, tell


def add_detect(parser: argparse.ArgumentParser) -> None:
    """The options of the command ``detect``."""
    add_photographs(parser)
    add_report(parser)
    add_detector(parser)
    add_score(parser)
    add_min_size(parser)
    add_numbering(parser)
    add_device(parser)
    add_at_once(parser)
    add_ray(parser)
    parser.set_defaults(command=detect)


def detect(options: argparse.Namespace) -> int:
    """Lists where the faces are."""
    sources = find_sources(options.paths)
    say_unread(options.paths)
    if options.report is not None:
        check_report(options.report, [source.path for source in sources])

    say(f"Loading the detector for {counted(len(sources), 'photograph')} …")

    parts, earlier = None, {}
    if options.ray and options.report:
        names = ("detector", "score", "min_size", "numbering")
        parts = Parts(options.report, {name: getattr(options, name) for name in names})
        known = parts.read()
        earlier = {
            source: known[str(source.path)]
            for source in sources
            if known.get(str(source.path), {"error": True})["error"] is None
        }
    jobs = [Job(source) for source in sources if source not in earlier]
    done = attempts(options, jobs, load_detecting, parts)
    failed = process(sources, done, say, options.report, earlier, _show_faces)
    if parts is not None:
        parts.remove()
    return exit_code(failed)


def load_detecting(options: argparse.Namespace) -> Work:
    """Loads the detector; finds the faces of a job's photograph."""
    from ..faces.detect import detect_faces
    from ..faces.numbering import number_faces
    from ..files.photos import read_photo

    detector = load_detector_of(options, pick_device(options.device))

    def work(job: Job) -> Found:
        with local_copy(job.source.path) as photograph:
            pixels = read_photo(photograph).pixels
        found = detect_faces(pixels, detector, score=options.score, min_size=options.min_size)
        return Found(number_faces(found, options.numbering).faces[0])

    return work


def _show_faces(source: Source, faces: tuple[Face, ...]) -> None:
    tell(f"{source.path}: {count_faces(faces)}")
    for number, face in enumerate(faces, 1):
        x0, y0, x1, y1 = face.box
        tell(f"  {number}: {x0:.0f} {y0:.0f} {x1:.0f} {y1:.0f}, score {face.score:.2f}")
