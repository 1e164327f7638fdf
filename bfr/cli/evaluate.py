"""The command ``evaluate``: folders of restored faces, measured and compared."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..choices import DISTANCES
from ..errors import InputError
from ..files.reports import check_drawing, check_report, write_drawing, write_text
from .arguments import (
    EMBEDDED,
    NONE,
    add_detector,
    add_device,
    find_weights,
    load_detector_of,
    number,
    pick_device,
)
from .report import DONE, SOME_FAILED, say, tell_all

if TYPE_CHECKING:
    from ..quality.tables import Comparison


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command ``evaluate``."""
    parser.set_defaults(command=evaluate)
    add = parser.add_argument
    add(
        "restored",
        nargs="+",
        type=Path,
        metavar="RESTORED",
        help="a folder of restored faces; several are compared, for example those of the base and "
        "of the tuned restorer. The same face has the same file name in all folders",
    )
    add(
        "--reference",
        type=Path,
        metavar="FOLDER",
        help="the clean faces: adds PSNR, SSIM and the perceptual distance",
    )
    add(
        "--input",
        type=Path,
        metavar="FOLDER",
        help="the damaged faces: adds how close colours and coarse shapes are to them",
    )
    add(
        "--align",
        action="store_true",
        help="the files are whole photographs: find the faces in the reference, the input or else "
        "the first folder, and measure these",
    )
    add(
        "--size",
        type=number(16, 4096, int),
        default=256,
        help="with --align, the faces' side in pixels (%(default)s)",
    )
    add(
        "--distance",
        choices=DISTANCES,
        default="auto",
        help="the perceptual distance; auto is lpips if its weights are on this machine, and else "
        "pyramid, which needs none (%(default)s)",
    )
    add(
        "--landmarks",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure how far eyes, nose and mouth are from the reference's, or else the input's "
        "(landmarks)",
    )
    add(
        "--recognizer",
        "--identity",
        dest="identity",
        default=EMBEDDED,
        metavar="NAME|FILE",
        help="the face recognition network that says how far a face is from being the reference's, "
        "or else the input's person: embedded, auraface or another .onnx file of the ArcFace "
        "family, or none (%(default)s)",
    )
    add(
        "--extra",
        nargs="+",
        default=[],
        metavar="SCORE",
        help="more scores by their names in pyiqa, such as musiq, maniqa or fid; its licence "
        "forbids commercial use, and it downloads weights",
    )
    add("--csv", type=Path, metavar="FILE", help="write the metrics of each face")
    add("--json", type=Path, metavar="FILE", help="write all metrics, with their means")
    add("--markdown", type=Path, metavar="FILE", help="write the table that is shown")
    add("--plot", type=Path, metavar="FILE", help="draw the metrics as bars")
    add_detector(parser)
    add_device(parser)


def evaluate(options: argparse.Namespace) -> int:
    """Measures folders of restored faces, and reports which is better in what."""
    restored = _labelled(options.restored)
    for path in (options.csv, options.json, options.markdown):
        if path is not None:
            check_report(path)
    if options.plot is not None:
        check_drawing(options.plot)

    from ..faces.identity import load_identity
    from ..quality.face_batch import Tools
    from ..quality.folders import Aligning, measure_folders
    from ..quality.measure import SHOWN
    from ..quality.perceptual import load_distance
    from ..runtime.progress import Progress

    device = pick_device(options.device)
    compares = options.reference or options.input
    identity = detector = None
    if compares and options.identity != NONE:
        identity = load_identity(find_weights("identity", options.identity)).to(device)
    if options.align or identity or (compares and options.landmarks):
        detector = load_detector_of(options, device)
    distance = load_distance(options.distance, device) if options.reference else None
    progress, skipped = Progress(say, None), list[str]()

    def on_skip(name: str, reason: str) -> None:
        skipped.append(name)
        say(f"{name}: left out: {reason}")

    def on_step(done: int, total: int, _: object) -> None:
        if not done:
            progress.begin("files measured", total, (0, 0))
        progress.tell(done)

    comparison = measure_folders(
        restored,
        reference=options.reference,
        given=options.input,
        tools=Tools(detector, distance, identity),
        shown=[key for key in SHOWN if key != "landmarks" or options.landmarks],
        aligning=Aligning(detector, options.size) if options.align and detector else None,
        extra=options.extra,
        device=device,
        on_skip=on_skip,
        on_step=on_step,
    )
    _write(options, comparison)
    if skipped:
        say(f"{len(skipped)} files were left out; the lines above say why.")
    return SOME_FAILED if skipped else DONE


def _labelled(folders: list[Path]) -> dict[str, Path]:
    """The folders by what they are called in the table: their names, or else their paths."""
    short = [path.resolve().name for path in folders]
    labels = short if len(set(short)) == len(short) else [str(path) for path in folders]
    paths = dict(zip(labels, folders, strict=True))
    if len(paths) < len(labels):
        raise InputError(f"Folders must differ, got one twice: {', '.join(labels)}. Name it once.")
    return paths


def _write(options: argparse.Namespace, comparison: Comparison) -> None:
    from ..quality import render

    tell_all(render.as_text(comparison))
    texts = (
        (options.csv, render.as_csv),
        (options.json, render.as_json),
        (options.markdown, render.as_markdown),
    )
    for path, text in texts:
        if path is not None:
            write_text(path, text(comparison).rstrip("\n") + "\n")
    if options.plot is not None:
        write_drawing(options.plot, render.plot(comparison))
