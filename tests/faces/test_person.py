"""Which faces show a person of whom there are photographs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bfr.errors import InputError
from bfr.faces.detect import detect_faces
from bfr.faces.identity import LIMIT, Identity, load_identity
from bfr.faces.person import Person, choose_person, distances_to, embed_person
from bfr.faces.retinaface import load_detector
from bfr.faces.select import select_faces
from bfr.files.photos import read_photo
from bfr.records import FaceSet


@pytest.fixture(scope="module")
def identity() -> Identity:
    return load_identity()


@pytest.fixture(scope="module")
def portraits(root: Path) -> list[tuple[Tensor, FaceSet]]:
    """Eileen Collins and Grace Hopper, each with her face."""
    photos = [read_photo(path).pixels for path in sorted((root / "samples").glob("*.jpg"))[:2]]
    return [(photo, detect_faces(photo, load_detector())) for photo in photos]


def test_the_person_is_told_from_others(
    portraits: list[tuple[Tensor, FaceSet]], identity: Identity
):
    people = [embed_person(*portrait, identity) for portrait in portraits]
    for number, (photo, faces) in enumerate(portraits):
        darker = 0.8 * photo
        own, other = (
            distances_to(darker, faces, people[index], identity)[0][0]
            for index in (number, 1 - number)
        )
        assert own < 0.4 < LIMIT < other
        both = distances_to(darker, faces, torch.cat(people), identity)[0][0]
        assert both == pytest.approx(own), "the nearest photograph counts"
        for person, count in ((people[number], 1), (people[1 - number], 0)):
            apart = distances_to(darker, faces, person, identity)
            assert select_faces(faces, distances=apart).count == count


def test_who_cannot_be_seen_is_nobody(portraits: list[tuple[Tensor, FaceSet]], identity: Identity):
    photo, faces = portraits[0]
    face = faces.faces[0][0]
    tiny = replace(face, landmarks=tuple((x / 50, y / 50) for x, y in face.landmarks))
    small = FaceSet(((face, tiny),), faces.image_size)
    apart = distances_to(photo, small, embed_person(photo, faces, identity), identity)
    assert apart[0][0] < 0.1 and math.isnan(apart[0][1])
    assert select_faces(small, distances=apart, max_distance=9.0).faces == ((face,),)
    with pytest.raises(InputError, match="too small"):
        embed_person(photo, FaceSet(((tiny,),), faces.image_size), identity)


def test_a_photograph_without_the_person_is_refused(
    portraits: list[tuple[Tensor, FaceSet]], identity: Identity
):
    photo, faces = portraits[0]
    nobody = FaceSet(((),), faces.image_size)
    with pytest.raises(InputError, match="must show a face, got none"):
        embed_person(photo, nobody, identity)
    person = embed_person(photo, faces, identity)
    assert distances_to(photo, nobody, person, identity) == [[]]
    assert select_faces(nobody, distances=[[]]).count == 0


def test_faces_of_a_person_are_chosen_and_the_others_told(
    portraits: list[tuple[Tensor, FaceSet]], identity: Identity
):
    (photo, faces), other = portraits
    face = faces.faces[0][0]
    tiny = replace(face, landmarks=tuple((x / 50, y / 50) for x, y in face.landmarks))
    both = FaceSet(((tiny, face),), faces.image_size)
    person = Person(embed_person(photo, faces, identity))
    chosen, found = choose_person(photo, both, person, identity)
    assert chosen.faces == ((face,),)
    assert found.chosen[0][0] < 0.1 and math.isnan(found.others[0][0])
    stranger = Person(embed_person(*other, identity))
    chosen, found = choose_person(photo, both, stranger, identity)
    assert not chosen.count and found.chosen == ((),) and found.others[0][1] > LIMIT
    anybody = Person(stranger.photographs, limit=2.0)
    assert choose_person(photo, faces, anybody, identity)[0].count == 1
    with pytest.raises(InputError, match="recognition network"):
        choose_person(photo, faces, person, None)
