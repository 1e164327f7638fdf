"""Options of the commands that restore, and the settings and networks that they mean."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from ..choices import COLOURS, MASKS, REGIONS
from ..errors import InputError
from ..files.places import to_path
from .arguments import (
    EMBEDDED,
    NONE,
    add_detector,
    add_device,
    add_existing,
    add_fidelity,
    add_min_size,
    add_photographs,
    add_precision,
    add_report,
    add_score,
    count,
    find_parser,
    find_weights,
    fraction,
    half,
    load_detector_of,
    number,
    pick_device,
)
from .report import say

if TYPE_CHECKING:
    from ..faces.identity import Identity
    from ..faces.occlusion import Occlusion
    from ..faces.parsing import Parser
    from ..faces.person import Person
    from ..faces.retinaface import Detector
    from ..restore.restorer import Restorer
    from ..restore.upscale import Upscaler

MASK_WORDS = {"auto": "auto", **{name.removeprefix("soft "): name for name in MASKS}}
REGION_WORDS = {name.replace(" ", "-"): name for name in REGIONS}
COLOUR_WORDS = {name.replace(" ", "-"): name for name in COLOURS}


def add_restoring(parser: argparse.ArgumentParser, enlarge: int | str = "auto") -> None:
    """Adds the options that ``restore`` and ``video`` share."""
    add_photographs(parser)
    add_report(parser)
    add_detector(parser)
    add_score(parser)
    add_min_size(parser)
    add_device(parser)
    add = parser.add_argument
    add("-o", "--out", type=to_path, required=True, metavar="FOLDER", help="where results go")
    add_existing(parser)
    add("--restorer", default=EMBEDDED, metavar="NAME|FILE", help="what restores the faces")
    add("--parser", metavar="NAME|FILE", help="what outlines faces, for --mask parsing")
    add_precision(parser, "the restorer")
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
        help="how strictly a face must stay the same person: 0 only measures, 1 allows the least "
        "change (%(default)s)",
    )
    add(
        "--recognizer",
        "--identity",
        dest="identity",
        default=EMBEDDED,
        metavar="NAME|FILE",
        help="the face recognition network that says so: embedded, auraface or another .onnx file "
        "of the ArcFace family, or none (%(default)s)",
    )
    add(
        "--occlusion",
        default=NONE,
        metavar="FILE",
        help="the network that says what lies in front of a face (hands, microphones, text), which "
        "is not painted over: embedded, an XSeg .onnx file of DeepFaceLab or FaceFusion, or none "
        "(%(default)s)",
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
    add(
        "--region",
        choices=REGION_WORDS,
        default="face",
        help="what part of the face the parser outlines and is pasted (%(default)s)",
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
    add("--upscaler", type=Path, metavar="FILE", help="a network to enlarge with")
    add(
        "--grain",
        type=fraction,
        default=0.5,
        help="how much of the photograph's grain the faces get (%(default)s)",
    )

    add(
        "--person",
        nargs="+",
        type=Path,
        default=[],
        metavar="PHOTO",
        help="restore only the faces of the person in these photographs",
    )
    add(
        "--person-limit",
        type=number(0, 2),
        default=0.6,
        metavar="DISTANCE",
        help="how far a face may be from the person: two people lie at 0.84 on average "
        "(%(default)s)",
    )


def factor(text: str) -> int | str:
    """The type of --enlarge."""
    if text not in ("auto", "1", "2", "4"):
        raise argparse.ArgumentTypeError(f"{text} is not auto, 1, 2 or 4")
    return text if text == "auto" else int(text)


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `RestoreSettings` that the options give."""
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
    }


class Networks(TypedDict):
    """The networks of the restore chain, by the core's names for them, on one device."""

    detector: Detector
    restorer: Restorer
    parser: Parser | None
    upscaler: Upscaler | None
    identity: Identity | None
    occlusion: Occlusion | None


def load_networks(options: argparse.Namespace) -> Networks:
    """The networks that the options name; None for those that are not wanted."""
    from ..faces.identity import load_identity
    from ..faces.occlusion import load_occlusion
    from ..faces.parsing import load_parser
    from ..restore.load import load_restorer
    from ..restore.upscale import load_upscaler

    device = pick_device(options.device)
    detector = load_detector_of(options, device)
    file = find_weights("restorer", options.restorer)
    restorer = load_restorer(file, precision=options.precision).to(device)
    say(f"The restorer {restorer.name} computes in {restorer.computed_in} on {device}.")
    file = find_parser(options.mask, options.parser)
    region = REGION_WORDS[options.region]
    if file is None and region != "face":
        raise InputError(
            f"--region {options.region} needs a parser, got none. Get its weights: python -m bfr "
            "models download parsenet, or name a file: --parser FILE"
        )
    parser = None if file is None else load_parser(file, region).to(device)
    upscaler = identity = occlusion = None
    if options.upscaler is not None:
        upscaler = load_upscaler(options.upscaler).to(device)
    if options.identity != NONE:
        identity = load_identity(find_weights("identity", options.identity)).to(device)
    if options.occlusion != NONE:
        occlusion = load_occlusion(find_weights("occlusion", options.occlusion)).to(device)
    return {
        "detector": detector,
        "restorer": restorer,
        "parser": parser,
        "upscaler": upscaler,
        "identity": identity,
        "occlusion": occlusion,
    }


def load_person(options: argparse.Namespace, networks: Networks) -> Person | None:
    """The person in the photographs of --person; None for everybody.

    Raises:
        ImageError: if one is no photograph.
        InputError: if one shows no face, or there is no recognition network.
    """
    if not options.person:
        return None
    import torch

    from ..faces.detect import detect_faces
    from ..faces.person import Person, embed_person
    from ..files.photos import read_photo

    if networks["identity"] is None:
        raise InputError(
            "--person needs a face recognition network, got none. Leave out --recognizer."
        )
    found = []
    for path in options.person:
        pixels = read_photo(path).pixels
        faces = detect_faces(pixels, networks["detector"])
        found.append(embed_person(pixels, faces, networks["identity"]))
    return Person(torch.cat(found), options.person_limit)
