"""Square crops at any angle and scale out of photographs, antialiased.

A crop is cut in two steps. Where it is coarser than the photograph, its surroundings are sliced
out and reduced to its scale with an antialiased cubic kernel. Then one bicubic warp turns it
upright. The cost depends on the crop, never on the photograph. What lies outside of the
photograph is mirrored about its border, as in FFHQ itself, which the published restorers were
trained on.

Crops are cut one after the other: on a processor, tensors of one crop stay in its cache, and a
batch of them was measured slower.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .geometry import compose, invert, mirrored_index, resize_matrix, scale_of, transform_points
from .warp import sample, sampling_grid

_MARGIN = 4  # pixels around a window that the kernels of reducing and warping reach into
_AT_ONCE = 1 << 22  # pixels of a photograph that are reduced at once: bounds the memory


def cut_crops(
    images: Tensor, image_to_crop: Tensor, image_index: tuple[int, ...], size: int
) -> Tensor:
    """Resamples square crops, antialiased where they are coarser than their image.

    Args:
        images: B×3×H×W float32 RGB in [0, 1].
        image_to_crop: N×2×3 float64 similarities from image to crop pixels.
        image_index: the image of each of the N crops.
        size: side of the crops in pixels.

    Returns:
        N×3×size×size crops in [0, 1].
    """
    crops = images.new_empty(len(image_index), images.shape[1], size, size)
    for crop, i, matrix in zip(crops, image_index, image_to_crop, strict=True):
        window, crop_to_window = _window(images[i : i + 1], matrix, size)
        in_size = (window.shape[2], window.shape[3])
        grid = sampling_grid(crop_to_window, (size, size), in_size, images.device)
        torch.clamp(sample(window, grid, "bicubic", "zeros")[0], 0, 1, out=crop)
    return crops


def _window(image: Tensor, image_to_crop: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The 1×3×h×w surroundings of one crop, and the 2×3 matrix from the crop to them.

    Scale: the image's, or the crop's if that is coarser.
    """
    crop_to_image = invert(image_to_crop)
    shrink = max(1.0, float(scale_of(crop_to_image)))
    if shrink > 1:
        image, to_image = _reduced(image, crop_to_image, size, shrink)
        crop_to_image = compose(crop_to_image, to_image)
    edge = size - 1.0
    corners = torch.tensor([[0, 0], [edge, 0], [0, edge], [edge, edge]], dtype=torch.float64)
    points = transform_points(crop_to_image, corners)
    left, top = (math.floor(value) - _MARGIN for value in points.amin(0).tolist())
    right, bottom = (math.ceil(value) + _MARGIN + 1 for value in points.amax(0).tolist())
    height, width = image.shape[2:]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        window = image[:, :, top:bottom, left:right]
    else:
        rows = mirrored_index(torch.arange(top, bottom), height).to(image.device)
        columns = mirrored_index(torch.arange(left, right), width).to(image.device)
        window = image[:, :, rows[:, None], columns]
    to_window = torch.tensor([[1, 0, -left], [0, 1, -top]], dtype=torch.float64)
    return window, compose(crop_to_image, to_window)


def _reduced(
    image: Tensor, crop_to_image: Tensor, size: int, shrink: float
) -> tuple[Tensor, Tensor]:
    """The part of an image that a crop shows, at the crop's scale, and the matrix to it."""
    reach = shrink * (math.ceil(size * math.sqrt(2)) / 2 + 2 * _MARGIN)
    middle = torch.full((1, 2), (size - 1) / 2, dtype=torch.float64)
    centre = transform_points(crop_to_image, middle)[0].tolist()
    x0, x1 = _span(centre[0], reach, image.shape[3])
    y0, y1 = _span(centre[1], reach, image.shape[2])
    full = (y1 - y0, x1 - x0)
    reduced = (max(1, round(full[0] / shrink)), max(1, round(full[1] / shrink)))
    window = _shrunk(image[:, :, y0:y1, x0:x1], reduced)
    to_window = torch.tensor([[1, 0, -x0], [0, 1, -y0]], dtype=torch.float64)
    return window, compose(to_window, resize_matrix(full, reduced))


def _shrunk(image: Tensor, size: tuple[int, int]) -> Tensor:
    """B×C×H×W at a smaller (height, width): across in bands of rows, then down.

    One call would do the same, but would copy its whole input first.
    """
    rows = max(1, _AT_ONCE // image.shape[3])
    narrow = [
        F.interpolate(band, (band.shape[2], size[1]), mode="bicubic", antialias=True)
        for band in image.split(rows, 2)
    ]
    return F.interpolate(torch.cat(narrow, 2), size, mode="bicubic", antialias=True)


def _span(centre: float, reach: float, length: int) -> tuple[int, int]:
    """The whole pixels within ``reach`` of ``centre``, inside [0, length), at least one."""
    first = min(max(math.floor(centre - reach), 0), length - 1)
    return first, max(min(math.ceil(centre + reach) + 1, length), first + 1)
