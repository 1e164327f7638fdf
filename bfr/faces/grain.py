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
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..image.bands import Rows, bands, rows_of
from ..image.tensors import luma

_MOST_BLOCKS = 24  # along each axis
_SIDES = (32, 16, 8)  # of blocks in pixels, the best first
_BLOCKS_ACROSS = 4  # at least, side by side, where the grain is measured
_LEAST_BLOCKS = 6  # in all; from fewer, nothing can be told
_FLAT = 3.0  # times the power of the quarter of flattest blocks: more is an edge or a texture
_SEEN = (1 / 255) ** 2  # the power of grain that is no more than what files round
_STEEP = 9.0  # times the power of grain, at most, between neighbouring steps of brightness
_CLIPPED = 0.02  # from black or white, where grain does not show
_BINS = 6  # of brightness
_NOTHING = 1e-12  # a power that nobody sees
_DOUBT = 4.0  # blocks of average strength that each bin of brightness begins with

HALO = 2
"""Pixels around a pixel whose brightness counts."""

CELL = 8
"""Side in pixels of the parts of `grain_shown`."""

_STRIP = 32  # cells high: what `grain_shown` looks at at once
_DAMPED = 1.5  # times the energy of a cell: cells differ by chance


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


def measure_grain(
    image: Tensor, weight: Tensor | Rows | None = None, most: float = 1.0
) -> Grain | None:
    """Measures the grain of a part of a photograph.

    Args:
        image: 1×3×H×W RGB in [0, 1].
        weight: 1×1×H×W in [0, most]; blocks count where it is nearly ``most``. None for all.
        most: above 0.

    Returns:
        The grain; None where too few blocks show any.
    """
    size = (image.shape[-2], image.shape[-1])
    side = _block_side(size, weight, most)
    if side is None:
        return None
    blocks = _blocks(image, size, side)
    light = luma(blocks).mean((1, 2, 3))
    shown = (light > _CLIPPED) & (light < 1 - _CLIPPED)
    if weight is not None:
        shown &= _blocks(weight, size, side).mean((1, 2, 3)) > 0.95 * most
    blocks, light = blocks[shown], light[shown]
    if len(blocks) < _LEAST_BLOCKS:
        return None
    rough = _without_slope(blocks)
    grey = luma(rough)[:, 0]
    energy = grey.square().mean((1, 2))
    flat = _flat(energy, light)
    seen = flat & (energy > _SEEN)
    if seen.sum() < _LEAST_BLOCKS:
        seen = flat
    strength = _by_brightness(energy[flat], light[flat], energy[seen].mean())
    return Grain(_spectrum(grey[seen]), strength, _mixture(rough[seen], energy[seen]))


def grain_shown(image: Tensor, grain: Grain) -> Tensor:
    """The share of a grain that each part of a photograph shows: white paper shows none.

    Args:
        image: 1×3×H×W RGB in [0, 1].
        grain: of the photograph.

    Returns:
        1×1×h×w in [0, 1], a value for each `CELL` pixels: the amplitude of what is finer than a
        few pixels, over that of the grain; 1 at edges.
    """
    side = grain.power.shape[0]
    finest = grain.power.new_zeros(side, side)
    finest[: 2 * HALO + 1, : 2 * HALO + 1] = -1 / (2 * HALO + 1) ** 2
    finest[HALO, HALO] += 1
    power = float((grain.power * torch.fft.fft2(finest).abs().square()).mean())
    height, energies = image.shape[-2], []
    for top in range(0, height, CELL * _STRIP):
        bottom, first = min(height, top + CELL * _STRIP), max(0, top - HALO)
        light = luma(image[:, :, first : bottom + HALO])
        rough = light - F.avg_pool2d(light, 2 * HALO + 1, 1, HALO, count_include_pad=False)
        both = torch.cat([rough.square(), light], 1)[:, :, top - first :][:, :, : bottom - top]
        energy, light = F.avg_pool2d(both, CELL, ceil_mode=True).split(1, 1)
        wanted = power * strength_at(grain.strength.to(light), light.clamp(0, 1)).square()
        energies.append(energy / wanted.clamp(min=_NOTHING))
    shown = F.avg_pool2d(torch.cat(energies, 2), 3, 1, 1, count_include_pad=False)
    return shown.mul_(_DAMPED).clamp_(max=1).sqrt_()


