"""Square crops at any angle and scale out of photographs, antialiased.

A crop is cut in two steps. Its window, a little larger than the crop's square at any angle,
is sliced out of the photograph and, where the crop is the coarser of the two, reduced to the
crop's scale with an antialiased cubic kernel. All windows then have one size, fixed by the
crop size alone, and one bicubic warp turns them all upright. The cost of a crop depends on
the crop, never on the photograph. What lies outside of the photograph is mirrored about its
border, as in FFHQ itself, which the published restorers were trained on.
"""

from __future__ import annotations

import math

import torch
from kornia.geometry.transform import warp_affine
from torch import Tensor
from torch.nn import functional as F

from .geometry import compose, invert, mirrored_index, resize_matrix, scale_of, transform_points

_MARGIN = 4  # pixels around a window that the kernels of reducing and warping reach into
_FACES_AT_ONCE = 8  # bounds the memory of one warp


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
    for start in range(0, len(image_index), _FACES_AT_ONCE):
        part = slice(start, start + _FACES_AT_ONCE)
        windows = [
            _window(images[i : i + 1], matrix, size)
            for i, matrix in zip(image_index[part], image_to_crop[part], strict=True)
        ]
        matrices = torch.stack([matrix for _, matrix in windows]).to(crops)
        pixels = torch.cat([window for window, _ in windows])
        crops[part] = warp_affine(pixels, matrices, (size, size), "bicubic", "border", True)
    return crops.clamp_(0, 1)


def _window(image: Tensor, image_to_crop: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The 1×3×C×C surroundings of one crop, and the 2×3 matrix from them to the crop.

    C depends on the crop size only. Scale: the image's, or the crop's if that is coarser.
    """
    side = math.ceil(size * math.sqrt(2)) + 2 * _MARGIN
    middle = torch.full((1, 2), (size - 1) / 2, dtype=torch.float64)
    centre = transform_points(invert(image_to_crop), middle)[0].tolist()
    shrink = max(1.0, 1.0 / float(scale_of(image_to_crop)))
    x0, x1 = _span(centre[0], shrink * (side / 2 + _MARGIN), image.shape[3])
    y0, y1 = _span(centre[1], shrink * (side / 2 + _MARGIN), image.shape[2])
    window = image[:, :, y0:y1, x0:x1]
    to_window = torch.tensor([[1, 0, -x0], [0, 1, -y0]], dtype=torch.float64)
    if shrink > 1:
        full = (y1 - y0, x1 - x0)
        reduced = (max(1, round(full[0] / shrink)), max(1, round(full[1] / shrink)))
        window = F.interpolate(window, reduced, mode="bicubic", antialias=True)
        to_window = compose(to_window, resize_matrix(full, reduced))
    centre = transform_points(to_window, torch.tensor([centre], dtype=torch.float64))[0].tolist()
    left, top = math.floor(centre[0]) - side // 2, math.floor(centre[1]) - side // 2
    rows = mirrored_index(torch.arange(top, top + side), window.shape[2])
    columns = mirrored_index(torch.arange(left, left + side), window.shape[3])
    to_window = compose(to_window, torch.tensor([[1, 0, -left], [0, 1, -top]], dtype=torch.float64))
    window = window[:, :, rows.to(image.device)][:, :, :, columns.to(image.device)]
    return window, compose(invert(to_window), image_to_crop)


def _span(centre: float, reach: float, length: int) -> tuple[int, int]:
    """The whole pixels within ``reach`` of ``centre``, inside [0, length), at least one."""
    first = min(max(math.floor(centre - reach), 0), length - 1)
    return first, max(min(math.ceil(centre + reach) + 1, length), first + 1)
