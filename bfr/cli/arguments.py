"""Options that commands share, and what they mean: numbers, devices, weights, networks."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import AUTO, EXISTING, NUMBERINGS, PRECISIONS
from ..errors import InputError, MissingWeightsError
from ..files.places import is_remote, to_path

if TYPE_CHECKING:
    import torch

EMBEDDED, NONE = "embedded", "none"


def number(low: float, high: float, kind: type = float) -> Callable[[str], float]:
    """The type of an option that is a number in a range."""

    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be in {low} … {high}, got {text}")
        return value

    parse.__name__ = "number"  # argparse's "invalid number value: 'x'"
    return parse


fraction = number(0, 1)
half = number(0, 0.5)
length = number(0, 1e6)
count = number(1, 1024, int)


def number_or_auto(low: int, high: int) -> Callable[[str], float | None]:
    """The type of an option that is a whole number in a range, or auto, which is None."""

    parse = number(low, high, int)

    def parse_or_auto(text: str) -> float | None:
        return None if text == AUTO else parse(text)

    parse_or_auto.__name__ = "number"
    return parse_or_auto


def add_photographs(parser: argparse.ArgumentParser) -> None:
    """The photographs to work on."""
    parser.add_argument(
        "paths",
        nargs="+",
        type=to_path,
        metavar="PATH",
        help="photographs, or folders of them; also URLs such as s3://bucket/folder",
    )


def refuse_remote(command: str, *places: Path | None) -> None:
    """Refuses URLs where a command works on local files alone.

    Raises:
        InputError: if a path is a URL.
    """
    for place in places:
        if is_remote(place or ""):
            raise InputError(f"{command} must be given local files, got {place}. Copy them first.")


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``"""
    help = "auto, cpu, cuda, cuda:1, mps (%(default)s)"
    parser.add_argument("--device", default=AUTO, help=help)


def add_precision(parser: argparse.ArgumentParser, of: str) -> None:
    """``--precision``"""
    help = f"of {of}; auto: the quickest that is right on the device; float32: exact (%(default)s)"
    parser.add_argument("--precision", choices=(AUTO, *PRECISIONS), default=AUTO, help=help)


def add_detector(parser: argparse.ArgumentParser) -> None:
    """``--detector``"""
    help = "what finds the faces"
    parser.add_argument("--detector", default=EMBEDDED, metavar="NAME|FILE", help=help)


def add_score(parser: argparse.ArgumentParser) -> None:
    """``--score``"""
    help = "a face's lowest confidence (%(default)s)"
    parser.add_argument("--score", type=fraction, default=0.5, help=help)


def add_min_size(parser: argparse.ArgumentParser) -> None:
    """``--min-size``"""
    help = "a face's least size in pixels (%(default)s)"
    parser.add_argument("--min-size", type=length, default=0.0, help=help)


def add_numbering(parser: argparse.ArgumentParser) -> None:
    """``--numbering``"""
    help = "what faces' numbers count by: size, or rows from left to right (%(default)s)"
    parser.add_argument("--numbering", choices=NUMBERINGS, default=NUMBERINGS[0], help=help)


def add_fidelity(parser: argparse.ArgumentParser) -> None:
    """``--fidelity``"""
    help = "0 looks best, 1 is closest to the input; CodeFormer has it (%(default)s)"
    parser.add_argument("--fidelity", type=fraction, default=0.5, help=help)


def add_existing(parser: argparse.ArgumentParser) -> None:
    """``--existing``"""
    help = "what to do about results that exist (%(default)s)"
    parser.add_argument("--existing", choices=EXISTING, default=EXISTING[0], help=help)


def add_report(parser: argparse.ArgumentParser) -> None:
    """``--report``"""
    help = "write the faces as JSON; never over a picture"
    parser.add_argument("--report", type=to_path, metavar="FILE", help=help)


def add_ray(parser: argparse.ArgumentParser) -> None:
    """``--ray``"""
    parser.add_argument(
        "--ray",
        metavar="auto|ADDRESS|local",
        help="work on a Ray cluster: the one that this machine belongs to, that at an address, or "
        "one on this machine (docs/scale.md)",
    )


def add_at_once(parser: argparse.ArgumentParser) -> None:
    """``--at-once``"""
    parser.add_argument(
        "--at-once",
        type=count,
        metavar="N",
        help="photographs processed in parallel (on a processor as many as there are idle cores "
        "and memory for; else 1)",
    )


def load_detector_of(options: argparse.Namespace, device: torch.device) -> Any:
    """The detector that ``--detector`` names, on its device."""
    from ..faces.retinaface import load_detector

    return load_detector(find_weights("detector", options.detector)).to(device)


def at_once_of(options: argparse.Namespace, count: int) -> int:
    """The number of ``count`` photographs that are worked on side by side."""
    from ..runtime.side_by_side import share_cores

    chosen = share_cores(count, pick_device(options.device))
    return options.at_once or chosen


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" is an accelerator if there is one.

    Raises:
        InputError: if this machine does not have it.
    """
    import torch

    if name == "auto":
        found = (kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available())
        return torch.device(next(found, "cpu"))
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"--device must be one that this machine has, got {name} ({reason}). Choose auto."
        ) from error


def find_weights(kind: str, word: str) -> Path | None:
    """The weights file that a word names: published weights, or a file; None for embedded ones.

    Raises:
        MissingWeightsError: if the published weights were not downloaded.
        InputError: if the word is neither.
    """
    from ..files import manifest

    if word == EMBEDDED and kind != "parser":
        return None
    entries = {entry.name: entry for entry in manifest.published() if entry.kind == kind}
    if word in entries:
        path = manifest.find(entries[word], [manifest.cache_dir()])
        if path is None:
            raise MissingWeightsError(
                f"{word} must be on this machine, got no such file. Get it: python -m bfr models "
                f"download {word}"
            )
        return path
    if not Path(word).is_file():
        names = ", ".join(entries if kind == "parser" else [EMBEDDED, *entries])
        raise InputError(f"--{kind} must be a file or one of {names}, got {word}. Check the name.")
    return Path(word)


def find_parser(mask: str, word: str | None) -> Path | None:
    """The weights of the parser that a mask needs, if any.

    Raises:
        WeightsError: if the mask is "parsing" and there are none.
    """
    from ..files import manifest

    if mask not in ("auto", "parsing"):
        return None
    if word is not None:
        return find_weights("parser", word)
    entries = [entry for entry in manifest.published() if entry.kind == "parser"]
    found = (manifest.find(entry, [manifest.cache_dir()]) for entry in entries)
    path = next((path for path in found if path is not None), None)
    if path is None and mask == "parsing":
        raise MissingWeightsError(
            "--mask parsing needs the weights of a parser, got none. Get them: python -m bfr "
            f"models download {entries[0].name}, or name a file: --parser FILE"
        )
    return path
