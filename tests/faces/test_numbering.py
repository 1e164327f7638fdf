"""Numbers of faces: by size, or row by row."""

from __future__ import annotations

import random

import pytest

from bfr.choices import NUMBERINGS
from bfr.errors import InputError
from bfr.faces.numbering import number_faces
from bfr.records import Face, FaceSet


def face(x: float, y: float, side: float = 40.0) -> Face:
    """A face by its middle."""
    points = tuple((x + i, y) for i in range(5))
    return Face((x - side / 2, y - side / 2, x + side / 2, y + side / 2), 0.9, points)


def numbered(faces: list[Face], numbering: str) -> list[Face]:
    return list(number_faces(FaceSet((tuple(faces), ()), (600, 900)), numbering).faces[0])


BACK = [face(100, 60, 36), face(190, 35, 38), face(290, 62), face(400, 90, 36), face(500, 66)]
MIDDLE = [face(60, 160), face(150, 168), face(250, 156), face(340, 170), face(450, 160)]
FRONT = [face(110, 205, 44), face(205, 212, 44), face(300, 203, 44), face(395, 214, 44)]


def test_a_group_is_numbered_as_its_people_are_named():
    """Tall and short people of a row belong to it; rows that overlap stay apart."""
    group = [*BACK, *MIDDLE, *FRONT]
    for seed in range(5):
        mixed = random.Random(seed).sample(group, len(group))
        assert numbered(mixed, "rows") == group


def test_a_row_may_rise():
    row = [face(80 * number, 300 - 15 * number) for number in range(1, 9)]
    assert numbered(row[::-1], "rows") == row


def test_a_child_in_front_of_a_grown_up_comes_after():
    tall, child = face(100, 100, 60), face(120, 190, 40)
    assert numbered([child, tall], "rows") == [tall, child]


def test_by_size_the_largest_comes_first():
    faces = [face(10, 10, 20), face(90, 10, 60), face(50, 90, 40)]
    assert [f.size for f in numbered(faces, "size")] == [60, 40, 20]


def test_nobody_is_lost():
    generator = random.Random(3)
    faces = [face(*(generator.uniform(0, 500) for _ in range(2))) for _ in range(40)]
    for numbering in NUMBERINGS:
        assert set(numbered(faces, numbering)) == set(faces)
        assert numbered([], numbering) == []


def test_an_unknown_numbering_is_refused():
    with pytest.raises(InputError, match="columns"):
        number_faces(FaceSet(((),), (10, 10)), "columns")
