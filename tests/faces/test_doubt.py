"""Doubtful faces: what is looked at again, and what is told apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bfr.faces.doubt import CONFIDENCE, confidence, set_aside
from bfr.faces.retinaface import load_detector
from bfr.records import Face, FaceSet
from tests.portraits import astronaut, face_at


class Sees:
    """A detector that gives each look the next score, and sees something sure in a corner."""

    device = torch.device("cpu")

    def __init__(self, *scores: float):
        self.scores, self.looks = list(scores), 0

    def __call__(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.looks += 1
        score = self.scores[self.looks % len(self.scores)]
        middle = (crops.shape[-1] - 1) / 2
        boxes = torch.tensor([[middle - 20, middle - 20, middle + 20, middle + 20], [0, 0, 5, 5]])
        count = len(crops)
        return torch.tensor([[score, 1.0]] * count), boxes.expand(count, 2, 4), torch.zeros(1)


def sees(*scores: float) -> Any:
    return Sees(*scores)


def unsure(score: float = 0.7) -> Face:
    return replace(face_at(60, 60, 30), score=score)


def test_a_face_that_every_look_confirms_stays():
    image = torch.rand(1, 3, 120, 120)
    assert confidence(image, unsure(), sees(1.0)) == pytest.approx(0.7)


def test_one_that_a_single_look_does_not_see_is_doubtful():
    image = torch.rand(1, 3, 120, 120)
    found = confidence(image, unsure(), sees(1.0, 1.0, 1.0, 0.0))
    assert found < CONFIDENCE, "what else is seen beside it does not count"


def test_a_sure_face_is_not_looked_at_again():
    network = sees(0.0)
    assert confidence(torch.rand(1, 3, 120, 120), unsure(0.9), network) == 0.9
    assert network.looks == 0


def test_faces_are_parted_in_their_order():
    faces = (unsure(0.9), unsure(0.6), unsure(0.85))
    images, found = torch.rand(2, 3, 120, 120), FaceSet((faces, ()), (120, 120))
    sure, left = set_aside(images, found, sees(0.0))
    assert sure.faces == ((faces[0], faces[2]), ()) and left.faces == ((faces[1],), ())
    assert sure.image_size == left.image_size == (120, 120)


def test_the_embedded_detector_tells_a_face_from_a_texture():
    image, face = astronaut()
    face = replace(face, score=0.7)
    noise = torch.rand(1, 3, 320, 512, generator=torch.Generator().manual_seed(0))
    detector = load_detector()
    assert confidence(image, face, detector) > CONFIDENCE
    assert confidence(noise, face, detector) < CONFIDENCE
