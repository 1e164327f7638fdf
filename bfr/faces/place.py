"""The place of an aligned crop in its photograph."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..image.geometry import compose, invert, scale_of, transform_points
from ..image.warp import sampling_grid

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels; the last ones are excluded."""


class Place:
    """The pixels of a photograph that a crop covers.

    Attributes:
        around: the crop's bounding box.
        box: that of its mask, inside it.
        shrink: pixels of the photograph per pixel of the crop.
    """

    def __init__(
        self, image_to_crop: Tensor, size: int, photo_size: tuple[int, int], outline: Tensor
    ) -> None:
        """Places a crop.

        Args:
            image_to_crop: 2×3 float64.
            size: side of the crop.
            photo_size: ``(height, width)`` of the photograph.
            outline: P×2 float64 points (x, y) of the crop around all that its mask shows.
        """
        edge = size - 1.0
        corners = torch.tensor([[0, 0], [edge, 0], [0, edge], [edge, edge]], dtype=torch.float64)
        crop_to_image = invert(image_to_crop)
        self.around = _bounds(transform_points(crop_to_image, corners), photo_size)
        self.box = _bounds(transform_points(crop_to_image, outline), photo_size)
        self.shrink = float(scale_of(crop_to_image))
        self._size, self._image_to_crop = size, image_to_crop

    @property
    def empty(self) -> bool:
        return self.box[0] >= self.box[2] or self.box[1] >= self.box[3]

    def shared(self, other: Place) -> Box | None:
        """The box that both have in common, if there is one."""
        (a, b, c, d), (e, f, g, h) = self.box, other.box
        box = max(a, e), max(b, f), min(c, g), min(d, h)
        return box if box[0] < box[2] and box[1] < box[3] else None

    def grid(self, box: Box, rows: range, device: torch.device) -> Tensor:
        """The positions of the pixels in some rows of a box, in this crop at any size.

        Args:
            box: of the photograph.
            rows: counted from the box's first one.
            device: of the result, see `sampling_grid`.
        """
        to_image = torch.tensor([[1, 0, box[0]], [0, 1, box[1]]], dtype=torch.float64)
        matrix, size = compose(to_image, self._image_to_crop), (len(rows), box[2] - box[0])
        return sampling_grid(matrix, size, (self._size, self._size), device, rows.start)


def _bounds(points: Tensor, size: tuple[int, int]) -> Box:
    """The whole pixels around N×2 points, as far as they lie in a photograph of a size."""
    x0, y0 = (max(0, math.floor(value)) for value in points.amin(0).tolist())
    x1, y1 = (math.ceil(value) + 1 for value in points.amax(0).tolist())
    return x0, y0, min(x1, size[1]), min(y1, size[0])
