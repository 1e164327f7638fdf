"""Who is who in a clip, with a network whose embedding of a face is its colour."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from bfr.errors import InputError
from bfr.faces.identity import Identity
from bfr.faces.person import Person
from bfr.records import Face, FaceSet
from bfr.restore.keep_person import KeptPeople, describe_many
from bfr.restore.people import along_tracks, embed_tracks, follow_people, with_figures
from bfr.restore.track import Track, link_faces
from tests.portraits import face_at

SIDES = (120, 200)
RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
LEFT, RIGHT = face_at(50, 60, 20), face_at(150, 60, 20)


class Colour(nn.Module):
    def forward(self, chips: Tensor) -> Tensor:
        return chips.mean((2, 3))


IDENTITY = Identity(Colour(), "colour", 150)


def film(*sides: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    """A frame for each pair of colours: of its left and its right half."""
    frames = torch.zeros(len(sides), 3, *SIDES)
    for frame, (left, right) in zip(frames, sides, strict=True):
        frame[:, :, : SIDES[1] // 2] = torch.tensor(left)[:, None, None]
        frame[:, :, SIDES[1] // 2 :] = torch.tensor(right)[:, None, None]
    return frames


def shots(*faces: tuple[Face, ...], cuts: tuple[int, ...] = ()) -> tuple[Track, ...]:
    return link_faces(FaceSet(faces, SIDES), cuts=cuts)


def test_a_face_keeps_its_number_after_a_cut():
    """Red left and blue right; after the cut they have changed places."""
    clip = film(*[(RED, BLUE)] * 3, *[(BLUE, RED)] * 3)
    tracks = shots(*[(LEFT, RIGHT)] * 6, cuts=(3,))
    assert len(tracks) == 4
    found = follow_people(clip, tracks, IDENTITY)
    persons = {(track.start, track.faces[0] == LEFT): track.person for track in found}
    assert persons == {(0, True): 0, (0, False): 1, (3, True): 1, (3, False): 0}
    assert [replace(track, person=0) for track in found] == [
        replace(track, person=0) for track in tracks
    ]


def test_a_face_that_is_lost_and_found_again_is_one_person():
    faces = [(LEFT,)] * 3 + [()] * 8 + [(RIGHT,)] * 3
    tracks = shots(*faces)
    assert len(tracks) == 2
    same = follow_people(film(*[(RED, RED)] * 14), tracks, IDENTITY)
    assert [track.person for track in same] == [0, 0]
    other = follow_people(film(*[(RED, BLUE)] * 14), tracks, IDENTITY)
    assert [track.person for track in other] == [0, 1]


def test_nobody_is_twice_in_one_frame():
    found = follow_people(film(*[(RED, RED)] * 3), shots(*[(LEFT, RIGHT)] * 3), IDENTITY)
    assert [track.person for track in found] == [0, 1]


def test_who_cannot_be_read_is_somebody_of_his_own():
    tiny = replace(LEFT, landmarks=tuple((50 + x / 50, y) for x, y in LEFT.landmarks))
    clip, tracks = film(*[(RED, RED)] * 4), shots((LEFT,), (LEFT,), (tiny,), (tiny,), cuts=(2,))
    assert [len(look) for look in embed_tracks(clip, tracks, IDENTITY)] == [2, 0]
    assert [track.person for track in follow_people(clip, tracks, IDENTITY)] == [0, 1]
    without = follow_people(clip, shots((LEFT,), (LEFT,), cuts=(1,)), None)
    assert [track.person for track in without] == [0, 1]


def test_only_the_wanted_person_is_followed():
    clip = film(*[(RED, BLUE)] * 2, *[(BLUE, RED)] * 2)
    tracks = shots(*[(LEFT, RIGHT)] * 4, cuts=(2,))
    found = follow_people(clip, tracks, IDENTITY, Person(torch.tensor([BLUE])))
    assert [(track.start, track.faces[0]) for track in found] == [(0, RIGHT), (2, LEFT)]
    stranger = torch.tensor([(0.0, 1.0, 0.0)])
    assert follow_people(clip, tracks, IDENTITY, Person(stranger)) == ()
    assert len(follow_people(clip, tracks, IDENTITY, Person(stranger, limit=2.0))) == 4
    with pytest.raises(InputError, match="person"):
        follow_people(clip, tracks, None, Person(stranger))


def test_a_clip_judges_a_face_by_its_whole_track():
    faces = FaceSet(((LEFT, RIGHT), (RIGHT, LEFT), (LEFT,)), SIDES)
    apart = [[0.2, 0.9], [0.8, math.nan], [0.3]]
    assert along_tracks(faces, apart) == [
        pytest.approx([0.2, 0.8]),
        pytest.approx([0.8, 0.2]),
        pytest.approx([0.2]),
    ]
    assert along_tracks(faces, apart, cuts=(2,))[2] == pytest.approx([0.3])
    unknown = along_tracks(FaceSet(((LEFT,),), SIDES), [[math.nan]])
    assert math.isnan(unknown[0][0]), "absent, not 0"


def test_what_was_taken_of_each_face_is_told():
    tracks = shots((LEFT,), (LEFT, RIGHT), (RIGHT,))
    empty = torch.empty(0)
    people = [
        KeptPeople(empty, (1.0,), (0.3,)),
        KeptPeople(empty, (0.5, 1.0), (0.4, math.nan)),
        KeptPeople(empty, (0.75,), (0.2,)),
    ]
    left, right = with_figures(tracks, people)
    assert (left.shares, left.distances) == ((1.0, 0.5), (0.3, 0.4))
    assert right.shares == (1.0, 0.75) and math.isnan(right.distances[0])
    assert describe_many(left.shares, left.distances).count("0.40") >= 1
    assert "50%" in describe_many(left.shares, left.distances)
    assert describe_many((1.0,), (math.nan,)) == "identity unknown"
