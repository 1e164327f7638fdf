"""Grain: measured in a photograph, and drawn again on a face that lost it.

A restored face is smooth. In a grainy print it shows as a patch with a halo. So the grain around
it is measured on small blocks, each without its mean and slope: the power spectrum of its luma (the
median over the blocks, which edges do not move), how its strength follows the brightness, and how
the channels share it. What the restored face has of it is measured likewise, and what is missing is
drawn: white noise, filtered to that spectrum.

With s the share of the restored face in a pixel, 1 − s of the photograph's own grain is still
there; amplitudes √(s·(2 − s)) of new grain bring the power back to what it was, at any s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..image.tensors import luma

_MOST_BLOCKS = 24  # along each axis
_LEAST_BLOCKS = 6  # in all; from fewer, nothing can be told
_FLAT = 3.0  # times the power of the quarter of flattest blocks: more is an edge or a texture
_CLIPPED = 0.02  # from black or white, where grain does not show
_BINS = 6  # of brightness
_NOTHING = 1e-12  # a power that nobody sees
_BAND = 1 << 18  # pixels that are worked on at once
_TILE = 2048  # px: bounds the memory for larger faces
_DOUBT = 4.0  # blocks of average strength that each bin of brightness begins with

HALO = 2
"""Pixels around a pixel whose brightness counts."""


@dataclass(frozen=True, slots=True)
class Grain:
    """The grain of a part of a photograph.

    Attributes:
        power: P×P float64, the power of the luma's grain at each frequency of `torch.fft.fft2`,
            divided by the number of pixels: its mean is the variance.
        strength: the standard deviation at `_BINS` steps of brightness, over the average one.
        channels: 3×K float64: the grain of the channels in K independent parts, for a luma of
            variance 1; K is 1 where all channels have the same grain.
    """

    power: Tensor
    strength: Tensor
    channels: Tensor


def measure_grain(image: Tensor, weight: Tensor | None = None) -> Grain | None:
    """Measures the grain of a part of a photograph.

    Args:
        image: 1×3×H×W RGB in [0, 1].
        weight: 1×1×H×W in [0, 1]; blocks count where it is nearly 1. None counts all.

    Returns:
        The grain; None where too few blocks show any.
    """
    side = _block_side(image, weight)
    if side is None:
        return None
    blocks = _blocks(image, side)
    light = luma(blocks).mean((1, 2, 3))
    shown = (light > _CLIPPED) & (light < 1 - _CLIPPED)
    if weight is not None:
        shown &= _blocks(weight, side).mean((1, 2, 3)) > 0.95
    blocks, light = blocks[shown], light[shown]
    if len(blocks) < _LEAST_BLOCKS:
        return None
    rough = _without_slope(blocks)
    grey = luma(rough)[:, 0]
    energy = grey.square().mean((1, 2))
    flat = _flat(energy, light)
    rough, grey, energy, light = rough[flat], grey[flat], energy[flat], light[flat]
    return Grain(_spectrum(grey), _by_brightness(energy, light), _mixture(rough, energy))


def draw_grain(
    image: Tensor,
    share: Tensor,
    wanted: Grain,
    generator: torch.Generator,
    amount: float = 1.0,
) -> Tensor:
    """The grain that a restored face lacks.

    Args:
        image: 1×3×H×W RGB in [0, 1], the photograph with the face.
        share: 1×1×H×W in [0, 1], how much of each pixel is the restored face.
        wanted: the grain of the photograph.
        generator: draws it; of the CPU.
        amount: 0 (none) to 1 (as much as in the photograph).

    Returns:
        1×3×H×W, to be added to ``image``; 0 where ``share`` is.
    """
    return torch.cat(list(grain_in_bands(image, share, wanted, generator, amount)), 2)


def grain_in_bands(
    image: Tensor, share: Tensor, wanted: Grain, generator: torch.Generator, amount: float
) -> Iterator[Tensor]:
    """`draw_grain` in bands of rows, from top to bottom.

    Each band looks at `HALO` rows of ``image`` above itself, so write one when the next is drawn.
    Faces larger than `_TILE` get the same grain again after so many pixels.
    """
    most = float(share.max())
    height, width = image.shape[-2:]
    noise = None
    if most > 0 and amount > 0:
        found = measure_grain(image, share / most)
        power = wanted.power
        if found is not None:
            power = (power - _resized(found.power, *power.shape)).clamp(min=0)
        tile = min(height, _TILE), min(width, _TILE)
        white = torch.randn(wanted.channels.shape[1], *tile, generator=generator).to(image)
        noise = _coloured(white, wanted.channels.to(image), _resized(power, *tile).to(image))
    columns = torch.arange(width, device=image.device) % _TILE
    for rows in bands(range(height), width):
        if noise is None:
            yield image.new_zeros(1, 3, len(rows), width)
            continue
        covered = share[:, :, rows.start : rows.stop]
        reach = (covered * (2 - covered)).sqrt() / math.sqrt(most * (2 - most))
        strength = _at(wanted.strength.to(image), _light(image, rows))
        drawn = noise[:, torch.tensor(rows, device=image.device)[:, None] % _TILE, columns]
        yield amount * reach * strength * drawn


def bands(rows: range, width: int) -> list[range]:
    """Rows in parts of at most `_BAND` pixels, or as few as can be."""
    count = max(HALO, _BAND // width)
    return [rows[start : start + count] for start in range(0, len(rows), count)]


def _light(image: Tensor, rows: range) -> Tensor:
    """1×1×h×W, how bright an image is around each pixel of some rows."""
    first = max(rows.start - HALO, 0)
    light = luma(image[:, :, first : rows.stop + HALO])
    light = F.avg_pool2d(light, 2 * HALO + 1, 1, HALO, count_include_pad=False).clamp(0, 1)
    return light[:, :, rows.start - first :][:, :, : len(rows)]


def _coloured(white: Tensor, channels: Tensor, power: Tensor) -> Tensor:
    """C×H×W: K×H×W white noise mixed by C×K channels, with a power spectrum of H×W.

    One channel after the other, and half of each spectrum, which saves memory.
    """
    mixed = torch.einsum("ck,khw->chw", channels, white)
    half = power[:, : power.shape[1] // 2 + 1].sqrt()
    for channel in mixed:
        spectrum = torch.fft.rfft2(channel).mul_(half)
        torch.fft.irfft2(spectrum, s=channel.shape, out=channel)
    return mixed


def _block_side(image: Tensor, weight: Tensor | None) -> int | None:
    """The largest side that leaves enough blocks; None where none would fit."""
    length = float(min(image.shape[-2:]))
    if weight is not None:
        length = min(length, math.sqrt(float((weight > 0.5).sum())))
    return next((side for side in (32, 16, 8) if length >= 4 * side), None)


def _blocks(image: Tensor, side: int) -> Tensor:
    """N×C×side×side overlapping float64 blocks of 1×C×H×W, at most `_MOST_BLOCKS` along an axis."""
    height, width = image.shape[-2:]
    down, right = (
        max(side // 2, math.ceil((length - side) / (_MOST_BLOCKS - 1)))
        for length in (height, width)
    )
    blocks = image[0].unfold(1, side, down).unfold(2, side, right)
    return blocks.flatten(1, 2).movedim(1, 0).double()


def _flat(energy: Tensor, light: Tensor) -> Tensor:
    """Which blocks are hardly stronger than the weakest quarter of those as bright as they are."""
    steps = (light * (_BINS - 1)).round()
    flat = energy <= _FLAT * energy.quantile(0.25)
    for step in steps.unique():
        alike = steps == step
        if alike.sum() >= _LEAST_BLOCKS:
            flat[alike] = energy[alike] <= _FLAT * energy[alike].quantile(0.25)
    return flat


def _without_slope(blocks: Tensor) -> Tensor:
    """Blocks less the plane that fits each best."""
    side = blocks.shape[-1]
    place = torch.arange(side).to(blocks) - (side - 1) / 2
    scale = place.square().sum() * side
    blocks = blocks - blocks.mean((-2, -1), keepdim=True)
    across = (blocks * place).sum((-2, -1), keepdim=True) / scale * place
    down = (blocks * place[:, None]).sum((-2, -1), keepdim=True) / scale * place[:, None]
    return blocks - across - down


def _spectrum(grey: Tensor) -> Tensor:
    """The typical power spectrum of N×P×P blocks, P×P, smoothed a little and without a mean.

    The periodogram of noise is distributed exponentially: its mean is its median over ln 2.
    """
    side = grey.shape[-1]
    window = torch.hann_window(side, periodic=False).to(grey)
    window = window[:, None] * window
    power = torch.fft.fft2(grey * window).abs().square() / window.square().sum()
    power = power.median(0).values / math.log(2)
    # What is left of the mean and the slope says nothing about grain: take it from beside them.
    power[0, 0] = power[0, 1] = power[0, -1] = power[1, 0] = power[-1, 0] = min(
        float(power[0, 2]), float(power[2, 0]), float(power[1, 1])
    )
    folded = F.pad(_log(power)[None, None], (1, 1, 1, 1), "circular")
    kernel = torch.tensor([1.0, 2.0, 1.0]).to(power)
    kernel = (kernel[:, None] * kernel)[None, None] / 16
    return F.conv2d(folded, kernel)[0, 0].exp()


def _by_brightness(energy: Tensor, light: Tensor) -> Tensor:
    """How strong the grain is at each step of brightness, over the average strength."""
    place = light * (_BINS - 1)
    distance = (place[:, None] - torch.arange(_BINS).to(light)).abs()
    weights = (1 - distance).clamp(min=0)
    mean = energy.mean()
    power = (weights.mT @ energy + _DOUBT * mean) / (weights.sum(0) + _DOUBT)
    return (power / mean.clamp(min=1e-20)).sqrt()


def _mixture(rough: Tensor, energy: Tensor) -> Tensor:
    """`Grain.channels` of N×3×P×P blocks."""
    if bool((rough == rough[:, :1]).all()):
        return torch.ones(3, 1).to(rough)
    flat = rough.movedim(1, 0).flatten(1)
    values, vectors = torch.linalg.eigh(flat @ flat.mT / flat.shape[1])
    mixed = vectors * values.clamp(min=0).sqrt()
    return mixed / energy.mean().clamp(min=1e-20).sqrt()


def _at(strength: Tensor, light: Tensor) -> Tensor:
    """The strength at the brightness of each pixel, between the steps in straight lines."""
    place = light * (_BINS - 1)
    low = place.floor().long().clamp(max=_BINS - 2)
    return strength[low].lerp(strength[low + 1], place - low)


def _resized(power: Tensor, height: int, width: int) -> Tensor:
    """A spectrum at other frequencies, height×width, in the order of `torch.fft.fft2`.

    Spectra fall steeply, so it is their logarithm that runs straight from one to the next.
    """
    side = power.shape[0]
    if (height, width) == tuple(power.shape):
        return power
    rows, columns = (torch.fft.fftfreq(n).to(power) * side for n in (height, width))
    y, x = rows.floor().long() % side, columns.floor().long() % side
    down = (rows - rows.floor())[:, None]
    log = _log(power)
    log = log[y] * (1 - down) + log[(y + 1) % side] * down
    right = columns - columns.floor()
    return (log[:, x] * (1 - right) + log[:, (x + 1) % side] * right).exp()


def _log(power: Tensor) -> Tensor:
    return power.clamp(min=_NOTHING).log()
