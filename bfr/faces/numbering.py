"""Numbers of faces: the order in which they are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import mean

from ..choices import NUMBERINGS
from ..errors import InputError
from ..records import Face, FaceSet

_ROW = 0.6  # of a face's height, by which it may lie above or below its row
_SHOULDERS = 0.5  # of a face's width, the least room between two people of a row
_END = 2  # faces that tell where a row is at its end; rows may rise and fall


def number_faces(faces: FaceSet, numbering: str) -> FaceSet:
    """The same faces in the order in which they are numbered.

    Args:
        faces: of `bfr.faces.detect.detect_faces`.
        numbering: ``"size"`` (largest box area first) or ``"rows"`` (row by row from above, each
            from left to right, as the people in a group are named).

    Raises:
        InputError: for another numbering.
    """
    if numbering not in NUMBERINGS:
        raise InputError(
            f"numbering must be {' or '.join(map(repr, NUMBERINGS))}, got {numbering!r}. "
            "Choose one."
        )
    order = _in_rows if numbering == "rows" else partial(sorted, key=lambda face: -face.area)
    return replace(faces, faces=tuple(tuple(order(found)) for found in faces.faces))


def _in_rows(faces: Sequence[Face]) -> list[Face]:
    """Faces row by row. From left to right, each joins the row that goes on at its height."""
    rows: list[list[Face]] = []
    for face in sorted(faces, key=_across):
        steps = {number: abs(_end_of(row) - _middle(face)) for number, row in enumerate(rows)}
        nearest = min(steps, key=steps.__getitem__, default=None)
        if nearest is not None and steps[nearest] <= _ROW * _height((face,)):
            rows[nearest].append(face)
        else:
            rows.append([face])
    rows.sort(key=lambda row: mean(map(_middle, row)))
    joined: list[list[Face]] = []
    for row in rows:
        if joined and _is_one_row(joined[-1], row):
            joined[-1] = sorted([*joined[-1], *row], key=_across)
        else:
            joined.append(row)
    return [face for row in joined for face in row]


def _is_one_row(above: Sequence[Face], below: Sequence[Face]) -> bool:
    """True if two rows are the tall and short people of one row, with room beside each other."""
    both = sorted([*above, *below], key=_across)
    apart = mean(map(_middle, below)) - mean(map(_middle, above))
    steps = (right.box[0] - left.box[2] for left, right in pairwise(both))
    width = mean(face.box[2] - face.box[0] for face in both)
    return apart <= _height(both) and min(steps) >= _SHOULDERS * width


def _height(faces: Sequence[Face]) -> float:
    return mean(face.box[3] - face.box[1] for face in faces)


def _end_of(row: Sequence[Face]) -> float:
    """The position of a row at its right end."""
    return mean(map(_middle, row[-_END:]))


def _middle(face: Face) -> float:
    return (face.box[1] + face.box[3]) / 2


def _across(face: Face) -> float:
    return (face.box[0] + face.box[2]) / 2
