"""Faces in boxes drawn by hand, with the embedded detector."""

from __future__ import annotations

import math

import pytest
import torch

from bfr.errors import InputError
from bfr.faces.align import align_faces
from bfr.faces.drawn import add_drawn_faces, painted_boxes
from bfr.faces.retinaface import Detector, load_detector
from bfr.image.geometry import face_template
from bfr.records import Face, FaceSet
from tests.portraits import astronaut

BOX = (30.0, 20.0, 70.0, 70.0)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector()


def nothing(images: torch.Tensor) -> FaceSet:
    return FaceSet(((),) * len(images), (images.shape[-2], images.shape[-1]))


def test_landmarks_are_found_in_a_box_around_a_face(detector: Detector):
    image, wanted = astronaut()
    landmarks = torch.tensor(wanted.landmarks)
    (x0, y0), (x1, y1) = landmarks.amin(0).tolist(), landmarks.amax(0).tolist()
    room = 0.6 * (x1 - x0)
    box = (x0 - room, y0 - 1.2 * room, x1 + room, y1 + room)
    faces, told = add_drawn_faces(image, nothing(image), [[box]], detector)
    (face,) = faces.faces[0]
    assert told == "box 1: face 1, landmarks found" and face.score == 1
    gap = (torch.tensor(face.landmarks) - landmarks).norm(dim=-1).mean()
    assert gap < 0.15 * (x1 - x0)
    again, told = add_drawn_faces(image, faces, [[box]], detector)
    assert again == faces and told == "box 1: its face is found already"


def test_a_box_without_a_face_is_taken_as_an_upright_one(detector: Detector):
    images = torch.full((2, 3, 90, 120), 0.5)
    known = Face((80, 10, 100, 30), 0.9, ((85.0, 15.0),) * 5)
    faces = FaceSet(((known,), ()), (90, 120))
    faces, told = add_drawn_faces(images, faces, [[BOX], [BOX]], detector)
    assert [len(found) for found in faces.faces] == [2, 1] and faces.faces[0][0] == known
    assert told.splitlines() == [
        f"image {image}, box 1: face {face}, no landmarks found, taken as an upright face"
        for image, face in ((1, 2), (2, 1))
    ]
    drawn = FaceSet(((), (faces.faces[1][0],)), (90, 120))
    crops, alignment = align_faces(images, drawn, 64)
    assert crops.shape == (1, 3, 64, 64)
    turn, move = alignment.image_to_crop[0].split([2, 1], 1)
    scale = turn[0, 0].item()
    assert torch.allclose(turn, scale * torch.eye(2, dtype=torch.float64), atol=1e-6), "upright"
    assert 64 / scale > 50, "with room around the box"
    points = torch.tensor(drawn.faces[1][0].landmarks, dtype=torch.float64)
    assert torch.allclose(points @ turn.T + move.T, face_template(64), atol=1e-3)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[BOX], [BOX]], "one list for each of the 1 images, got 2"),
        ([[(5.0, 5.0, 5.0, 9.0)]], "box 1"),
        ([[BOX, (200.0, 5.0, 220.0, 9.0)]], "box 2"),
        ([[(0.0, 0.0, math.nan, 9.0)]], "box 1"),
    ],
)
def test_boxes_that_hold_nothing_are_refused(boxes, message: str, detector: Detector):
    image = torch.full((1, 3, 90, 120), 0.5)
    with pytest.raises(InputError, match=message):
        add_drawn_faces(image, nothing(image), boxes, detector)


def test_each_painted_patch_is_a_box():
    masks = torch.zeros(2, 1, 90, 120)
    masks[0, 0, 20:60, 70:100] = 1
    masks[0, 0, 30:50, 10:40] = 0.8
    masks[0, 0, 80, 60] = 1  # a slip of the brush
    images = torch.zeros(2, 3, 90, 120)
    first, second = painted_boxes(masks, images)
    assert first == [(10, 30, 40, 50), (70, 20, 100, 60)] and second == []
    assert painted_boxes(masks[:1], images) == [first, first], "one counts for all"
    for other in (images[..., :80, :], images[[0, 0, 0]]):
        with pytest.raises(InputError, match="120×90" if len(other) == 2 else "of 3"):
            painted_boxes(masks, other)
    assert painted_boxes(torch.zeros(1, 1, 64, 64), images) == [[], []]
