"""Figures of quality: how close a face is to a reference, how sharp and how grainy it is.

Likeness to a reference has two figures that are never mixed: `consistency_psnr` for shapes and
colours, which the constraint of sampling holds, and `landmark_distance` for the place of eyes,
nose and mouth. Each figure is one float64 value an image; `caption` writes them under pictures.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from torch import Tensor, nn

from ..errors import InputError
from ..faces.detect import detect_faces
from ..image.geometry import face_template
from ..image.lowpass import lowpass
from ..image.tensors import check_images, luma
from ..records import Face

_DETAIL = 2.0  # standard deviation in pixels of the blur that detail is measured against
_PATCH = 8  # side in pixels of the patches whose gradients are compared
_CHANCE = 0.001  # how often the gradients of plain noise may look like an edge
_WINDOW, _SPREAD = 11, 1.5  # of SSIM: side and standard deviation in pixels
_STEADY = 0.01**2, 0.03**2  # of SSIM: keep its two fractions steady where little is to be seen


def check_faces(faces: Tensor, name: str) -> None:
    """Raises InputError unless ``faces`` are aligned ones, N×3×S×S RGB in [0, 1], N at least 1."""
    check_images(faces, name)
    if not len(faces) or faces.shape[-1] != faces.shape[-2]:
        raise InputError(
            f"{name} must be square, aligned faces, and {len(faces)} of {faces.shape[-1]}×"
            f"{faces.shape[-2]} pixels came. Align the faces first."
        )
    if faces.min() < 0 or faces.max() > 1:
        raise InputError(
            f"{name} must lie in [0, 1], and {float(faces.min()):.3g} to "
            f"{float(faces.max()):.3g} came. Clamp them first."
        )


def psnr(images: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of each image, in decibels: ``-10·log10(MSE)``.

    Args:
        images: B×3×H×W RGB in [0, 1].
        reference: B×3×H×W RGB in [0, 1].
        mask: B×1×H×W weights in [0, 1] of the pixels that count; None counts all.

    Returns:
        B float64 values; infinite for equal images, NaN where the mask is empty.

    Raises:
        InputError: if the shapes differ.
    """
    _check_pair(images, reference)
    error = (images.double() - reference.double()).square().mean(1, keepdim=True)
    weights = torch.ones_like(error) if mask is None else mask.double()
    mean = (error * weights).sum((1, 2, 3)) / weights.sum((1, 2, 3))
    return -10 * torch.log10(mean)


