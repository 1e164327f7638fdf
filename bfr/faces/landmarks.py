"""The five landmarks of faces, as a tensor and back.

Faces travel as records, because most of what is done with them is to pick, sort, number and report
them one by one; what computes with them takes their landmarks from here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..records import Face


def landmarks_of(faces: Sequence[Face]) -> Tensor:
    """N×5×2 float64 points (x, y) in pixels of the faces' images, on the CPU; N may be 0."""
    points = torch.tensor([face.landmarks for face in faces], dtype=torch.float64)
    return points.reshape(len(faces), 5, 2)


def as_points(landmarks: Tensor) -> tuple[tuple[float, float], ...]:
    """A face's 5×2 landmarks as `Face` holds them."""
    return tuple((x, y) for x, y in landmarks.tolist())


def landmark_gap(one: Face, other: Face) -> float:
    """The mean distance of the landmarks of two faces, in pixels."""
    gaps = [math.dist(p, q) for p, q in zip(one.landmarks, other.landmarks, strict=True)]
    return sum(gaps) / len(gaps)
