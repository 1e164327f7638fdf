"""Measurements of restored faces by themselves, for the guard."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from kornia.color import linear_rgb_to_rgb, rgb_to_lab, rgb_to_linear_rgb
from torch import Tensor

from ..faces.identity import Identity
from ..image import blur
from ..image.resize import resize_square
from ..image.tensors import luma
from ..quality.niqe import niqe
from ..quality.texture import colour_grain, grain_by_light, sharpness

SIZE = 256
"""Side in pixels at which faces are compared; larger ones are made smaller."""

_PLACES = 16  # along a side of a face, whose colours are compared
_LOW = 0.08  # cycles a pixel: below, faces differ little from one another
_WINDOW, _AROUND = 9 / 256, 33 / 256  # of the spectrum: a peak's width, and that of what is near
_PEAK = 1.5  # times the power around it: what more a frequency has is a mesh's
_FLOOR = 1e-11  # of a frequency's power: about that of rounding to 8 bits
_COARSE, _ALONG = 0.15, (0.4, 0.08)  # cycles a pixel; edges lie along the axes


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Measurements of N restored faces.

    Attributes:
        niqe: N values.
        sharpness: N values.
        grain: N×5 values, of colours and of luma from dark to light places.
        picture: N×3×S×S, the faces at the guard's size.
        coarse: N×1×S×S, the luma's detail of 2 to 4 px.
        shape: N×1×S×S, the luma blurred by 2 px.
        colours: N×3×16×16, CIE Lab of its blocks.
        person: N×D embeddings of `Identity`.
        spectrum: how far each frequency of the faces at their own size stands out.
        mesh: N amplitudes in 255ths of the fine patterns that repeat.
        echo: S×S, how far the faces repeat themselves at each distance (`_cepstrum`).
    """

    niqe: Tensor
    sharpness: Tensor
    grain: Tensor
    picture: Tensor
    coarse: Tensor
    shape: Tensor
    colours: Tensor
    person: Tensor
    spectrum: Tensor
    mesh: Tensor
    echo: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What N damaged faces show of the truth, as far as that can be told from them.

    Attributes:
        person: N×D embeddings of `Identity`.
        light: of `light_of`: noise belongs to light, so the mean of noisy values of files, which
            follow its root, is too dark.
    """

    person: Tensor
    light: Tensor


@torch.no_grad()
def look_at_given(faces: Tensor, identity: Identity) -> Given:
    """Measures damaged faces.

    Args:
        faces: N×3×S×S RGB in [0, 1], aligned, S at least 16.
        identity: of `load_identity`.
    """
    return Given(identity.embed(faces).cpu(), light_of(faces).cpu())


def light_of(faces: Tensor) -> Tensor:
    """N×16×16, CIE L of the blocks of N×3×S×S RGB in [0, 1], whose light is averaged."""
    linear = rgb_to_linear_rgb(faces.float())
    blocks = linear_rgb_to_rgb(F.adaptive_avg_pool2d(linear, _PLACES))
    return rgb_to_lab(blocks)[:, 0]


@torch.no_grad()
def look(faces: Tensor, identity: Identity) -> Look:
    """Measures restored faces by themselves.

    Args:
        faces: N×3×S×S RGB in [0, 1], aligned, S at least 16.
        identity: of `load_identity`.
    """
    faces = faces.float()
    small = resize_square(faces, SIZE).clamp(0, 1)
    grey = luma(small)
    shape, power = blurred(grey, 2.0), power_of(luma(faces))
    return Look(
        niqe=niqe(faces),
        sharpness=sharpness(small),
        grain=torch.cat([colour_grain(faces)[:, None], grain_by_light(faces)], 1),
        picture=small,
        coarse=shape - blurred(grey, 4.0),
        shape=shape,
        colours=rgb_to_lab(F.avg_pool2d(small, SIZE // _PLACES)),
        person=identity.embed(faces).cpu(),
        spectrum=_standing(power),
        mesh=_mesh(power),
        echo=_cepstrum(power_of(grey)),
    )


def blurred(images: Tensor, deviation: float) -> Tensor:
    """B×C×H×W under a Gaussian, cut off where the guard's limits were set with."""
    return blur.blurred(images, deviation, reach=2.5)


def power_of(grey: Tensor) -> Tensor:
    """N×S×S power spectra of N×1×S×S in [0, 1], 0 in the middle; each sums to the variance."""
    side = grey.shape[-1]
    window = torch.hann_window(side, periodic=False).to(grey)
    window = window[:, None] * window
    centred = (grey - grey.mean((2, 3), keepdim=True))[:, 0] * window
    power = torch.fft.fft2(centred).abs().square() / (window.square().sum() * side**2)
    return torch.fft.fftshift(power, dim=(1, 2))


def _standing(power: Tensor) -> Tensor:
    """The log of each frequency's mean power above that of its surroundings.

    What repeats at the same place on all faces stands out; what belongs to a face does not. Low
    frequencies are left out.
    """
    side = power.shape[-1]
    log = power.mean(0).clamp(min=1e-21).log()
    standing = log - around(log[None], 9)[0]
    low = slice(round((0.5 - _LOW) * side), round((0.5 + _LOW) * side))
    standing[low, low] = 0
    return standing


def _mesh(power: Tensor) -> Tensor:
    """N amplitudes in 255ths of patterns that repeat, wherever on a face they are.

    A pattern that shows in some places, such as dark hair, spreads over a window of frequencies.
    Texture has about the same power a little further; what a window has beyond `_PEAK` times that
    counts. Lines along an axis look like edges and do not count, unless they are as fine as 2 px.
    """
    side = power.shape[-1]
    inner, outer = (2 * round(share * side / 2) + 1 for share in (_WINDOW, _AROUND))
    peak = around(power, inner)
    near = in_ring(power, inner, outer)
    frequency = (torch.arange(side).to(power) - side // 2).abs() / side
    larger, smaller = (
        choose(frequency[:, None], frequency) for choose in (torch.maximum, torch.minimum)
    )
    counts = (larger > _COARSE) & ~((larger < _ALONG[0]) & (smaller < _ALONG[1]))
    return 255 * ((peak - _PEAK * near).clamp(min=0) * counts).sum((1, 2)).sqrt()


def _cepstrum(power: Tensor) -> Tensor:
    """The spectrum of the mean log spectrum: an edge that is drawn again d px further, a times as
    strong, gives a at d (Bogert, Healy and Tukey, 1963). 0 is in the middle."""
    log = (power + _FLOOR).log().mean(0)
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(log)).real)


def around(values: Tensor, side: int) -> Tensor:
    """The mean of N×S×S around each place, as on a torus."""
    padded = F.pad(values[:, None], (side // 2,) * 4, mode="circular")
    return F.avg_pool2d(padded, side, 1)[:, 0]


def in_ring(values: Tensor, inner: int, outer: int) -> Tensor:
    """The mean of N×S×S around each place, without a square of the inner side in the middle."""
    whole, middle = (around(values, side) * side**2 for side in (outer, inner))
    return (whole - middle) / (outer**2 - inner**2)
