"""NIQE with statistics of faces: how far an image's texture is from that of clean faces.

The Natural Image Quality Evaluator (Mittal, Soundararajan and Bovik, "Making a 'Completely Blind'
Image Quality Analyzer", IEEE Signal Processing Letters 2013) knows no reference image. It fits
bell curves to locally normalised luma and to the products of its neighbours, in patches and at
two scales, and measures how far these fits are from those of good images. Here the good images
are clean aligned faces (recipe: `recipes/niqe.py`), so the figures cannot be compared with
published NIQE figures, only with one another.

The published method learns from the sharp patches of good images alone; here all patches of the
face and its background count, as they do in the image that is measured, which tells light damage
from none more often. Patches are 32 px wide instead of 96, as faces of 256 px are small.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from ..errors import WrongArchitectureError
from ..files.manifest import EMBEDDED_DIR
from ..files.weights import read_state_dict
from ..image.lowpass import resize_weights
from ..image.tensors import check_images, luma

EMBEDDED_STATISTICS = EMBEDDED_DIR / "niqe.safetensors"
FEATURES = 36
"""Figures a patch: 18 at each of two scales, as `fit_aggd` gives them."""

_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
_AT_ONCE = 8  # images measured together: bounds the memory


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Statistics of clean images: a Gaussian over the features of their patches.

    Attributes:
        mean: 36 float64 values.
        covariance: 36×36 float64.
        size: side in pixels at which images are measured.
        patch: side in pixels of the patches; even.
    """

    mean: Tensor
    covariance: Tensor
    size: int
    patch: int


