"""Many image files in one run: which there are, where results go, and the report about them."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import FaceRestorationError, InputError, OutputError
from .images import IMAGE_SUFFIXES, atomic_path
from .records import Face, counted

log = logging.getLogger(__name__)

Faces = tuple[Face, ...]
Report = list[dict[str, Any]]
EXISTING = ("refuse", "overwrite", "skip")


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


def check_writable(folder: Path) -> None:
    """Makes the folder where it is missing, and tries whether files can be written there.

    Raises:
        OutputError: if they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"Cannot write into {folder} ({error.strerror}). Choose a folder that you may write to."
        ) from error


def copy_file(source: Path, target: Path) -> None:
    """Copies a file byte for byte, as a whole or not at all.

    Raises:
        OutputError: if it cannot be written.
    """
    with atomic_path(target) as partial:
        shutil.copyfile(source, partial)


def process(
    sources: Sequence[Source],
    work: Callable[[Source], Faces],
    say: Callable[[str], None],
    report: Path | None = None,
) -> int:
    """Works on one image after the other; a failure is told and does not stop the rest.

    Args:
        sources: the image files.
        work: what is done with each; returns the faces in it.
        say: takes a line of progress.
        report: the JSON file to write, also when interrupted; None for none.

    Returns:
        How many images failed.

    Raises:
        OutputError: if the report cannot be written; checked before the work.
    """
    entries: Report = []
    if report is not None:
        write_report(report, entries)
    try:
        for index, source in enumerate(sources, 1):
            start, faces, problem = time.monotonic(), (), None
            try:
                faces = work(source)
                outcome = count_faces(faces)
            except FaceRestorationError as error:
                problem = str(error)
                outcome = f"failed: {problem}"
            except Exception as error:
                log.debug("%s failed here:", source.path, exc_info=True)
                problem = f"{type(error).__name__}: {error}"
                outcome = f"failed unexpectedly: {problem} (--verbose shows where)"
            seconds = time.monotonic() - start
            entries.append(report_entry(source.path, faces, seconds, problem))
            say(f"[{index}/{len(sources)}] {source.path}: {outcome}, {seconds:.1f} s")
    finally:
        if report is not None:
            write_report(report, entries)
    return sum(entry["error"] is not None for entry in entries)


def count_faces(faces: Faces) -> str:
    """The number of faces in words."""
    return counted(len(faces), "face") if faces else "no faces"


def report_entry(path: Path, faces: Faces, seconds: float, error: str | None) -> dict[str, Any]:
    """What the report says about one image; coordinates are pixels of the upright photograph."""
    return {
        "path": str(path),
        "faces": [
            {
                "box": [round(value, 2) for value in face.box],
                "score": round(face.score, 4),
                "landmarks": [[round(x, 2), round(y, 2)] for x, y in face.landmarks],
            }
            for face in faces
        ],
        "seconds": round(seconds, 3),
        "error": error,
    }


def write_report(path: Path, entries: Report) -> None:
    """Writes the report as JSON, as a whole or not at all.

    Raises:
        OutputError: if it cannot be written.
    """
    with atomic_path(path) as partial:
        partial.write_text(json.dumps({"images": entries}, indent=1) + "\n", encoding="utf-8")
