"""The commands ``restore`` and ``detect``."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import COLOURS, MASKS
from ..files.reports import check_report
from ..files.sources import Source, find_sources, plan_targets
from ..files.whole import copy_file, prepare_folders
from ..records import counted
from .arguments import (
    EMBEDDED,
    NONE,
    add_detector,
    add_device,
    add_existing,
    add_fidelity,
    add_min_size,
    add_photographs,
    add_report,
    add_score,
    count,
    find_parser,
    find_weights,
    fraction,
    half,
    load_detector_of,
    pick_device,
)
from .report import (
    DONE,
    SOME_FAILED,
    Faces,
    count_faces,
    earlier_entries,
    process,
    say,
    say_unread,
    tell,
)

if TYPE_CHECKING:
    import torch

MASK_WORDS = {"auto": "auto", **{name.removeprefix("soft "): name for name in MASKS}}
COLOUR_WORDS = {name.replace(" ", "-"): name for name in COLOURS}


_SHARED = (add_photographs, add_report, add_detector, add_score, add_min_size, add_device)


def add_detect(parser: argparse.ArgumentParser) -> None:
    """The options of the command ``detect``."""
    for add in (*_SHARED, add_at_once):
        add(parser)
    parser.set_defaults(command=detect)


def add_at_once(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--at-once",
        type=count,
        metavar="N",
        help="photographs that are worked on side by side (on a processor as many as there are "
        "idle cores and memory for; else 1)",
    )


def add_restore(parser: argparse.ArgumentParser) -> None:
    """The options of the command ``restore``."""
    add_restoring(parser)
    add_at_once(parser)
    parser.set_defaults(command=restore)


def add_restoring(parser: argparse.ArgumentParser, enlarge: int | str = "auto") -> None:
    """What ``restore`` and ``video`` have in common."""
    for shared in _SHARED:
        shared(parser)
    add = parser.add_argument
    add("-o", "--out", type=Path, required=True, metavar="FOLDER", help="where results go")
    add_existing(parser)
    add("--restorer", default=EMBEDDED, metavar="NAME|FILE", help="what restores the faces")
    add("--parser", metavar="NAME|FILE", help="what outlines faces, for --mask parsing")
    add_fidelity(parser)
    add("--strength", type=fraction, default=1.0, help="0 input, 1 restored face (%(default)s)")
    add(
        "--lock",
        type=fraction,
        default=0.0,
        help="how much of the input's coarse shapes stays (%(default)s)",
    )
    add(
        "--keep-person",
        type=fraction,
        default=0.5,
        help="how little a face may become somebody else: 0 measures only, 1 allows least "
        "(%(default)s)",
    )
    add(
        "--identity",
        default=EMBEDDED,
        metavar="NAME|FILE",
        help="the face recognition network that says so: embedded, auraface or another .onnx file "
        "of the ArcFace family, or none (%(default)s)",
    )
    add(
        "--colour",
        choices=COLOUR_WORDS,
        default="low-frequency",
        help="how a face is matched to its photograph (%(default)s)",
    )
    add(
        "--mask",
        choices=MASK_WORDS,
        default="auto",
        help="what part is pasted; auto is parsing where its weights are, else oval (%(default)s)",
    )
    add("--feather", type=half, default=0.1, help="the mask's soft edge (%(default)s)")
    add("--batch-size", type=count, default=8, help="faces restored at once (%(default)s)")
    add(
        "--enlarge",
        type=factor,
        default=enlarge,
        metavar="auto|1|2|4",
        help="enlarge the photograph; auto: until the faces have the size at which they are "
        "restored (%(default)s)",
    )
    add(
        "--doubtful",
        action="store_true",
        help="restore what is hardly a face, too; otherwise it is left alone",
    )
    add("--upscaler", type=Path, metavar="FILE", help="a network to enlarge with")
    add(
        "--grain",
        type=fraction,
        default=0.5,
        help="how much of the photograph's grain the faces get (%(default)s)",
    )


def restore(options: argparse.Namespace) -> int:
    """Restores photographs; one without a face is copied byte for byte."""
    sources = find_sources(options.paths, options.out)
    say_unread(options.paths, options.out)
    targets = plan_targets(sources, options.out, options.existing)
    skipped = [source for source in sources if source not in targets]
    for source in skipped:
        say(f"{source.path}: skipped, its result exists")
    if options.report is not None:
        check_report(options.report, [source.path for source in sources])
    earlier = earlier_entries(options.report, skipped)
    prepare_folders(options.out, targets.values())

    say(f"Loading the networks for {counted(len(targets), 'photograph')} …")

    from ..files.photos import read_photo, write_photo
    from ..restore.enlarge import enlarge_mask
    from ..restore.photo import RestoreSettings, restore_photo

    detector, restorer, parser = load_networks(options)
    settings, upscaler = RestoreSettings(**settings_of(options)), load_upscaler_of(options)
    identity = load_identity_of(options)
    people: dict[Path, list[dict[str, Any]]] = {}

    def work(source: Source) -> Faces:
        photo = read_photo(source.path)
        restored = restore_photo(
            photo.pixels,
            detector,
            restorer,
            settings,
            parser,
            upscaler=upscaler,
            identity=identity,
            in_place=True,
        )
        people[source.path] = restored.people.entries()
        (faces,), factor = restored.faces.faces, restored.factor
        alpha = None if photo.alpha is None else enlarge_mask(photo.alpha, factor)
        photo = replace(photo, pixels=restored.images, alpha=alpha)
        del restored  # and the original with it: writing a large photograph needs the room
        if faces or factor > 1:
            write_photo(targets[source], photo)
        else:
            copy_file(source.path, targets[source])
        return faces

    at_once = at_once_of(options, len(targets), pick_device(options.device))
    done = process(list(targets), work, say, options.report, earlier, people, at_once=at_once)
    return _exit_code(done)


def load_networks(options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """The detector, the restorer and the parser, if there is one, on their device."""
    from ..faces.parsing import load_parser
    from ..restore.restorer import load_restorer

    device = pick_device(options.device)
    detector = load_detector_of(options, device)
    restorer = load_restorer(find_weights("restorer", options.restorer)).to(device)
    parser_file = find_parser(options.mask, options.parser)
    return detector, restorer, load_parser(parser_file).to(device) if parser_file else None


def load_identity_of(options: argparse.Namespace) -> Any:
    """The face recognition network on its device, or None if it is not wanted."""
    from ..faces.identity import load_identity

    if options.identity == NONE:
        return None
    file = find_weights("identity", options.identity)
    return load_identity(file).to(pick_device(options.device))


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """What `RestoreSettings` take from the options."""
    return {
        "score": options.score,
        "min_size": options.min_size,
        "fidelity": options.fidelity,
        "strength": options.strength,
        "lock": options.lock,
        "keep_person": options.keep_person,
        "colour": COLOUR_WORDS[options.colour],
        "mask": MASK_WORDS[options.mask],
        "feather": options.feather,
        "batch_size": options.batch_size,
        "enlarge": options.enlarge,
        "grain": options.grain,
        "doubtful": options.doubtful,
    }


def factor(text: str) -> int | str:
    """The type of --enlarge."""
    if text not in ("auto", "1", "2", "4"):
        raise argparse.ArgumentTypeError(f"{text} is not auto, 1, 2 or 4")
    return text if text == "auto" else int(text)


def load_upscaler_of(options: argparse.Namespace) -> Any:
    """The network of --upscaler on its device, or None."""
    from ..restore.upscale import load_upscaler

    if options.upscaler is None:
        return None
    return load_upscaler(options.upscaler).to(pick_device(options.device))


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

    at_once = at_once_of(options, len(sources), pick_device(options.device))
    found = process(sources, work, say, options.report, show=_show_faces, at_once=at_once)
    return _exit_code(found)


def _show_faces(source: Source, faces: Faces) -> None:
    tell(f"{source.path}: {count_faces(faces)}")
    for number, face in enumerate(faces, 1):
        x0, y0, x1, y1 = face.box
        tell(f"  {number}: {x0:.0f} {y0:.0f} {x1:.0f} {y1:.0f}, score {face.score:.2f}")


def at_once_of(options: argparse.Namespace, count: int, device: torch.device) -> int:
    """How many photographs are worked on side by side."""
    from ..runtime.side_by_side import share_cores

    chosen = share_cores(count, device)
    return options.at_once or chosen


def _exit_code(failed: int) -> int:
    if failed:
        say(f"{failed} of the images failed; the lines above say why.")
    return SOME_FAILED if failed else DONE
