"""Photographs with known faces for the tests of the stages around a face.

Their landmarks are written down, so that no test depends on the weights of a detector.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from skimage import data
from torch import Tensor
from torch.nn import functional as F

from bfr.faces.align import align_faces
from bfr.files.photos import read_photo
from bfr.image.geometry import resize_matrix, transform_points
from bfr.records import Face, FaceSet

# Eyes, nose tip and mouth corners of scikit-image's astronaut, by eye; her face is 100 px high.
ASTRONAUT = ((203.0, 105.0), (247.0, 100.0), (228.0, 122.0), (206.0, 144.0), (244.0, 142.0))

SAMPLES = {
    "eileen_collins": ((105.2, 100), (148.9, 102.5), (125.7, 129), (103.5, 139.1), (146.1, 141.3)),
    "grace_hopper": (
        (153.2, 191.5),
        (236.8, 187.1),
        (198.1, 240.5),
        (163.1, 277.6),
        (235.7, 273.6),
    ),
}
"""The same of the sample photographs, by a detector."""


def samples(size: int) -> Tensor:
    """The faces of the sample photographs, aligned: 2×3×S×S."""
    crops = []
    for name, points in SAMPLES.items():
        photo = read_photo(Path(__file__).parent.parent / f"samples/{name}.jpg").pixels
        face = face_of(torch.tensor(points, dtype=torch.float64))
        crops.append(align_faces(photo, only(face, photo), size)[0])
    return torch.cat(crops)


def astronaut(scale: float = 1.0) -> tuple[Tensor, Face]:
    """The upper half of the NASA portrait, 1×3×H×W, and its face; resized, 320×512 at scale 1."""
    image = torch.from_numpy(data.astronaut()[:320].copy()).permute(2, 0, 1)[None] / 255
    size = round(320 * scale), round(512 * scale)
    resized = F.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)
    points = torch.tensor(ASTRONAUT, dtype=torch.float64)
    return resized, face_of(transform_points(resize_matrix((320, 512), size), points))


def face_of(landmarks: Tensor, score: float = 0.9) -> Face:
    """A face with 5×2 landmarks and a box of usual proportions around them."""
    (x0, y0), (x1, y1) = landmarks.amin(0).tolist(), landmarks.amax(0).tolist()
    dx, dy = 0.5 * (x1 - x0), 0.7 * (y1 - y0)
    points = tuple((x, y) for x, y in landmarks.tolist())
    return Face((x0 - dx, y0 - dy, x1 + dx, y1 + dy), score, points)


def face_at(x: float, y: float, eyes: float, degrees: float = 0.0) -> Face:
    """A face whose eyes are ``eyes`` pixels apart, turned clockwise about its nose at (x, y)."""
    shape = torch.tensor([[-0.5, -0.6], [0.5, -0.6], [0, 0], [-0.45, 0.45], [0.45, 0.45]])
    angle = math.radians(degrees)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return face_of((eyes * shape @ turn.T + torch.tensor([x, y])).double())


def only(face: Face, image: Tensor) -> FaceSet:
    """A set with this one face in one image."""
    return FaceSet(((face,),), (image.shape[2], image.shape[3]))


def psnr(found: Tensor, wanted: Tensor, where: Tensor) -> float:
    """Peak signal-to-noise ratio in dB over the B×1×H×W boolean pixels."""
    error = (found - wanted).square().mean(1, keepdim=True)[where].mean()
    return float(-10 * error.clamp(min=1e-12).log10())