def load_statistics(path: str | Path | None = None) -> Statistics:
    """Reads the statistics of clean images.

    Args:
        path: a file that `recipes/niqe.py` wrote; None for the embedded one.

    Raises:
        WeightsError: if the file is missing, corrupt or something else.
    """
    path = Path(path) if path is not None else EMBEDDED_STATISTICS
    state, metadata = read_state_dict(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if shapes != {"mean": (FEATURES,), "covariance": (FEATURES, FEATURES)}:
        raise WrongArchitectureError(
            f"{path} must hold NIQE statistics, a mean of 36 and a covariance of 36×36, got "
            f"{shapes}. Choose a file that recipes/niqe.py wrote."
        )
    named = [metadata.get(name, "nothing") for name in ("size", "patch")]
    size, patch = (int(word) if word.isdecimal() else 0 for word in named)
    if patch < 16 or patch % 2 or size < patch or size % patch:
        raise WrongArchitectureError(
            f"{path} must name a size and an even patch of 16 pixels or more that divides it, got "
            f"size {named[0]} and patch {named[1]}. Choose a file that recipes/niqe.py wrote."
        )
    return Statistics(state["mean"].double(), state["covariance"].double(), size, patch)


@torch.no_grad()
def niqe(images: Tensor, statistics: Statistics | None = None) -> Tensor:
    """The distance of the texture of each image from clean faces: NIQE with statistics of faces.

    With (μ, Σ) of clean faces and (m, S) of the image's own patches,
    ``√((μ - m)ᵀ ((Σ + S) / 2)⁺ (μ - m))`` (eq. 10 of the paper). Images of another size are
    resized to that of the statistics first, so a small one counts as a blurred one, and what is
    finer in a large one does not count.

    It judges texture alone and knows no faces: a sharp stranger measures as well as a sharp
    likeness. Slight damage may go unseen or even help: a clean face with a little grain measures
    better after light compression (figures: `weights/README.md`).

    Args:
        images: B×3×H×W RGB in [0, 1], aligned faces.
        statistics: of `load_statistics`; None for the embedded ones, of 256 px faces.

    Returns:
        B float64 values from 0 on the images' device, lower is better; NaN for an image that has
        texture in less than two patches.

    Raises:
        InputError: if the images are no finite B×3×H×W batch.
        WeightsError: if the embedded statistics are missing or corrupt.
    """
    check_images(images)
    if statistics is None:
        statistics = _embedded()
    found = [
        _distance(patch_features(part, statistics.size, statistics.patch), statistics)
        for part in images.split(_AT_ONCE)
    ]
    return torch.cat(found)


def patch_features(images: Tensor, size: int, patch: int) -> Tensor:
    """The features that NIQE measures in each patch of an image.

    The luma is rounded to 255ths, so that an image and the file saved from it measure alike.

    Args:
        images: B×3×H×W RGB in [0, 1]; resized to ``size`` if they have another size.
        size: side in pixels at which to measure.
        patch: side in pixels of the patches, which do not overlap; even, divides ``size``.

    Returns:
        B×P×36 float64 features, NaN where a patch has no texture.
    """
    grey = _resized(255 * luma(images.double().clamp(0, 1)), size).clamp(0, 255).round()
    scales = ((grey, patch), (_resized(grey, size // 2), patch // 2))
    return torch.cat([_scale_features(_patches(mscn(x), side)) for x, side in scales], -1)


def mscn(grey: Tensor) -> Tensor:
    """Luma without its local mean and contrast: ``(I - μ) / (σ + 1)`` (eq. 1 to 3).

    Args:
        grey: B×1×H×W in [0, 255].

    Returns:
        B×1×H×W; μ and σ are taken under a 7×7 Gaussian window of standard deviation 7/6.
    """
    window = (7, (7 / 6, 7 / 6), "replicate")
    mean = gaussian_blur2d(grey, *window)
    variance = gaussian_blur2d(grey.square(), *window) - mean.square()
    normal = (grey - mean) / (variance.clamp(min=0).sqrt() + 1)
    return normal.where(normal.abs() > 1e-6, 0.0)  # flat is flat, on every device


def fit_aggd(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fits an asymmetric generalised Gaussian by its moments (Lasmar et al. 2009).

    Args:
        values: …×n numbers about 0.

    Returns:
        The shape (2 for a Gaussian, 1 for a Laplacian; within 0.2 and 10) and the scales β to
        the left and to the right, … each; for a Gaussian of deviation σ both are √2·σ. NaN
        where all values are 0 or all lie on one side.
    """
    below, above = values.clamp(max=0), values.clamp(min=0)
    more_above = values.sign().sum(-1)  # than below; zeros count half to each side
    left = (2 * below.square().sum(-1) / (values.shape[-1] - more_above)).sqrt()
    right = (2 * above.square().sum(-1) / (values.shape[-1] + more_above)).sqrt()
    ratio = values.abs().mean(-1).square() / values.square().mean(-1)
    skew = left / right
    ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew.square() + 1).square()
    shape = _shape_of(ratio)
    scale = (torch.lgamma(1 / shape) - torch.lgamma(3 / shape)).mul(0.5).exp()
    return shape, left * scale, right * scale


def _scale_features(patches: Tensor) -> Tensor:
    """The 18 figures of normalised B×P×p×p patches: B×P×18."""
    shape, left, right = fit_aggd(patches.flatten(-2))
    found = [shape, (left + right) / 2]
    for shift in _NEIGHBOURS:
        products = patches * patches.roll(shift, (-2, -1))
        shape, left, right = fit_aggd(products.flatten(-2))
        mean = (right - left) * (torch.lgamma(2 / shape) - torch.lgamma(1 / shape)).exp()
        found += [shape, mean, left, right]
    return torch.stack(found, -1)


def _distance(features: Tensor, clean: Statistics) -> Tensor:
    """B distances of B×P×36 features from the clean ones."""
    known = features.isfinite().all(-1, keepdim=True).double()
    count = known.sum(1)
    features = features.nan_to_num() * known
    mean = features.sum(1) / count
    centred = (features - mean[:, None]) * known
    covariance = centred.mT @ centred / (count - 1)[..., None]
    mixed = (clean.covariance.to(features) + covariance) / 2
    textured = count[:, 0] > 1
    mixed = mixed.where(textured[:, None, None], 0.0)
    away = (clean.mean.to(features) - mean).nan_to_num()[..., None]
    inverse = torch.linalg.pinv(mixed, hermitian=True)
    squared = (away.mT @ inverse @ away)[:, 0, 0].clamp(min=0)
    return squared.sqrt().where(textured, torch.nan)


def _patches(maps: Tensor, patch: int) -> Tensor:
    """B×1×H×W cut into B×P×p×p."""
    return maps[:, 0].unfold(1, patch, patch).unfold(2, patch, patch).flatten(1, 2)


def _resized(grey: Tensor, size: int) -> Tensor:
    height, width = grey.shape[-2:]
    if height != size:
        grey = resize_weights(height, size).to(grey) @ grey
    if width != size:
        grey = grey @ resize_weights(width, size).to(grey).mT
    return grey


def _shape_of(ratio: Tensor) -> Tensor:
    """The shape a of which ``Γ(2/a)² / (Γ(1/a)·Γ(3/a))`` is the ratio E|x|² / E x²."""
    shapes, ratios = (table.to(ratio.device) for table in _table())
    upper = torch.searchsorted(ratios, ratio.contiguous()).clamp(1, len(ratios) - 1)
    low, high = ratios[upper - 1], ratios[upper]
    part = ((ratio - low) / (high - low)).clamp(0, 1)
    return torch.lerp(shapes[upper - 1], shapes[upper], part)


@lru_cache(maxsize=1)
@torch.inference_mode(False)
def _table() -> tuple[Tensor, Tensor]:
    shapes = torch.linspace(0.2, 10, 9801, dtype=torch.float64)
    logs = 2 * torch.lgamma(2 / shapes) - torch.lgamma(1 / shapes) - torch.lgamma(3 / shapes)
    return shapes, logs.exp()


@lru_cache(maxsize=1)
@torch.inference_mode(False)
def _embedded() -> Statistics:
    return load_statistics()
