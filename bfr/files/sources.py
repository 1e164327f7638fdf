"""Many image files in one run: which there are, and where their results go."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .formats import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from .places import files_below, is_remote, lies_in


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
        InputError: if a path does not exist or is no file or folder, or a folder holds no image
            or is ``out`` itself.
    """
    sources: dict[tuple[Path, Path], Source] = {}
    for path in paths:
        if path.is_dir():
            found = _search(path, out)
        elif path.is_file():
            found = [Source(path, Path(path.name))]
        elif path.exists():
            raise InputError(
                f"{path} must be a file or a folder, got a pipe or a device. Choose another."
            )
        else:
            raise InputError(f"{path} must be a file or a folder, got none. Check the name.")
        sources.update({(source.path.resolve(), source.name): source for source in found})
    return list(sources.values())


def _search(folder: Path, out: Path | None) -> list[Source]:
    """The images of a folder and its sub-folders, sorted; hidden files are none."""
    if out is not None and lies_in(out, folder) and lies_in(folder, out):
        raise InputError(
            f"Results must go to another folder than the originals, got {folder} for both. "
            "Choose another one."
        )
    found = [
        Source(file, Path(*file.relative_to(folder).parts))
        for file in _below(folder, out)
        if file.suffix.lower() in IMAGE_SUFFIXES and (is_remote(file) or file.is_file())
    ]
    if not found:
        raise InputError(
            f"{folder} must hold images ({', '.join(IMAGE_SUFFIXES)}), got none. Check the name."
        )
    return found


def unread_files(paths: Sequence[Path], out: Path | None = None) -> list[Path]:
    """The things in folders that `find_sources` leaves out.

    They are pictures of other formats, broken links, and folders that are links or may not be
    opened.

    Args:
        paths: as of `find_sources`.
        out: as of `find_sources`.
    """
    return [
        file
        for path in paths
        if path.is_dir()
        for file in _below(path, out)
        if file.suffix.lower() in UNREAD_SUFFIXES
        or (file.suffix.lower() in IMAGE_SUFFIXES and not is_remote(file) and not file.is_file())
    ] + [
        closed
        for path in paths
        if path.is_dir() and not is_remote(path)
        for closed in _closed_folders(path)
        if out is None or not lies_in(closed, out)
    ]


def _closed_folders(folder: Path) -> Iterator[Path]:
    """The folders below one that `files_below` does not look into: links, and forbidden ones."""
    forbidden: list[Path] = []

    def on_error(error: OSError) -> None:
        forbidden.append(Path(error.filename))

    for place, names, _ in os.walk(folder, onerror=on_error):
        below = (Path(place, name) for name in sorted(names) if not name.startswith("."))
        yield from (path for path in below if path.is_symlink())
    yield from forbidden


def _below(folder: Path, out: Path | None) -> Iterator[Path]:
    """The files in a folder and its sub-folders, sorted, without hidden files and results."""
    inside = out is not None and lies_in(out, folder)
    for file in files_below(folder):
        if file.name.startswith("."):
            continue
        if not (inside and out and lies_in(file, out)):
            yield file


def plan_targets(sources: Sequence[Source], out: Path, existing: str) -> dict[Source, Path]:
    """The file of each source's result: its name below ``out``. Nothing is written.

    Args:
        sources: the image files.
        out: the folder of the results.
        existing: what happens to results that exist, one of `bfr.choices.EXISTING`; "skip"
            leaves their sources out.

    Raises:
        InputError: if a result would replace an original, two would have one name, or some
            exist and ``existing`` is "refuse".
    """
    originals = {_identity(source.path) for source in sources}
    taken: dict[Path, Source] = {}
    for source in sources:
        target = out / source.name
        if _identity(target) in originals:
            raise InputError(
                f"A result must not replace an original, got {target}. Choose another folder."
            )
        if target in taken:
            raise InputError(
                f"Each result must have its own name, got {target} for {taken[target].path} and "
                f"{source.path}. Restore them into different folders, or rename one."
            )
        taken[target] = source
    if is_remote(out):  # one listing, not a question per file
        present = set(files_below(out)) & taken.keys()
    else:
        present = {target for target in taken if target.exists()}
    if present and existing == "refuse":
        raise InputError(
            f"Results must not exist yet, got {len(present)}, the first {min(present)}. Choose "
            "another folder, or --existing overwrite (do them again) or skip (do the others)."
        )
    if existing == "overwrite":
        present = set()
    return {source: target for target, source in taken.items() if target not in present}


def _identity(path: Path) -> object:
    """The same for two names of one file, also where the case of letters does not count."""
    if is_remote(path):
        return str(path)
    try:
        stat = path.stat()
    except OSError:
        return path.resolve()
    return (stat.st_dev, stat.st_ino) if stat.st_ino else path.resolve()