def ssim(images: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity of each image: likeness of light, contrast and structure nearby.

    Wang, Bovik, Sheikh and Simoncelli ("Image Quality Assessment: From Error Visibility to
    Structural Similarity", IEEE TIP 2004, eq. 13) under their Gaussian window of 11 pixels and
    standard deviation 1.5, where it lies within the image; the mean over the three channels.

    Args:
        images: B×3×H×W RGB in [0, 1], at least 11 pixels high and wide.
        reference: B×3×H×W RGB in [0, 1].

    Returns:
        B float64 values up to 1, which equal images have.

    Raises:
        InputError: if the shapes differ or the images are too small.
    """
    _check_pair(images, reference)
    if min(images.shape[-2:]) < _WINDOW:
        raise InputError(
            f"For SSIM, images must be at least {_WINDOW} pixels high and wide, and "
            f"{images.shape[-1]}×{images.shape[-2]} came."
        )
    x, y = images.double(), reference.double()

    def nearby(values: Tensor) -> Tensor:
        return gaussian_blur2d(values, _WINDOW, (_SPREAD, _SPREAD))[..., 5:-5, 5:-5]

    mean_x, mean_y = nearby(x), nearby(y)
    variances = nearby(x * x) - mean_x.square() + nearby(y * y) - mean_y.square()
    covariance = nearby(x * y) - mean_x * mean_y
    light, detail = _STEADY
    similar = (2 * mean_x * mean_y + light) * (2 * covariance + detail)
    most = (mean_x.square() + mean_y.square() + light) * (variances + detail)
    return (similar / most).mean((1, 2, 3))


def likeness_factor(size: int) -> int:
    """The low-pass factor at which restored faces are compared with their input.

    It is the greatest divisor of the side up to its 32nd: 16 at 512 pixels, the paper's, and 8 at
    256.
    """
    return max(n for n in range(1, max(size // 32, 1) + 1) if size % n == 0)


def consistency_psnr(images: Tensor, reference: Tensor, factor: int) -> Tensor:
    """Likeness of shapes and colours: the PSNR of the low frequencies, φ(images) to φ(reference).

    Detail finer than ``factor`` pixels does not count, so a guess and its pseudo target compare
    in what the constraint holds together.

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


def sharpness(images: Tensor) -> Tensor:
    """How much fine detail there is that has a direction, as edges and hair have and grain has not.

    The metric Q of Zhu and Milanfar ("Automatic Parameter Selection for Denoising Algorithms
    Using a No-Reference Measure of Image Content", IEEE TIP 2010) on the luma's detail, which is
    what a Gaussian blur of 2 px takes away: with s₁ ≥ s₂ the root mean square gradients of an
    8×8 patch along and across its main direction, the coherence is R = (s₁ - s₂) / (s₁ + s₂),
    and Q the mean of s₁·R over all patches, where R below the bound that plain noise passes
    once in a thousand patches counts as 0. Blur, grain and compression lower it; sharpening
    raises it. It is measured in pixels, so compare images of one size.

    Args:
        images: B×3×H×W RGB in [0, 1], at least 16 pixels high and wide.

    Returns:
        B float64 values from 0, in 255ths a pixel.

    Raises:
        InputError: if the images are none or too small.
    """
    grey = _luma(images)
    kernel = 2 * math.ceil(3 * _DETAIL) + 1
    detail = grey - gaussian_blur2d(grey, kernel, (_DETAIL, _DETAIL), "reflect")
    along_x = (detail[..., 1:-1, 2:] - detail[..., 1:-1, :-2]) / 2
    along_y = (detail[..., 2:, 1:-1] - detail[..., :-2, 1:-1]) / 2
    # The eigenvalues of each patch's gradient matrix [[a, b], [b, c]] are mean ± spread.
    products = (along_x.square(), along_x * along_y, along_y.square())
    a, b, c = (F.avg_pool2d(product, _PATCH) for product in products)
    mean, spread = (a + c) / 2, torch.hypot((a - c) / 2, b)
    first, second = (mean + spread).sqrt(), (mean - spread).clamp(min=0).sqrt()
    coherence = (first - second) / (first + second).clamp(min=1e-12)
    bound = _CHANCE ** (1 / (_PATCH**2 - 1))
    sure = coherence > math.sqrt((1 - bound) / (1 + bound))
    return (first * coherence * sure).mean((1, 2, 3))


def grain(images: Tensor) -> Tensor:
    """The standard deviation of the luma's noise, from the median of a second difference.

    The mask of Immerkær ("Fast Noise Variance Estimation", 1996), [1 -2 1]ᵀ[1 -2 1], answers to
    noise of standard deviation σ with one of 6σ, and hardly to edges; instead of his mean the
    median |answer| = 0.6745·6σ is taken (Donoho), which hair and eyelashes move less. Real skin
    counts as a little grain. Compare images of one size.

    Args:
        images: B×3×H×W RGB in [0, 1], at least 16 pixels high and wide.

    Returns:
        B float64 values, in 255ths.

    Raises:
        InputError: if the images are none or too small.
    """
    answer = _luma(images).diff(n=2, dim=-1).diff(n=2, dim=-2)
    return answer.abs().flatten(1).median(1).values / (6 * 0.6745)


def landmark_distance(
    images: Tensor, reference: Tensor, detector: nn.Module, *, score: float = 0.5
) -> Tensor:
    """How far eyes, nose and mouth moved: the mean distance of the five landmarks.

    Args:
        images: B×3×S×S RGB in [0, 1], aligned crops.
        reference: B×3×S×S RGB in [0, 1], the same faces.
        detector: a network of `load_detector`.
        score: least confidence in [0, 1] of a face.

    Returns:
        B float64 values in distances of the reference's eyes; NaN where either shows no face. In
        a crop with several faces, the one nearest to where alignment puts it counts.

    Raises:
        InputError: if the shapes differ or the crops are not square.
    """
    _check_pair(images, reference)
    size = images.shape[-1]
    if images.shape[-2] != size:
        raise InputError(
            f"Aligned crops are square, but {images.shape[-2]}×{size} pixels (height × width) "
            "came. Align the faces first."
        )
    template = face_template(size)
    both = detect_faces(torch.cat([images, reference]), detector, score=score, try_rotations=False)
    points = torch.stack([_landmarks_nearest(found, template) for found in both.faces])
    moved, kept = points.unflatten(0, (2, len(images)))
    distance = (moved - kept).norm(dim=-1).mean(1)
    return distance / (kept[:, 0] - kept[:, 1]).norm(dim=-1)


def caption(
    *,
    likeness: float | None = None,
    moved: float | None = None,
    sharp: float | None = None,
    grain: float | None = None,
    niqe: float | None = None,
) -> str:
    """The figures of one image in few words, as "like 38.2 dB  sharp 2.41".

    Args:
        likeness: a `consistency_psnr`, in decibels.
        moved: a `landmark_distance`, written in hundredths of the distance of the eyes.
        sharp: a `sharpness`.
        grain: a `grain`.
        niqe: a `bfr.quality.niqe.niqe`.

    Returns:
        The figures that are given, with non-breaking spaces within each.
    """
    figures: list[str] = []
    if likeness is not None:
        figures.append("like exactly" if likeness == math.inf else f"like {likeness:.1f} dB")
    if moved is not None:
        figures.append("no face" if math.isnan(moved) else f"moved {100 * moved:.1f} %")
    if sharp is not None:
        figures.append(f"sharp {sharp:.2f}")
    if grain is not None:
        figures.append(f"grain {grain:.1f}")
    if niqe is not None:
        figures.append(f"niqe {niqe:.2f}")
    return "  ".join(figure.replace(" ", "\u00a0") for figure in figures)


def _check_pair(images: Tensor, reference: Tensor) -> None:
    if images.shape != reference.shape:
        raise InputError(
            f"Images to compare must have one shape, but are {tuple(images.shape)} "
            f"and {tuple(reference.shape)}."
        )


def _luma(images: Tensor) -> Tensor:
    """B×1×H×W float64 in [0, 255], by the weights of BT.601."""
    check_images(images)
    if min(images.shape[-2:]) < 16:
        raise InputError(
            f"Images to measure must be at least 16 pixels high and wide, and "
            f"{images.shape[-1]}×{images.shape[-2]} came."
        )
    return 255 * luma(images.double())


def _landmarks_nearest(faces: tuple[Face, ...], template: Tensor) -> Tensor:
    """5×2 landmarks of the face nearest to a 5×2 template, or NaN."""
    points = [torch.tensor(face.landmarks, dtype=torch.float64) for face in faces]
    nothing = torch.full_like(template, math.nan)
    return min(points, key=lambda p: float((p - template).norm(dim=-1).mean()), default=nothing)
