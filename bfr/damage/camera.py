"""Camera noise: drawn on the raw mosaic, then spread by demosaicing, colour and tone.

A finished picture is turned back into raw data (Brooks et al., "Unprocessing Images for Learned Raw
Denoising", CVPR 2019) by undoing gamma, colour matrix and white balance and keeping one colour per
pixel. Shot and read noise are added there, and the same steps forwards develop the picture again.
So the noise depends on the light, is correlated between neighbouring pixels, and is stronger in red
and blue. Kuai et al. (WACV 2025, section 4) choose this damage because restorers were not trained
on it. Like them, and unlike Brooks et al., this module leaves out the tone curve.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..image.tensors import check_images

_RGB_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_XYZ_TO_CAMERAS = (
    ((1.0234, -0.2969, -0.2266), (-0.5625, 1.6328, -0.0469), (-0.0703, 0.2188, 0.6406)),
    ((0.4913, -0.0541, -0.0202), (-0.6130, 1.3513, 0.2906), (-0.1564, 0.2151, 0.7183)),
    ((0.8380, -0.2630, -0.0639), (-0.2887, 1.0725, 0.2496), (-0.0627, 0.1427, 0.5438)),
    ((0.6596, -0.2079, -0.0562), (-0.4782, 1.3016, 0.1933), (-0.0970, 0.1581, 0.5181)),
)
"""The colour matrices of four cameras between which Brooks et al. draw one, and sRGB's."""

_RED_GAIN, _BLUE_GAIN = (1.9, 2.4), (1.5, 1.9)  # white balance in daylight (Brooks et al.)
_GAMMA = 2.2
_SHOT_PER_ISO = 4e-6
_CROSS = ((0, 0, -2, 0, 0), (0, 0, 4, 0, 0), (-2, 4, 8, 4, -2), (0, 0, 4, 0, 0), (0, 0, -2, 0, 0))
_ALONG = (
    (0, 0, 1, 0, 0),
    (0, -2, 0, -2, 0),
    (-2, 8, 10, 8, -2),
    (0, -2, 0, -2, 0),
    (0, 0, 1, 0, 0),
)
_ASKEW = ((0, 0, -3, 0, 0), (0, 4, 0, 4, 0), (-3, 0, 12, 0, -3), (0, 4, 0, 4, 0), (0, 0, -3, 0, 0))
"""Malvar's filters in sixteenths: for green; red or blue from left and right; from the corners."""

_OWN, _GREEN, _ROW, _COLUMN, _DIAGONAL = range(5)
_DEMOSAIC = (
    ((_OWN, _ROW), (_COLUMN, _DIAGONAL)),  # red at R G / G B
    ((_GREEN, _OWN), (_OWN, _GREEN)),
    ((_DIAGONAL, _COLUMN), (_ROW, _OWN)),
)


def camera_noise(images: Tensor, iso: float, rng: np.random.Generator) -> Tensor:
    """Adds the noise that one camera would have at a given ISO, all pictures under one light.

    Args:
        images: B×3×H×W RGB in [0, 1], at least 4 pixels high and wide.
        iso: the sensitivity; 0 adds no noise, and demosaicing alone is left to see.
        rng: draws the camera, the light and the noise.

    Returns:
        B×3×H×W float32 RGB in [0, 1].

    Raises:
        InputError: if the images are no such batch, or ``iso`` is negative.
    """
    check_images(images)
    if min(images.shape[-2:]) < 4:
        raise InputError(
            "A camera's picture must be at least 4 pixels high and wide, got "
            f"{images.shape[-1]}×{images.shape[-2]}. Enlarge it."
        )
    to_raw = _draw_camera(rng)
    linear = _linear(images.float())
    raw = mosaic(torch.einsum("ij,bjhw->bihw", to_raw, linear).clamp(0, 1))
    if iso:
        raw = add_noise(raw, *noise_levels(iso), rng)
    developed = torch.einsum("ij,bjhw->bihw", to_raw.inverse(), demosaic(raw).clamp(0, 1))
    return _finished(developed)


