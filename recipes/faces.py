"""The labelled and unlabelled faces under the data folder, read in one way for every recipe.

The folder is the one described by its own SOURCES.md (path given on the command line). Labels
are five landmarks a face; boxes follow from them, so that every source agrees on what a box is.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bfr.image.geometry import (
    FACE_CENTRE,
    face_template,
    fit_similarity,
    invert,
    scale_of,
    transform_points,
)

TRAIN_FOLDERS = (
    "train/congress",
    "train/wiki",
    "train/headshots",
    "train/generated",
    "train/generated_wild",
    "train/generated_diverse",
)
"""Portraits for training; generated ones are in three folders, so that recipes can weigh them."""

_LABEL_SHIFT = {"keypoints": (1.15, 1.5), "far": (0.2, 0.3), "near": (1.4, 1.2)}
"""Pixels by which the labels lie right of and below what they mark.

To the right: the mean distance from the points of a detector that looks straight and in a mirror,
which cannot prefer a side. Down: that, and how far such a detector's points lie below the FFHQ
template on faces that are aligned to it. `keypoints5` has two sources, told apart by their size.
"""
_NEAR = 17.0  # distance of the eyes in pixels, from which on a face of `keypoints5` is near
_BOX_SIDES = (256.0, 330.0)  # of a face on the 512 px template


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image file and the F×5×2 landmarks of the faces in it, in pixels."""

    path: Path
    landmarks: np.ndarray


def landmark_boxes(landmarks: np.ndarray) -> np.ndarray:
    """Face boxes F×4 ``(x0, y0, x1, y1)`` from landmarks F×5×2.

    The box reaches from the hairline to the chin and from cheek to cheek of the FFHQ template
    fitted to the landmarks; its sides stay upright and do not grow when the face is tilted.
    """
    if len(landmarks) == 0:
        return np.zeros((0, 4), np.float32)
    points = torch.as_tensor(landmarks, dtype=torch.float64)
    to_image = invert(fit_similarity(points, face_template(512)))
    centre = transform_points(to_image, torch.tensor([[list(FACE_CENTRE)]], dtype=torch.float64))
    half = scale_of(to_image)[:, None] * torch.tensor(_BOX_SIDES, dtype=torch.float64) / 2
    return torch.cat([centre[:, 0] - half, centre[:, 0] + half], 1).float().numpy()


def held_out(path: Path, share: float = 0.1) -> bool:
    """True if a labelled image is kept for evaluation, by a hash of its name."""
    digest = hashlib.sha256(f"{path.parent.parent.name}/{path.name}".encode()).digest()
    return digest[0] / 256 < share


def read_keypoints(data: Path) -> list[LabelledImage]:
    """The `keypoints` (68 points) and `keypoints5` sets as five landmarks an image, put right."""
    labelled = []
    for folder in ("keypoints", "keypoints5"):
        table = next((data / folder).glob("*.csv"))
        with table.open() as file:
            for name, *numbers in list(csv.reader(file))[1:]:
                points = np.array(numbers, np.float32).reshape(-1, 2)
                if len(points) == 68:
                    points = five_of_68(points)
                if _plausible(points):
                    near = "near" if np.linalg.norm(points[1] - points[0]) >= _NEAR else "far"
                    source = folder if folder == "keypoints" else near
                    points -= np.array(_LABEL_SHIFT[source], np.float32)
                    labelled.append(LabelledImage(data / folder / "images" / name, points[None]))
    return labelled


def five_of_68(points: np.ndarray) -> np.ndarray:
    """Eyes, nose tip and mouth corners, 5×2, of 68 landmarks in iBUG's order."""
    eyes = points[36:42].mean(0), points[42:48].mean(0)
    return np.stack([*eyes, points[30], points[48], points[54]])


def _plausible(points: np.ndarray) -> bool:
    """True if the eyes lie left and right of each other, above the mouth, for either tilt."""
    eyes, mouth = points[1] - points[0], points[4] - points[3]
    down = points[3:].mean(0) - points[:2].mean(0)
    wide = np.linalg.norm(eyes)
    across = float(eyes[0] * down[1] - eyes[1] * down[0])
    return bool(wide > 4 and across > 0 and eyes @ mouth > 0)
