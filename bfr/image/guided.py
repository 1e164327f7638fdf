"""The guided filter: a mask that follows the edges of its picture.

In each window the mask p is fitted by a plane in the colours of the picture I, p ≈ a·I + b, by
least squares with a ridge ε on a; each pixel takes the mean of the planes of the windows that it
lies in (He, Sun and Tang, "Guided Image Filtering", ECCV 2010). Where a mask says roughly where a
thing is, its colours say where it ends. The planes vary slowly, so they are found for both at half
their size (He and Sun, "Fast Guided Filter", 2015).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def guided(masks: Tensor, pictures: Tensor, radius: int, ridge: float) -> Tensor:
    """Lets masks follow the edges of pictures.

    Args:
        masks: B×1×H×W; H and W even.
        pictures: B×3×H×W RGB in [0, 1].
        radius: of the windows in pixels, even.
        ridge: ε; edges of much less than its root are not followed.

    Returns:
        B×1×H×W, which may leave the range of the masks a little.
    """
    small, masks = F.avg_pool2d(pictures, 2), F.avg_pool2d(masks, 2)
    planes = _planes(masks, small, radius // 2, ridge)
    planes = F.interpolate(planes, scale_factor=2.0, mode="bilinear")
    return (planes[:, :3] * pictures).sum(1, keepdim=True) + planes[:, 3:]


def _planes(masks: Tensor, pictures: Tensor, radius: int, ridge: float) -> Tensor:
    """a and b of each pixel: B×4×H×W."""
    squares = [pictures[:, i : i + 1] * pictures[:, j : j + 1] for i, j in _PAIRS]
    means = _mean(torch.cat([pictures, masks, pictures * masks, *squares], 1), radius)
    picture, mask, product, square = means.split((3, 1, 3, len(_PAIRS)), 1)
    covariance = product - picture * mask
    own = [
        square[:, k] - picture[:, i] * picture[:, j] + (ridge if i == j else 0)
        for k, (i, j) in enumerate(_PAIRS)
    ]
    slope = _solved(own, covariance)
    planes = torch.cat([slope, mask - (slope * picture).sum(1, keepdim=True)], 1)
    return _mean(planes, radius)


def _mean(x: Tensor, radius: int) -> Tensor:
    """The mean of each window, of what of it lies in the picture."""
    for axis in (0, 1):
        reach = [radius * (axis == 0), radius * (axis == 1)]
        side = [2 * each + 1 for each in reach]
        x = F.avg_pool2d(x, side, 1, reach, count_include_pad=False)
    return x


def _solved(matrix: list[Tensor], vector: Tensor) -> Tensor:
    """x of M·x = v for symmetric 3×3 matrices, given as B×H×W for each of `_PAIRS`."""
    xx, xy, xz, yy, yz, zz = matrix
    inverse = (
        (yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy),
        (xz * yz - xy * zz, xx * zz - xz * xz, xy * xz - xx * yz),
        (xy * yz - xz * yy, xy * xz - xx * yz, xx * yy - xy * xy),
    )
    x, y, z = vector.unbind(1)
    determinant = xx * inverse[0][0] + xy * inverse[0][1] + xz * inverse[0][2]
    rows = [a * x + b * y + c * z for a, b, c in inverse]
    return torch.stack([row / determinant for row in rows], 1)