def noise_levels(iso: float) -> tuple[float, float]:
    """The strength of the noise of a phone's sensor at a sensitivity.

    The variance of the signal x is ``shot·x + read`` where 1 saturates the sensor. Photons make
    the first in proportion to the gain: ``shot = 4·10⁻⁶·iso``, within a tenth of what Kuai et
    al. take for a phone, and ISO 3000 is the end of Brooks et al.'s range. The second follows
    from theirs: ``log read = 2.18·log shot + 1.20``.

    Returns:
        shot and read.

    Raises:
        InputError: if ``iso`` is not a positive number.
    """
    if not 0 < iso < math.inf:
        raise InputError(
            f"An ISO sensitivity must be above 0, got {iso}. Take 100 for little noise."
        )
    shot = _SHOT_PER_ISO * iso
    return shot, math.exp(2.18 * math.log(shot) + 1.20)


def mosaic(images: Tensor) -> Tensor:
    """Keeps one colour per pixel, in Bayer's order R G over G B.

    Args:
        images: B×3×H×W.

    Returns:
        B×1×H×W.
    """
    kept = images[:, 1:2].clone()
    kept[..., 0::2, 0::2] = images[:, 0:1, 0::2, 0::2]
    kept[..., 1::2, 1::2] = images[:, 2:3, 1::2, 1::2]
    return kept


def demosaic(raw: Tensor) -> Tensor:
    """Fills in the colours that a Bayer mosaic lacks, with 5×5 linear filters.

    Malvar, He and Cutler, "High-Quality Linear Interpolation for Demosaicing of Bayer-Patterned
    Color Images" (ICASSP 2004).

    Args:
        raw: B×1×H×W float32 in the order R G over G B.

    Returns:
        B×3×H×W, in the mosaic's range or a little beyond.
    """
    padded = F.pad(raw, (2, 2, 2, 2), mode="reflect")
    cross, along, askew = torch.tensor((_CROSS, _ALONG, _ASKEW)).to(raw) / 16
    kernels = torch.stack([cross, along, along.mT, askew])[:, None]
    guesses = torch.cat([raw, F.conv2d(padded, kernels)], 1)
    colours = torch.empty_like(raw).repeat(1, 3, 1, 1)
    for channel, rows in enumerate(_DEMOSAIC):
        for y, row in enumerate(rows):
            for x, guess in enumerate(row):
                colours[:, channel, y::2, x::2] = guesses[:, guess, y::2, x::2]
    return colours


def _draw_camera(rng: np.random.Generator) -> Tensor:
    """The 3×3 matrix from linear sRGB to a camera's raw colours in some daylight."""
    shares = torch.from_numpy(rng.dirichlet(np.ones(len(_XYZ_TO_CAMERAS))))
    xyz_to_camera = torch.tensordot(shares, torch.tensor(_XYZ_TO_CAMERAS).double(), 1)
    matrix = xyz_to_camera @ torch.tensor(_RGB_TO_XYZ).double()
    gains = torch.tensor([rng.uniform(*_RED_GAIN), 1.0, rng.uniform(*_BLUE_GAIN)]).double()
    return (matrix / matrix.sum(1, keepdim=True) / gains[:, None]).float()


def add_noise(raw: Tensor, shot: float, read: float, rng: np.random.Generator) -> Tensor:
    """Adds shot and read noise, and clips to black and white."""
    counted = rng.poisson(raw.cpu().double().numpy() / shot) * shot
    counted += rng.standard_normal(counted.shape) * math.sqrt(read)
    return torch.from_numpy(counted).to(raw).clamp(0, 1)


def _linear(images: Tensor) -> Tensor:
    return images.clamp(0, 1) ** _GAMMA


def _finished(linear: Tensor) -> Tensor:
    return linear.clamp(0, 1) ** (1 / _GAMMA)
