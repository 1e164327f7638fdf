"""The command line's weights: which file a word names, and the command ``models``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import FaceRestorationError, InputError, MissingWeightsError

if TYPE_CHECKING:
    from .weights import PublishedWeights

DONE, SOME_FAILED = 0, 1
EMBEDDED = "embedded"


def say(line: str) -> None:
    """Writes a line of progress or an error to the standard error output."""
    print(line, file=sys.stderr, flush=True)


def find_weights(kind: str, word: str) -> Path | None:
    """The weights file that a word names: published weights, or a file; None for embedded ones.

    Raises:
        MissingWeightsError: if the published weights were not downloaded.
        InputError: if the word is neither.
    """
    from . import weights

    if word == EMBEDDED and kind != "parser":
        return None
    entries = {entry.name: entry for entry in weights.published() if entry.kind == kind}
    if word in entries:
        path = weights.find(entries[word], [weights.cache_dir()])
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
    from . import weights

    if mask not in ("auto", "parsing"):
        return None
    if word is not None:
        return find_weights("parser", word)
    entries = [entry for entry in weights.published() if entry.kind == "parser"]
    found = (weights.find(entry, [weights.cache_dir()]) for entry in entries)
    path = next((path for path in found if path is not None), None)
    if path is None and mask == "parsing":
        raise MissingWeightsError(
            "--mask parsing needs the weights of a parser. Get them: python -m bfr models "
            f"download {entries[0].name}, or name a file: --parser FILE"
        )
    return path


def show(options: argparse.Namespace) -> int:
    """Prints the published weights, their licences and where they are."""
    from . import weights

    print(f"downloaded weights are kept in {weights.cache_dir()}")
    for entry in weights.published():
        path = weights.find(entry, [weights.cache_dir()])
        print(f"\n{entry.name}  ({entry.kind}, {'downloaded' if path else 'not downloaded'})")
        print(f"  {entry.note}\n  licence: {entry.licence}")
        print(f"  {entry.url}")
    return DONE


def download(options: argparse.Namespace) -> int:
    """Downloads published weights into the cache folder."""
    from . import weights

    failed = 0
    for entry in _named(options.names):
        shown = -1

        def tell(done: int, total: int, _: object, name: str = entry.name) -> None:
            nonlocal shown
            percent = 100 * done // max(total, 1)
            if percent // 10 > shown:
                shown = percent // 10
                say(f"{name}: {percent} %")

        try:
            print(weights.download(entry, weights.cache_dir(), on_step=tell))
        except FaceRestorationError as error:
            failed += 1
            say(f"{entry.name}: failed: {error}")
    return SOME_FAILED if failed else DONE


def verify(options: argparse.Namespace) -> int:
    """Compares downloaded weights with their checksums."""
    from . import weights

    failed = 0
    for entry in _named(options.names):
        path = weights.find(entry, [weights.cache_dir()])
        if path is None:
            failed += bool(options.names)
            print(f"{entry.name}: not downloaded")
            continue
        try:
            checksum = weights.verify(path, entry)
            known = "as published" if entry.sha256 else "no checksum is published"
            print(f"{entry.name}: good, {known}, sha256 {checksum}")
        except FaceRestorationError as error:
            failed += 1
            print(f"{entry.name}: bad: {error}")
    return SOME_FAILED if failed else DONE


def _named(names: Sequence[str]) -> list[PublishedWeights]:
    """The published weights of those names; all if there is none.

    Raises:
        InputError: for an unknown name.
    """
    from . import weights

    entries = {entry.name: entry for entry in weights.published()}
    for name in names:
        if name not in entries:
            raise InputError(f"There are no published weights {name}; there are {[*entries]}.")
    return [entries[name] for name in names] or list(entries.values())
