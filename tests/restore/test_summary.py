"""The sentence about a restored photograph."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bfr.restore.summary import Count, summary, summary_of_many
from tests.portraits import face_at

SMALL, LARGE = face_at(50, 50, 20), face_at(200, 200, 150)


def told(*faces, left=(), factor: int = 1, **more: Any) -> str:
    size = (300 * factor, 400 * factor)
    return summary(faces, left, crop_size=256, factor=factor, size=size, **more)


def test_small_faces_are_told_with_what_would_help():
    text = told(SMALL, SMALL, LARGE)
    assert "3 faces" in text and f"2 of {SMALL.size:.0f} px" in text and "4×" in text
    assert "×" not in told(LARGE)
    assert f"({SMALL.size:.0f} px" in told(SMALL), "all of them are small"


def test_the_enlargement_is_told_and_not_asked_for_again():
    text = told(SMALL, factor=4)
    assert "4×" in text and "1600×1200" in text and "see more" not in text
    assert f"{2 * SMALL.size:.0f} px" in told(SMALL, factor=2), "of what it has become"


@pytest.mark.parametrize("faces", [(), (LARGE,)])
def test_doubtful_faces_are_told(faces):
    assert "1 doubtful" in told(*faces, left=(SMALL,))
    assert "doubtful" not in told(*faces)


def test_a_cleaned_background_is_told():
    text = summary((), (), crop_size=256, factor=1, size=(30, 40), background=0.5)
    assert "background cleaned by 50 %" in text and "unchanged" not in text
    assert "background" not in told()


def test_faces_behind_something_are_told():
    told_of = summary(
        (LARGE, LARGE), (), crop_size=256, factor=1, size=(9, 9), covered=(0.002, 0.3)
    )
    assert "1 face with something in front of it" in told_of
    assert "in front" not in told(LARGE)


def test_without_a_face_nothing_is_promised():
    assert "no face" in told() and "unchanged" in told()
    assert "unchanged" not in told(factor=2)


def test_a_wanted_person_is_told_with_the_distance():
    text = told(LARGE, person=((0.312,), (0.9, 0.714, math.nan)))
    assert "1 face of the person" in text and "0.31" in text and "unchanged" not in text
    assert "3 other faces left alone" in text and "0.71" in text and "1 too small" in text
    text = told(person=((), (0.65,)))
    assert "no face of the person" in text and "1 other face" in text and "0.65" in text
    assert "other" not in told(LARGE, person=((0.3,), ()))


def test_repaired_scratches_are_told():
    text = told(repaired=True)
    assert "scratches repaired" in text and "unchanged" not in text
    assert "scratches" not in told(LARGE)


def test_many_photographs_are_told_in_one_sentence():
    many = [Count(3, 1, 4), Count(0, 0, 1), Count(1, 1, 1)]
    text = summary_of_many(many, failed=1)
    for part in ("4 faces restored in 2 of 4 photographs", "1 photograph enlarged", "2 doubtful"):
        assert part in text
    assert text.endswith("1 failed")
    assert summary_of_many([Count(2, 0, 1)], 0) == "2 faces restored in 1 photograph"