def _block_side(size: tuple[int, int], weight: Tensor | Rows | None, most: float) -> int | None:
    """The largest side that leaves enough blocks; None where none would fit."""
    length = float(min(size))
    if weight is not None:
        covered = 0
        for rows in bands(range(size[0]), size[1]):
            covered += int((rows_of(weight)(rows) > most / 2).sum())
            if covered >= (_BLOCKS_ACROSS * _SIDES[0]) ** 2:
                break
        length = min(length, math.sqrt(covered))
    return next((side for side in _SIDES if length >= _BLOCKS_ACROSS * side), None)


def _blocks(image: Tensor | Rows, size: tuple[int, int], side: int) -> Tensor:
    """N×C×side×side overlapping float64 blocks of 1×C×H×W, at most `_MOST_BLOCKS` along an axis."""
    down, right = (max(side // 2, math.ceil((n - side) / (_MOST_BLOCKS - 1))) for n in size)
    tops = range(0, size[0] - side + 1, down)
    blocks = [rows_of(image)(range(top, top + side))[0].unfold(2, side, right) for top in tops]
    return torch.cat(blocks, 2).permute(2, 0, 1, 3).double()


def _flat(energy: Tensor, light: Tensor) -> Tensor:
    """Selects the blocks that are hardly stronger than the weakest quarter at their brightness.

    Where nothing is flat at some brightness, that quarter is edges, too: there, grain is taken to
    be at most `_STEEP` times what it is a step of brightness away.
    """
    steps = (light * (_BINS - 1)).round()
    weakest = {
        step: float(energy[alike].quantile(0.25))
        for step in steps.unique().tolist()
        if (alike := steps == step).sum() >= _LEAST_BLOCKS
    }
    usual = float(energy.quantile(0.25))
    limits = [weakest.get(step, usual) for step in range(_BINS)]
    for step, power in weakest.items():
        if power > _SEEN:
            limits = [min(old, power * _STEEP ** abs(step - n)) for n, old in enumerate(limits)]
    return energy <= _FLAT * torch.tensor(limits).to(energy)[steps.long()]


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


def _by_brightness(energy: Tensor, light: Tensor, mean: Tensor) -> Tensor:
    """The strength of the grain at each step of brightness, over the average strength."""
    place = light * (_BINS - 1)
    distance = (place[:, None] - torch.arange(_BINS).to(light)).abs()
    weights = (1 - distance).clamp(min=0)
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


def strength_at(strength: Tensor, light: Tensor) -> Tensor:
    """The strength at the brightness of each pixel, between the steps in straight lines."""
    place = light * (_BINS - 1)
    low = place.floor().long().clamp(max=_BINS - 2)
    return strength[low].lerp(strength[low + 1], place - low)


def resized_spectrum(power: Tensor, height: int, width: int, columns: int | None = None) -> Tensor:
    """A spectrum at other frequencies, height×width, in the order of `torch.fft.fft2`.

    Spectra fall steeply, so it is their logarithm that runs straight from one to the next.

    Args:
        power: P×P.
        height, width: of the result, of which only the first ``columns`` are made; None for all.
    """
    side = power.shape[0]
    if (height, width) == tuple(power.shape):
        return power[:, :columns]
    down, right = (torch.fft.fftfreq(n).to(power) * side for n in (height, width))
    right = right[:columns]
    y, x = down.floor().long() % side, right.floor().long() % side
    down = (down - down.floor())[:, None]
    log = _log(power)
    log = log[y] * (1 - down) + log[(y + 1) % side] * down
    right = right - right.floor()
    return (log[:, x].mul_(1 - right)).add_(log[:, (x + 1) % side].mul_(right)).exp_()


def _log(power: Tensor) -> Tensor:
    return power.clamp(min=_NOTHING).log()
