"""The command ``models``: published weights, listed, downloaded and verified."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import FaceRestorationError, InputError
from .report import DONE, SOME_FAILED, say, tell

if TYPE_CHECKING:
    from ..files.manifest import PublishedWeights


def add_models(parser: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    """The actions of the command ``models``."""
    parser.set_defaults(command=show)
    actions = parser.add_subparsers(metavar="ACTION")
    action = actions.add_parser("list", parents=[shared], help="what is available, with licences")
    action.set_defaults(command=show)
    action = actions.add_parser("download", parents=[shared], help="get published weights")
    action.add_argument("names", nargs="+", metavar="NAME")
    action.set_defaults(command=download)
    action = actions.add_parser("verify", parents=[shared], help="check downloaded weights")
    action.add_argument("names", nargs="*", metavar="NAME", help="all, if none is named")
    action.set_defaults(command=verify)


def show(options: argparse.Namespace) -> int:
    """Prints the published weights, their licences and where they are."""
    from ..files import manifest

    tell(f"downloaded weights are kept in {manifest.cache_dir()}")
    for entry in manifest.published():
        path = manifest.find(entry, [manifest.cache_dir()])
        tell("")
        tell(f"{entry.name}  ({entry.kind}, {'downloaded' if path else 'not downloaded'})")
        tell(f"  {entry.note}")
        tell(f"  licence: {entry.licence}")
        tell(f"  {entry.url}")
    return DONE


def download(options: argparse.Namespace) -> int:
    """Downloads published weights into the cache folder."""
    from ..files import downloads, manifest

    failed = 0
    for entry in _named(options.names):
        shown = -1

        def on_step(done: int, total: int, _: object, name: str = entry.name) -> None:
            nonlocal shown
            percent = 100 * done // max(total, 1)
            if percent // 10 > shown:
                shown = percent // 10
                say(f"{name}: {percent} %")

        try:
            tell(downloads.download(entry, manifest.cache_dir(), on_step=on_step))
        except FaceRestorationError as error:
            failed += 1
            say(f"{entry.name}: failed: {error}")
    return SOME_FAILED if failed else DONE


def verify(options: argparse.Namespace) -> int:
    """Compares downloaded weights with their checksums."""
    from ..files import downloads, manifest

    failed = 0
    for entry in _named(options.names):
        path = manifest.find(entry, [manifest.cache_dir()])
        if path is None:
            failed += bool(options.names)
            tell(f"{entry.name}: not downloaded")
            continue
        try:
            checksum = downloads.verify(path, entry)
            known = "as published" if entry.sha256 else "no checksum is published"
            tell(f"{entry.name}: good, {known}, sha256 {checksum}")
        except FaceRestorationError as error:
            failed += 1
            tell(f"{entry.name}: bad: {error}")
    return SOME_FAILED if failed else DONE


def _named(names: Sequence[str]) -> list[PublishedWeights]:
    """The published weights of those names; all if there is none.

    Raises:
        InputError: for an unknown name.
    """
    from ..files import manifest

    entries = {entry.name: entry for entry in manifest.published()}
    for name in names:
        if name not in entries:
            raise InputError(
                f"Published weights must be of {', '.join(entries)}, got {name}. Check the name."
            )
    return [entries[name] for name in names] or list(entries.values())
