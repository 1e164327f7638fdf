"""The command line: ``python -m bfr restore|video|detect|targets|review|finetune|evaluate|models``.

torch is imported inside the commands, so that ``--help`` and wrong options answer at once.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import measuring, models, training, tuning
from .errors import FaceRestorationError
from .models import DONE, SOME_FAILED, say
from .options import count, fraction, half, length, pick_device
from .options import number as in_range

if TYPE_CHECKING:
    from .batch import Faces, Source

log = logging.getLogger(__name__)

BAD_USAGE, INTERRUPTED = 2, 130
MASKS = {"auto": "auto", "oval": "soft oval", "square": "square", "parsing": "parsing"}
COLOURS = {name.replace(" ", "-"): name for name in ("low frequency", "lab", "none")}


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
    _add_restore(commands.add_parser("restore", parents=[shared], help="restore photographs"))
    _add_video(commands.add_parser("video", parents=[shared], help="restore a folder of frames"))
    _add_detect(commands.add_parser("detect", parents=[shared], help="find faces"))
    for name, add, help in (
        ("targets", tuning.add_targets, "make pseudo targets, to tune a restorer with"),
        ("review", tuning.add_review, "look through pseudo targets, and reject some"),
        ("finetune", training.add_finetune, "tune a restorer to its pseudo targets"),
        ("evaluate", measuring.add_evaluate, "measure restored faces, and compare restorers"),
    ):
        add(commands.add_parser(name, parents=[shared], help=help))
    published = commands.add_parser(
        "models", parents=[shared], help="list, download and verify published weights"
    )
    published.set_defaults(command=models.show)
    actions = published.add_subparsers(metavar="ACTION")
    action = actions.add_parser("list", parents=[shared], help="what there is, and its licence")
    action.set_defaults(command=models.show)
    action = actions.add_parser("download", parents=[shared], help="get published weights")
    action.add_argument("names", nargs="+", metavar="NAME")
    action.set_defaults(command=models.download)
    action = actions.add_parser("verify", parents=[shared], help="check downloaded weights")
    action.add_argument("names", nargs="*", metavar="NAME", help="all, if none is named")
    action.set_defaults(command=models.verify)
    return parser


def _add_detect(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("paths", nargs="+", type=Path, metavar="PATH", help="photographs, or folders of them")
    add("--report", type=Path, metavar="FILE", help="write the faces as JSON")
    add("--detector", default=models.EMBEDDED, metavar="NAME|FILE", help="what finds the faces")
    add("--score", type=fraction, default=0.5, help="a face's least confidence (%(default)s)")
    add("--min-size", type=length, default=0.0, help="a face's least size in pixels (%(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (%(default)s)")
    parser.set_defaults(command=detect)


def _add_restore(parser: argparse.ArgumentParser) -> None:
    _add_detect(parser)
    parser.set_defaults(command=restore)
    add = parser.add_argument
    add("-o", "--out", type=Path, required=True, metavar="FOLDER", help="where results go")
    add(
        "--existing",
        choices=("refuse", "overwrite", "skip"),
        default="refuse",
        help="what to do about results that are there already (%(default)s)",
    )
    add("--restorer", default=models.EMBEDDED, metavar="NAME|FILE", help="what restores the faces")
    add("--parser", metavar="NAME|FILE", help="what outlines faces, for --mask parsing")
    add(
        "--fidelity",
        type=fraction,
        default=0.5,
        help="0 looks best, 1 is closest to the input; CodeFormer has it (%(default)s)",
    )
    add("--strength", type=fraction, default=1.0, help="0 input, 1 restored face (%(default)s)")
    add(
        "--lock",
        type=fraction,
        default=0.0,
        help="how much of the input's colours and coarse shape to keep (%(default)s)",
    )
    add(
        "--colour",
        choices=COLOURS,
        default="low-frequency",
        help="how a face is matched to its photograph (%(default)s)",
    )
    add(
        "--mask",
        choices=MASKS,
        default="auto",
        help="what part is pasted; auto is parsing where its weights are, else oval (%(default)s)",
    )
    add("--feather", type=half, default=0.1, help="the mask's soft edge (%(default)s)")
    add("--batch-size", type=count, default=8, help="faces restored at once (%(default)s)")


def _add_video(parser: argparse.ArgumentParser) -> None:
    _add_restore(parser)
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


def restore(options: argparse.Namespace) -> int:
    """Restores photographs; one without a face is copied byte for byte."""
    from . import batch

    sources = batch.find_sources(options.paths, options.out)
    targets = batch.plan_targets(sources, options.out, options.existing)
    for source in sources:
        if source not in targets:
            say(f"{source.path}: skipped, its result exists")
    batch.check_writable(options.out)

    from .images import read_photo, write_photo
    from .pipeline import RestoreSettings, restore_photo

    detector, restorer, parser = _load_networks(options)
    settings = RestoreSettings(**_settings(options))

    def work(source: Source) -> Faces:
        photo = read_photo(source.path)
        restored = restore_photo(photo.pixels, detector, restorer, settings, parser)
        targets[source].parent.mkdir(parents=True, exist_ok=True)
        if restored.faces.count:
            write_photo(targets[source], replace(photo, pixels=restored.images))
        else:
            batch.copy_file(source.path, targets[source])
        return restored.faces.faces[0]

    return _exit_code(batch.process(list(targets), work, say, options.report))


def video(options: argparse.Namespace) -> int:
    """Restores the frames of one clip; one without a face is copied byte for byte."""
    from . import batch

    sources = sorted(batch.find_sources(options.paths, options.out), key=_by_number)
    targets = batch.plan_targets(sources, options.out, options.existing)
    batch.check_writable(options.out)
    if options.report is not None:
        batch.write_report(options.report, [])

    from .frames import restore_folder
    from .video import VideoSettings

    detector, restorer, parser = _load_networks(options)
    names = ("smoothing", "steadiness", "max_gap", "chunk")
    own = {name: getattr(options, name) for name in names}
    settings = VideoSettings(**_settings(options), **own)
    entries = restore_folder(sources, targets, detector, restorer, settings, parser, say)
    if options.report is not None:
        batch.write_report(options.report, entries)
    return DONE


def _by_number(source: Source) -> list[str | int]:
    """Puts frame 10 after frame 9, whether the numbers are padded or not."""
    parts = re.split(r"(\d+)", str(source.path))
    return [int(part) if part.isdecimal() else part for part in parts]


def _load_networks(options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """The detector, the restorer and the parser, if there is one, on their device."""
    from .parsing import load_parser
    from .restorer import load_restorer
    from .retinaface import load_detector

    device = pick_device(options.device)
    detector = load_detector(models.find_weights("detector", options.detector)).to(device)
    restorer = load_restorer(models.find_weights("restorer", options.restorer)).to(device)
    parser_file = models.find_parser(options.mask, options.parser)
    return detector, restorer, load_parser(parser_file).to(device) if parser_file else None


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What `RestoreSettings` take from the options."""
    return {
        "score": options.score,
        "min_size": options.min_size,
        "fidelity": options.fidelity,
        "strength": options.strength,
        "lock": options.lock,
        "colour": COLOURS[options.colour],
        "mask": MASKS[options.mask],
        "feather": options.feather,
        "batch_size": options.batch_size,
    }


def detect(options: argparse.Namespace) -> int:
    """Tells where the faces are."""
    from . import batch

    sources = batch.find_sources(options.paths)

    from .detect import detect_faces
    from .images import read_photo
    from .retinaface import load_detector

    device = pick_device(options.device)
    detector = load_detector(models.find_weights("detector", options.detector)).to(device)

    def work(source: Source) -> Faces:
        pixels = read_photo(source.path).pixels
        found = detect_faces(pixels, detector, score=options.score, min_size=options.min_size)
        faces = found.faces[0]
        print(f"{source.path}: {batch.count_faces(faces)}")
        for number, face in enumerate(faces, 1):
            x0, y0, x1, y1 = face.box
            print(f"  {number}: {x0:.0f} {y0:.0f} {x1:.0f} {y1:.0f}, score {face.score:.2f}")
        return faces

    return _exit_code(batch.process(sources, work, say, options.report))


def _exit_code(failed: int) -> int:
    if failed:
        say(f"{failed} of the images failed; the lines above say why.")
    return SOME_FAILED if failed else DONE
