"""Sets of training pairs in ComfyUI's folders: their names, places and reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import folder_paths

from ..bfr.errors import InputError
from ..bfr.pairs.build import BuildReport
from ..bfr.pairs.folder import MANIFEST, PairSet
from ..bfr.records import counted
from .folders import find_folders, place_below

KEY = "datasets"  # ComfyUI's folder of training data


def list_sets() -> list[str]:
    """The pairs folders among ComfyUI's training data, by their names."""
    manifests = {f"{MANIFEST}.jsonl", f"{MANIFEST}.part0.jsonl"}
    return sorted(find_folders([KEY], lambda _, files: bool(files & manifests)))


def set_folder(name: str) -> Path:
    """The folder of a set: where one of that name is, else where a new one belongs.

    Raises:
        InputError: if the name would lead out of ComfyUI's training data.
    """
    roots = folder_paths.get_folder_paths(KEY)
    folders = [place_below(root, name.strip()) for root in roots]
    inside = [folder for folder in folders if folder is not None]
    if len(inside) < len(folders):
        raise InputError(
            f"A set of pairs must have the name of a folder below {roots[0]}, got {name!r}. "
            "Choose one such as family_album or albums/1950s."
        )
    return next((folder for folder in inside if folder.is_dir()), inside[0])


def summary(pairs: PairSet) -> str:
    """The number of pairs in a set, and its place."""
    total, kept = len(pairs.pairs), len(pairs.kept)
    unfinished = sum(not pair.complete for pair in pairs.pairs)
    counts = f"{kept} to train with, {total - kept - unfinished} rejected"
    return f"{counted(total, 'pair')} ({counts}, {unfinished} unfinished) in {pairs.folder}"


def report(built: BuildReport, unread: Sequence[Path] = ()) -> str:
    """The set, what was done for it now, and what was left out and why."""
    done = (
        f"photographs searched {built.searched}, guesses made {built.guessed}, "
        f"targets sampled {built.sampled}, pairs removed {built.removed}"
    )
    lines = [summary(built.pairs), f"now: {done}"]
    lines += [f"no face: {path}" for path in built.faceless]
    lines += [f"the same as {other}, taken once: {path}" for path, other in built.duplicates]
    lines += [
        f"left out, a link, closed or of a format that is not read: {path}" for path in unread
    ]
    lines += [f"failed: {where}: {problem}" for where, problem in built.problems]
    return "\n".join(lines)
