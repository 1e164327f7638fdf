"""Many image files in one run: which there are, where results go, and the report about them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .formats import IMAGE_SUFFIXES

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """An image file, and its name below the folder it was found in."""

    path: Path
    name: Path


def find_sources(paths: Sequence[Path], out: Path | None = None) -> list[Source]:
    """The image files that the paths name, in order and each once.

    Args:
        paths: files, and folders that are searched with their sub-folders.
        out: the folder of the results; inside a searched folder it is left out.

    Raises:
        InputError: if a path does not exist, a folder holds no image, or is ``out`` itself.
    """
    sources: dict[tuple[Path, Path], Source] = {}
    for path in paths:
        if path.is_dir():
            found = _search(path, out)
        elif path.exists():
            found = [Source(path, Path(path.name))]
        else:
            raise InputError(f"There is no file or folder {path}. Check the name.")
        sources.update({(source.path.resolve(), source.name): source for source in found})
    return list(sources.values())


def _search(folder: Path, out: Path | None) -> list[Source]:
    """The images of a folder and its sub-folders, sorted; hidden files are none."""
    if out is not None and out.resolve() == folder.resolve():
        raise InputError(f"Results would replace the originals in {folder}. Choose another folder.")
    inside = out is not None and out.resolve().is_relative_to(folder.resolve())
    found = [
        Source(file, file.relative_to(folder))
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in IMAGE_SUFFIXES
        and not file.name.startswith(".")
        and file.is_file()
        and not (inside and out and file.resolve().is_relative_to(out.resolve()))
    ]
    if not found:
        raise InputError(f"The folder {folder} holds no image ({', '.join(IMAGE_SUFFIXES)}).")
    return found


def plan_targets(sources: Sequence[Source], out: Path, existing: str) -> dict[Source, Path]:
    """Where each source's result goes: its name below ``out``. Nothing is written.

    Args:
        sources: the image files.
        out: the folder of the results.
        existing: what happens to results that are there already, one of `EXISTING`; "skip"
            leaves their sources out.

    Raises:
        InputError: if a result would replace an original, two would have one name, or some
            exist and ``existing`` is "refuse".
    """
    originals = {source.path.resolve() for source in sources}
    taken: dict[Path, Source] = {}
    for source in sources:
        target = out / source.name
        if target.resolve() in originals:
            raise InputError(
                f"The result {target} would replace an original. Choose another folder."
            )
        if target in taken:
            raise InputError(
                f"{taken[target].path} and {source.path} would both become {target}. Restore them "
                "into different folders, or rename one."
            )
        taken[target] = source
    present = {target for target in taken if target.exists()}
    if present and existing == "refuse":
        raise InputError(
            f"{len(present)} of the results exist already, first {min(present)}. Choose another "
            "folder, or --existing overwrite (do them again) or --existing skip (do the others)."
        )
    if existing == "overwrite":
        present = set()
    return {source: target for target, source in taken.items() if target not in present}
