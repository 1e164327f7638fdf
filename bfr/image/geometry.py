"""Similarity transforms and the FFHQ face template, in closed form.

Points are (x, y) pixels and pixel centres lie on whole numbers: (0, 0) is the centre of the
top-left pixel. A 2×3 matrix ``m`` maps a point ``p`` to ``m[:, :2] @ p + m[:, 2]``.
Everything is float64; N is the batch dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError

# The published 5-point template of aligned 512 px FFHQ faces: left eye, right eye, nose tip,
# left and right mouth corner (left as seen in the image).
_FFHQ_512 = (
    (192.98138, 239.94708),
    (318.90277, 240.19360),
    (256.63416, 314.01935),
    (201.26117, 371.41043),
    (313.08905, 371.15118),
)


MIRROR_ORDER = (1, 0, 2, 4, 3)
"""The order of a face's landmarks in a mirror, where left is right."""

FACE_CENTRE = (256.0, 290.0)
"""The middle of a face's box, from hairline to chin, on the 512 px template."""


def face_template(size: int) -> Tensor:
    """The FFHQ landmarks in a square crop.

    Args:
        size: side of the crop in pixels.

    Returns:
        5×2 float64 points (x, y). A crop of another size is the 512 px crop resized, so the
        points are scaled about the pixel corners.
    """
    template = torch.tensor(_FFHQ_512, dtype=torch.float64)
    return transform_points(resize_matrix((512, 512), (size, size)), template)


def resize_matrix(from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """The map of pixel coordinates when an image is resized.

    Args:
        from_size: ``(height, width)`` before.
        to_size: ``(height, width)`` after.

    Returns:
        2×3 float64 matrix.
    """
    sy, sx = to_size[0] / from_size[0], to_size[1] / from_size[1]
    return torch.tensor([[sx, 0.0, (sx - 1) / 2], [0.0, sy, (sy - 1) / 2]], dtype=torch.float64)


def quarter_turn_matrix(size: tuple[int, int], turns: int) -> Tensor:
    """The map of pixel coordinates under ``torch.rot90(image, turns, (-2, -1))``.

    Args:
        size: ``(height, width)`` of the image before turning.
        turns: quarter turns counter-clockwise; any integer.

    Returns:
        2×3 float64 matrix.
    """
    height, width = size
    matrices = (
        [[1, 0, 0], [0, 1, 0]],
        [[0, 1, 0], [-1, 0, width - 1]],
        [[-1, 0, width - 1], [0, -1, height - 1]],
        [[0, -1, height - 1], [1, 0, 0]],
    )
    return torch.tensor(matrices[turns % 4], dtype=torch.float64)


def fit_similarity(source: Tensor, target: Tensor) -> Tensor:
    """Least-squares rotation, uniform scale and shift from one point set to another.

    The closed form of Umeyama (1991) without reflection, written with complex numbers: with
    centred points z and w, the best ``w ≈ a·z`` has ``a = Σ conj(z)·w / Σ |z|²``.

    Args:
        source: N×P×2 points.
        target: P×2 or N×P×2 points.

    Returns:
        N×2×3 float64 matrices.

    Raises:
        InputError: if points are not finite, or all of a set's source points coincide.
    """
    source, target = source.double(), target.double().expand(source.shape)
    if not (torch.isfinite(source).all() and torch.isfinite(target).all()):
        raise InputError("Landmarks must be finite numbers, got NaN or ∞. Detect the faces again.")
    source_mean, target_mean = source.mean(-2), target.mean(-2)
    z = torch.view_as_complex((source - source_mean[..., None, :]).contiguous())
    w = torch.view_as_complex((target - target_mean[..., None, :]).contiguous())
    spread = z.abs().square().sum(-1)
    if (spread <= 1e-12).any():
        raise InputError(
            "Landmarks of a face must not coincide, got all in one point. Detect the faces again."
        )
    a = (z.conj() * w).sum(-1) / spread
    rotation = torch.stack(
        [torch.stack([a.real, -a.imag], -1), torch.stack([a.imag, a.real], -1)], -2
    )
    shift = target_mean - (rotation @ source_mean[..., None])[..., 0]
    return torch.cat([rotation, shift[..., None]], -1)


def invert(matrix: Tensor) -> Tensor:
    """The inverse of …×2×3 affine matrices."""
    linear = torch.linalg.inv(matrix[..., :2])
    return torch.cat([linear, -(linear @ matrix[..., 2:])], -1)


def compose(first: Tensor, then: Tensor) -> Tensor:
    """The …×2×3 matrix that applies ``first``, and ``then`` on its result."""
    linear = then[..., :2] @ first[..., :2]
    shift = then[..., :2] @ first[..., 2:] + then[..., 2:]
    return torch.cat([linear, shift.expand(*linear.shape[:-1], 1)], -1)


def transform_points(matrix: Tensor, points: Tensor) -> Tensor:
    """Applies …×2×3 matrices to …×P×2 points (x, y)."""
    matrix = matrix.to(points.dtype)
    return points @ matrix[..., :2].mT + matrix[..., None, :, 2]


def mirrored_index(index: Tensor, length: int) -> Tensor:
    """Whole positions mirrored into [0, length), edges repeated: … 1 0 | 0 1 … n-1 | n-1 …"""
    around = index % (2 * length)
    return torch.where(around < length, around, 2 * length - 1 - around)


def scale_of(matrix: Tensor) -> Tensor:
    """The length scale of …×2×3 affine matrices: √|det|."""
    return torch.linalg.det(matrix[..., :2]).abs().sqrt()
