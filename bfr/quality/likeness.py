"""Likeness to a reference: of pixels, of structure, of low frequencies and of landmarks.

Two kinds of likeness are never mixed: `consistency_psnr` judges shapes and colours, which the
constraint of sampling holds, and `landmarks_apart` the place of eyes, nose and mouth. Each
function gives one float64 value per image.
"""

from __future__ import annotations

import math

import torch
from kornia.metrics import ssim as ssim_map
from torch import Tensor

from ..errors import InputError
from ..faces.detect import detect_faces
from ..faces.landmarks import landmarks_of
from ..faces.retinaface import Detector
from ..image.geometry import face_template
from ..image.lowpass import lowpass
from ..records import Face

_WINDOW = 11  # side in pixels of SSIM's Gaussian window, whose standard deviation is 1.5


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, in decibels: ``-10·log10(MSE)``.

    Args:
        images: B×3×H×W RGB in [0, 1].
        reference: B×3×H×W RGB in [0, 1].

    Returns:
        B float64 values; infinite for equal images.

    Raises:
        InputError: if the shapes differ.
    """
    _check_pair(images, reference)
    return -10 * torch.log10((images.double() - reference.double()).square().mean((1, 2, 3)))


def ssim(images: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity of each image: likeness of light, contrast and local structure.

    Wang, Bovik, Sheikh and Simoncelli ("Image Quality Assessment: From Error Visibility to
    Structural Similarity", IEEE TIP 2004, eq. 13) under their Gaussian window of 11 pixels and
    standard deviation 1.5, wherever it fits into the image; the mean over the three channels.

    Args:
        images: B×3×H×W RGB in [0, 1], at least 11 pixels high and wide.
        reference: B×3×H×W RGB in [0, 1].

    Returns:
        B float64 values up to 1, the value of equal images.

    Raises:
        InputError: if the shapes differ or the images are too small.
    """
    _check_pair(images, reference)
    if min(images.shape[-2:]) < _WINDOW:
        raise InputError(
            f"For SSIM, images must be at least {_WINDOW} pixels high and wide, got "
            f"{images.shape[-1]}×{images.shape[-2]}. Use larger faces."
        )
    return ssim_map(images.double(), reference.double(), _WINDOW, padding="valid").mean((1, 2, 3))


def likeness_factor(size: int) -> int:
    """The low-pass factor at which restored faces are compared with their input.

    The greatest divisor of the side up to a 32nd of it: the paper's 16 at 512 pixels, 8 at 256.
    """
    return max(n for n in range(1, max(size // 32, 1) + 1) if size % n == 0)


def consistency_psnr(images: Tensor, reference: Tensor, factor: int) -> Tensor:
    """Likeness of shapes and colours: the PSNR of the low frequencies φ(images), φ(reference).

    Detail finer than ``factor`` pixels does not count: a guess and its pseudo target are compared
    in what the constraint preserves.

    Args:
        images: B×3×H×W RGB in [0, 1].
        reference: B×3×H×W RGB in [0, 1].
        factor: the low-pass factor N; divides both sides.

    Returns:
        B float64 values in decibels; infinite for equal images.

    Raises:
        InputError: if the shapes differ or ``factor`` does not divide the sides.
    """
    _check_pair(images, reference)
    return psnr(lowpass(images.double(), factor), lowpass(reference.double(), factor))


def find_landmarks(images: Tensor, detector: Detector, *, score: float = 0.5) -> Tensor:
    """The five landmarks of the face in each aligned crop.

    Args:
        images: B×3×S×S RGB in [0, 1], aligned crops.
        detector: a network of `load_detector`.
        score: least confidence in [0, 1] of a face.

    Returns:
        B×5×2 float64 points (x, y) in pixels; NaN where a crop shows no face. In a crop with
        several faces, the one nearest to the alignment's template counts.

    Raises:
        InputError: if the crops are not square.
    """
    size = images.shape[-1]
    if images.shape[-2] != size:
        raise InputError(
            f"Aligned crops must be square, got {images.shape[-2]}×{size} pixels (height × "
            "width). Align the faces first."
        )
    template = face_template(size)
    found = detect_faces(images, detector, score=score, try_rotations=False).faces
    nearest = [_landmarks_nearest(faces, template) for faces in found]
    return torch.stack(nearest) if nearest else template.new_empty(0, 5, 2)


def landmarks_apart(landmarks: Tensor, reference: Tensor) -> Tensor:
    """The mean distance between two sets of the five landmarks.

    Args:
        landmarks: B×5×2 points of `find_landmarks`.
        reference: B×5×2 points of the same faces.

    Returns:
        B float64 values in distances between the reference's eyes; NaN where a face is missing.
    """
    distance = (landmarks - reference).norm(dim=-1).mean(1)
    return distance / (reference[:, 0] - reference[:, 1]).norm(dim=-1)


def _check_pair(images: Tensor, reference: Tensor) -> None:
    if images.shape != reference.shape:
        raise InputError(
            f"Images to compare must have one shape, got {tuple(images.shape)} and "
            f"{tuple(reference.shape)}. Give the same faces at the same size."
        )


def _landmarks_nearest(faces: tuple[Face, ...], template: Tensor) -> Tensor:
    """5×2 landmarks of the face nearest to a 5×2 template, or NaN."""
    nothing = torch.full_like(template, math.nan)
    return min(
        landmarks_of(faces),
        key=lambda p: float((p - template).norm(dim=-1).mean()),
        default=nothing,
    )
