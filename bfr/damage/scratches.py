"""Scratches drawn over a clean photograph, to show what finds and repairs them.

The network is trained on a greater variety of them (`recipes/scratch_shapes.py`).
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..errors import InputError
from ..image.tensors import check_images

_FINE = 3  # times the picture's size at which lines are drawn


def draw_scratches(images: Tensor, seed: int, count: int = 7) -> Tensor:
    """Draws a fold, scratches and dust.

    Args:
        images: B×3×H×W RGB in [0, 1].
        seed: draws them; each image of the batch gets the same.
        count: of the scratches.

    Returns:
        B×3×H×W in [0, 1].

    Raises:
        InputError: if they are no images, or the count is negative.
    """
    check_images(images)
    if count < 0:
        raise InputError(f"count must be 0 or more scratches, got {count}.")
    rng, (height, width) = np.random.default_rng(seed), images.shape[-2:]
    over = Image.new("L", (width * _FINE, height * _FINE))
    draw, unit = ImageDraw.Draw(over), _FINE * max(1.0, min(height, width) / 500)
    size = np.array(over.size)
    fold = np.linspace([0.0, rng.uniform(0.2, 0.4)], [1.0, rng.uniform(0.5, 0.7)], 60) * size
    fold[:, 1] += rng.normal(0, 0.6 * unit, len(fold))
    draw.line([tuple(point) for point in fold.tolist()], 235, round(3.5 * unit))
    for _ in range(count):
        start, way = rng.uniform(0, 1, 2) * size, rng.normal(0, 0.35, 2) * size
        place = np.linspace(-0.5, 0.5, 40)[:, None]
        points = start + place * way + place**2 * rng.normal(0, 0.1, 2) * size
        shade = int(rng.integers(150, 256))
        draw.line(
            [tuple(point) for point in points.tolist()], shade, round(rng.uniform(1, 2.2) * unit)
        )
    for x, y in rng.uniform(0, 1, (25, 2)) * size:
        reach = rng.uniform(0.6, 2.2) * unit
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), 230)
    small = np.asarray(over.resize((width, height), Image.Resampling.BOX), np.float32) / 255
    return images.lerp(torch.full_like(images, 0.94), torch.from_numpy(small).to(images))
