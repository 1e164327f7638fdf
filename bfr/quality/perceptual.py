"""Perceptual distances between images: one that needs no weights, and LPIPS where it can run."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..choices import DISTANCES
from ..errors import InputError, MissingPackageError, MissingWeightsError, WrongArchitectureError
from ..files.weights import read_state_dict

LPIPS_NAME, PYRAMID_NAME = "LPIPS (VGG)", "normalized Laplacian pyramid"

_VGG_FILE = "vgg16-397923af.pth"
_VGG_URL = f"https://download.pytorch.org/models/{_VGG_FILE}"
_TO_YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)
_SHARES = (6 / 8, 1 / 8, 1 / 8)  # of luma and both chromas, as video coding weighs them
_BLUR = (0.05, 0.25, 0.4, 0.25, 0.05)
# How much the amplitudes above and below, and left and right, of a place weaken what is seen
# there, and the constant beside them: of the five finest bands, and of what is left below.
_NEIGHBOURS = (
    (0.1013, 0.14765),
    (0.0797, 0.1916),
    (0.0472, 0.21905),
    (0.0, 0.25595),
    (0.0, 0.2575),
    (0.0, 0.1466),
)
_CONSTANTS = (0.0248, 0.0185, 0.0179, 0.0191, 0.0220, 0.2782)
_SMALLEST = 4  # pixels a side of the coarsest band
_PATCH = 8  # pixels of a band in which its mean amplitude is taken; they overlap by half
_TINY = 1e-6  # squared, under the root: identical images have a gradient, of 0


@dataclass(frozen=True, slots=True)
class Distance:
    """A perceptual distance.

    Attributes:
        name: what it is, for reports.
        measure: ``measure(images, reference)``, both B×3×H×W RGB in [0, 1], to B values from 0,
            lower is closer; carries gradients to both.
    """

    name: str
    measure: Callable[[Tensor, Tensor], Tensor]


def pyramid_distance(images: Tensor, reference: Tensor) -> Tensor:
    """The visible difference of two images: the distance of their normalized Laplacian pyramids.

    After Laparra, Ballé, Berardino and Simoncelli, "Perceptual image quality assessment using a
    normalized Laplacian pyramid" (Human Vision and Electronic Imaging 2016), with their filters
    and constants: each band z of the pyramid is divided by a constant and the amplitudes nearby,
    ``y = z / (σ + p * |z|)``, as the eye adapts to contrast, and the distance is the mean over
    the bands of the root mean square of ``y - y_reference``. Different from theirs: the filters
    are made symmetric, so that mirrored images measure alike; images smaller than 128 px have
    fewer bands; and colour counts: luma six eighths, both chromas (BT.601) one each.

    To that is added the same distance of the bands' mean amplitudes in patches of 8×8, which asks
    for as much detail as the reference has, wherever it lies. Without it the distance is least
    for a blur where detail cannot be foretold, as a squared error is, and who trains with it
    learns to blur.

    Args:
        images: B×3×H×W RGB, nominally in [0, 1], at least 16 px high and wide.
        reference: B×3×H×W RGB, the same.

    Returns:
        B values from 0, in at least float32; about 0.2 for a slight blur, 1 for another face.

    Raises:
        InputError: if the shapes differ, or are none of images of that size.
    """
    if images.shape != reference.shape or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(
            f"Images to compare must have one shape B×3×H×W, got {tuple(images.shape)} and "
            f"{tuple(reference.shape)}. Resize one."
        )
    if min(images.shape[-2:]) < 4 * _SMALLEST:
        raise InputError(
            f"Images to compare must be at least {4 * _SMALLEST} pixels high and wide, got "
            f"{images.shape[-1]}×{images.shape[-2]}. Use larger ones."
        )
    with torch.autocast(images.device.type, enabled=False):
        pair = normalized_bands(images), normalized_bands(reference)
        amplitudes = (
            [mean_amplitude(x) for x in bands if min(x.shape[-2:]) >= _PATCH] for bands in pair
        )
        return bands_apart(*pair) + bands_apart(*amplitudes)


def lpips_available() -> bool:
    """True if LPIPS can run: its package is installed and its VGG-16's weights are here."""
    return find_spec("lpips") is not None and vgg_path().is_file()


