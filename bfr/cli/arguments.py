"""What options mean: numbers in a range, devices, and which weights file a word names."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, MissingWeightsError

if TYPE_CHECKING:
    import torch

AUTO, EMBEDDED, NONE = "auto", "embedded", "none"


def number(low: float, high: float, kind: type = float) -> Callable[[str], float]:
    """The type of an option that is a number in a range."""

    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} does not lie in {low} … {high}")
        return value

    parse.__name__ = "number"  # argparse's "invalid number value: 'x'"
    return parse


fraction = number(0, 1)
half = number(0, 0.5)
length = number(0, 1e6)
count = number(1, 1024, int)


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" is an accelerator where there is one.

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
        raise InputError(f"Device {name} cannot be used ({reason}). Choose cpu or auto.") from error


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
                f"{word} is not on this machine. Get it: python -m bfr models download {word}"
            )
        return path
    if not Path(word).is_file():
        names = ", ".join(entries if kind == "parser" else [EMBEDDED, *entries])
        raise InputError(f"{word} is no {kind}: give a file, or one of {names}.")
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
            "--mask parsing needs the weights of a parser. Get them: python -m bfr models "
            f"download {entries[0].name}, or name a file: --parser FILE"
        )
    return path
