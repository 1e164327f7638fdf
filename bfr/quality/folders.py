"""Folders of restored faces, measured and compared file by file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import FaceRestorationError, InputError
from ..faces.align import align_faces
from ..faces.detect import detect_faces
from ..faces.retinaface import Detector
from ..files.photos import read_photo
from ..files.sources import find_sources
from ..records import OnStep
from .face_batch import Tools
from .measure import SHOWN, measure_sets
from .metrics import GIVEN, REFERENCE
from .tables import Comparison, Table, compare, join

AT_ONCE = 64  # faces that are read and measured together: bounds the memory
_CALLED = {REFERENCE: "the reference", GIVEN: "the input"}

Files = Mapping[str, Path]
"""The images of a folder by their names below it, without their endings."""

OnSkip = Callable[[str, str], None]
"""``on_skip(name, reason)``: told each file that is left out."""

_Sets = dict[str, Tensor]  # the same faces in every folder, N×3×S×S each


@dataclass(frozen=True, slots=True)
class Aligning:
    """The tools and settings that cut faces out of whole photographs.

    Attributes:
        detector: of `load_detector`.
        size: side of the faces in pixels.
    """

    detector: Detector
    size: int


def measure_folders(
    restored: Mapping[str, Path],
    *,
    reference: Path | None = None,
    given: Path | None = None,
    tools: Tools | None = None,
    shown: Sequence[str] = SHOWN,
    aligning: Aligning | None = None,
    extra: Sequence[str] = (),
    device: torch.device | str = "cpu",
    on_skip: OnSkip | None = None,
    on_step: OnStep | None = None,
) -> Comparison:
    """Measures folders of restored faces; the same face has the same name in all of them.

    Args:
        restored: the folders by what they are called.
        reference: the folder of the clean faces.
        given: the folder of the damaged faces.
        tools: the networks of the metrics (`Tools`).
        shown: the metrics by their keys.
        aligning: for whole photographs: the faces are found in the reference, the input or else
            the first folder, and cut out of all; None for files that are aligned faces.
        extra: scores of pyiqa (`measure_faces`).
        device: where to measure.
        on_skip: told of files that are left out, because a folder lacks them or they cannot be
            measured.
        on_step: progress in files.

    Raises:
        InputError: if the folders share no names, no face can be measured, or ``extra`` is asked
            for of faces of several sizes.
    """
    skip = on_skip or (lambda name, reason: None)
    paths: dict[str, Path | None] = {**restored, REFERENCE: reference, GIVEN: given}
    folders = {label: list_images(path) for label, path in paths.items() if path is not None}
    names = shared_names(folders, list(restored), skip)

    def read(name: str) -> _Sets:
        return _read({label: files[name] for label, files in folders.items()}, aligning)

    if on_step is not None:
        on_step(0, len(names), None)
    tables: dict[str, list[Table]] = {label: [] for label in restored}
    # A score of all faces together, such as FID, needs them all at once.
    at_once = len(names) if extra else AT_ONCE
    for done, group, faces in _groups(names, read, skip, at_once):
        measured = measure_sets(
            {label: faces[label] for label in restored},
            reference=faces.get(REFERENCE),
            given=faces.get(GIVEN),
            tools=tools,
            shown=shown,
            extra=extra,
            names=group,
            device=device,
        )
        for label, table in measured.items():
            tables[label].append(table)
        if on_step is not None:
            on_step(done, len(names), None)
    if not any(tables.values()):
        raise InputError(
            "At least one face must be measurable, got none: every file was left out. See the "
            "reasons above."
        )
    if extra and len(next(iter(tables.values()))) > 1:
        raise InputError(
            f"{', '.join(extra)} must have faces of one size, got several. Make them equally "
            "large, or leave the extra scores out."
        )
    return compare({label: join(parts) for label, parts in tables.items()})


def list_images(folder: Path) -> Files:
    """The images of a folder and the folders below it.

    Raises:
        InputError: if two have one name but for their endings.
    """
    files: dict[str, Path] = {}
    for source in find_sources([folder]):
        name = source.name.with_suffix("").as_posix()
        if name in files:
            raise InputError(
                f"The files of a folder must have names of their own, got {files[name]} and "
                f"{source.path}. Keep one of them in {folder}."
            )
        files[name] = source.path
    return files


def shared_names(
    folders: Mapping[str, Files], restored: Sequence[str], on_skip: OnSkip
) -> list[str]:
    """The names that all folders have; reports those that some restored folder has alone.

    Raises:
        InputError: if they share none.
    """
    names = sorted({name for label in restored for name in folders[label]})
    shared = []
    for name in names:
        lacking = [_called(label) for label, files in folders.items() if name not in files]
        if lacking:
            on_skip(name, f"{' and '.join(lacking)} lacks it")
        else:
            shared.append(name)
    if not shared:
        have = "; ".join(f"{_called(label)} has {min(files)}" for label, files in folders.items())
        raise InputError(
            f"The folders must share file names, got none in common: {have}. Give the same face "
            "the same name in all of them; endings may differ."
        )
    return shared


def _called(label: str) -> str:
    return _CALLED.get(label, label)


def _read(files: Files, aligning: Aligning | None) -> _Sets:
    """The faces of one file in every folder; one each, unless they are searched for."""
    pixels = {label: read_photo(path).pixels for label, path in files.items()}
    if aligning is None:
        return pixels
    anchor = next(label for label in (REFERENCE, GIVEN, *files) if label in files)
    found = detect_faces(pixels[anchor], aligning.detector)
    if not found.count:
        raise InputError(f"{_called(anchor)} must show a face, got none. Leave it out.")
    return {label: align_faces(image, found, aligning.size)[0] for label, image in pixels.items()}


def _groups(
    names: Sequence[str], read: Callable[[str], _Sets], on_skip: OnSkip, at_once: int
) -> Iterator[tuple[int, list[str], _Sets]]:
    """Faces of one size, about ``at_once`` together: files done so far, names and faces."""
    group: list[str] = []
    parts: list[_Sets] = []

    def joined() -> _Sets:
        return {label: torch.cat([part[label] for part in parts]) for label in parts[0]}

    for done, name in enumerate(names):
        try:
            faces = read(name)
            _check(faces)
        except FaceRestorationError as error:
            on_skip(name, str(error))
            continue
        count, size = len(next(iter(faces.values()))), next(iter(faces.values())).shape[-1]
        if parts and (size != next(iter(parts[0].values())).shape[-1] or len(group) >= at_once):
            yield done, group, joined()
            group, parts = [], []
        group += [name] if count == 1 else [f"{name}#{n}" for n in range(1, count + 1)]
        parts.append(faces)
    if parts:
        yield len(names), group, joined()


def _check(faces: _Sets) -> None:
    sizes = {label: (face.shape[-1], face.shape[-2]) for label, face in faces.items()}
    if len(set(sizes.values())) > 1:
        each = ", ".join(f"{w}×{h} in {_called(label)}" for label, (w, h) in sizes.items())
        raise InputError(f"It must be equally large in all folders, got {each} pixels. Resize it.")
    (width, height), *_ = sizes.values()
    if width != height:
        raise InputError(
            f"An aligned face must be square, got {width}×{height} pixels. If these are whole "
            "photographs, choose --align."
        )
