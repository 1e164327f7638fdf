"""Records that pass between stages: faces, alignments, progress, and counts in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

OnStep = Callable[[int, int, "Tensor | None"], None]
"""Progress callback ``on_step(done, total, preview)``; raising from it cancels.

``preview`` is None or a BCHW float32 RGB image in [0, 1].
"""


@dataclass(frozen=True, slots=True)
class Face:
    """One detected face, in pixels of its image (pixel centres on whole numbers).

    Attributes:
        box: ``(x0, y0, x1, y1)``; may reach outside the image.
        score: the detector's confidence in [0, 1].
        landmarks: five ``(x, y)`` points: left eye, right eye, nose tip, left and right
            mouth corner; left and right as seen on the upright face.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: tuple[tuple[float, float], ...]

    @property
    def width(self) -> float:
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]

    @property
    def area(self) -> float:
        """Box area in square pixels."""
        return max(self.width, 0.0) * max(self.height, 0.0)

    @property
    def size(self) -> float:
        """The box's longer side in pixels."""
        return max(self.width, self.height)

    def mapped(self, scale: float, corner: tuple[float, float] = (0.0, 0.0)) -> Face:
        """The face where it is if its image is resized by ``scale`` and then laid at ``corner``."""

        def place(x: float, y: float) -> tuple[float, float]:
            return (x + 0.5) * scale - 0.5 + corner[0], (y + 0.5) * scale - 0.5 + corner[1]

        x0, y0, x1, y1 = self.box
        points = tuple(place(*point) for point in self.landmarks)
        return Face((*place(x0, y0), *place(x1, y1)), self.score, points)


@dataclass(frozen=True, slots=True)
class FaceSet:
    """The faces of a batch of equally large images; the ``BFR_FACES`` socket.

    Attributes:
        faces: one tuple of faces an image, in the images' order; empty where none was found.
        image_size: ``(height, width)`` of the images in pixels.
    """

    faces: tuple[tuple[Face, ...], ...]
    image_size: tuple[int, int]

    @property
    def count(self) -> int:
        """Faces in all images together."""
        return sum(len(faces) for faces in self.faces)


@dataclass(frozen=True, slots=True)
class Alignment:
    """The origin of each aligned crop; the ``BFR_ALIGNMENT`` socket.

    Attributes:
        image_to_crop: N×2×3 float64, maps image pixels to crop pixels.
        image_index: for each of the N crops the index of its image.
        crop_size: ``(height, width)`` of the crops.
        image_size: ``(height, width)`` of the images.
        image_count: number of images in the batch, those without faces included.
        faces: the N faces, in the crops' order.
    """

    image_to_crop: Tensor
    image_index: tuple[int, ...]
    crop_size: tuple[int, int]
    image_size: tuple[int, int]
    image_count: int
    faces: tuple[Face, ...]

    def __len__(self) -> int:
        return len(self.image_index)


def counted(number: int, noun: str) -> str:
    """A number of things in words: ``"1 face"``, ``"2 faces"``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
