"""Landmarks as a tensor and back."""

from __future__ import annotations

import torch

from bfr.faces.landmarks import as_points, landmarks_of
from bfr.records import Face


def test_there_and_back_is_the_same():
    points = torch.rand(2, 5, 2, dtype=torch.float64) * 1000
    faces = [Face((0.0, 0.0, 1.0, 1.0), 1.0, as_points(each)) for each in points]
    assert torch.equal(landmarks_of(faces), points)


def test_no_faces_have_no_landmarks():
    assert landmarks_of([]).shape == (0, 5, 2)