def vgg_path() -> Path:
    """The place of the weights of LPIPS's VGG-16: torchvision's file in torch.hub's folder."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _VGG_FILE


def load_distance(name: str = "auto", device: torch.device | str = "cpu") -> Distance:
    """Loads a perceptual distance; nothing is downloaded.

    Args:
        name: "lpips" (Zhang et al., CVPR 2018, with VGG-16, as in Kuai et al.); "pyramid",
            `pyramid_distance`; or "auto", LPIPS where it can run.
        device: where LPIPS's network is put.

    Raises:
        InputError: for another name.
        MissingPackageError: for "lpips" without its package.
        MissingWeightsError: for "lpips" without its network's weights.
        WeightsError: if these are corrupt, unsafe or of another network.
    """
    if name not in DISTANCES:
        raise InputError(
            f"The perceptual distance must be auto, lpips or pyramid, got {name!r}. Choose one."
        )
    if name == "pyramid" or (name == "auto" and not lpips_available()):
        return Distance(PYRAMID_NAME, pyramid_distance)
    network = _lpips().to(device)

    def measure(images: Tensor, reference: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            pair = images.float() * 2 - 1, reference.float() * 2 - 1
            return network(*pair).flatten()

    return Distance(LPIPS_NAME, measure)


def _lpips() -> nn.Module:
    """LPIPS without its own loading, which would download."""
    try:
        from lpips import LPIPS  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPackageError(
            "LPIPS needs the package lpips. Install it: pip install lpips; or choose the pyramid "
            "distance, which needs none."
        ) from error
    path = vgg_path()
    if not path.is_file():
        raise MissingWeightsError(
            f"LPIPS needs the weights of torchvision's VGG-16 at {path}, got none. Download them "
            f"from {_VGG_URL} (528 MB) to that place, or choose the pyramid distance, which needs "
            "no weights."
        )
    published, _ = read_state_dict(path)
    with warnings.catch_warnings():  # of torchvision, about how LPIPS calls it
        warnings.simplefilter("ignore")
        network = LPIPS(net="vgg", pnet_rand=True, verbose=False)
    # "slice2.5.weight" in LPIPS is "features.5.weight" in the file.
    renamed = {name: "features." + name.split(".", 1)[1] for name in network.net.state_dict()}
    try:
        network.net.load_state_dict({name: published[key] for name, key in renamed.items()})
    except (KeyError, RuntimeError) as error:
        raise WrongArchitectureError(
            f"{path} must hold torchvision's VGG-16, got: {str(error)[:200]}. Download it again "
            f"from {_VGG_URL}."
        ) from error
    return network.requires_grad_(False).eval()


def normalized_bands(images: Tensor) -> list[Tensor]:
    """The bands of luma and both chromas, from fine to coarse: B×3×h×w each."""
    images = images.to(torch.promote_types(images.dtype, torch.float32))
    x = torch.einsum("ck,bkhw->bchw", images.new_tensor(_TO_YCBCR), images)
    bands = []
    while len(bands) < len(_CONSTANTS) - 1 and min(x.shape[-2:]) >= 2 * _SMALLEST:
        (down_rows, up_rows), (down_columns, up_columns) = (
            tuple(matrix.to(x) for matrix in halving(size)) for size in x.shape[-2:]
        )
        small = down_rows @ x @ down_columns.mT
        bands.append(_normalized(x - up_rows @ small @ up_columns.mT, len(bands)))
        x = small
    return [*bands, _normalized(x, -1)]


def mean_amplitude(band: Tensor) -> Tensor:
    """A band's mean absolute value in overlapping squares."""
    return F.avg_pool2d(band.abs(), _PATCH, _PATCH // 2)


def bands_apart(bands: list[Tensor], reference: list[Tensor]) -> Tensor:
    """B root mean square differences, averaged over bands and channels."""
    squares = [(a - b).square().mean((2, 3)) for a, b in zip(bands, reference, strict=True)]
    roots = (torch.stack(squares) + _TINY**2).sqrt() - _TINY
    return (roots.mean(0) * roots.new_tensor(_SHARES)).sum(1)


def _normalized(band: Tensor, level: int) -> Tensor:
    """A band divided by its constant and the amplitudes nearby; edges are repeated."""
    across, along = _NEIGHBOURS[level]
    amplitude = F.pad(band.abs(), (1, 1, 1, 1), mode="replicate")
    middle = slice(1, -1)
    nearby = along * (amplitude[..., middle, :-2] + amplitude[..., middle, 2:])
    if across:
        nearby = nearby + across * (amplitude[..., :-2, middle] + amplitude[..., 2:, middle])
    return band / (_CONSTANTS[level] + nearby)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # ComfyUI's nodes run in it; the matrices also serve training
def halving(size: int) -> tuple[Tensor, Tensor]:
    """Burt and Adelson's reduction of an axis to its half, and the way back, edges mirrored."""
    taps = torch.arange(size)[:, None] + torch.arange(-2, 3)
    taps = (size - 1) - ((size - 1) - taps.abs()).abs()
    weights = torch.tensor(_BLUR, dtype=torch.float64).expand(size, -1)
    blur = torch.zeros(size, size, dtype=torch.float64).scatter_add_(1, taps, weights)
    return blur[::2].clone(), 2 * blur[:, ::2]
