"""Damage learned from faces: what a photograph did to them, measured, so that it can be repeated.

Of each pair of a clean and a damaged face a record is made, by statistics and without training::

    damaged = levels(clean) ⊛ blur + noise

Levels: a gain and an offset for each channel (fading, tint), after the colours are taken away if
the damaged face has none. Blur: the falling curve ``exp(-(f / cut)^order)``, which is a Gaussian
at order 2 and the sharp end of a small picture at higher ones, fitted to the cross-spectrum of
the two (Wiener's estimate), each frequency as firmly as it stands above the noise. Noise: the
spectrum of what is left, in two dimensions and in lightness and two colours, measured where the
clean face is smooth; so it is as coarse, as coloured and as regular as the real one. How strong
it is at each lightness is measured on all faces together.

The clean faces may be pseudo targets: what these invent is not in the damaged ones, and only
weakens the highest frequencies.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..image.tensors import check_images, luma, resize_square

WINDOW = 32
"""Side in pixels of the windows that noise is measured in."""

_TONES = 8  # steps of lightness at which the noise's strength is known
_SMOOTH = 0.4  # share of the windows, the smoothest, that noise is measured in
_BANDS = 48  # rings of frequencies
_ORDERS = (1.5, 2.0, 3.0, 4.0, 6.0, 10.0)
_CUTS = tuple(0.02 * 1.08**n for n in range(48))  # cycles a pixel, up to 0.75
_COARSE = 16  # pixels: levels are compared in means of such squares
_FADED = 0.25  # of the clean face's spread of colours, below which a face has none
_GREY = 0.004  # spread of colours that no face has less of


@dataclass(frozen=True, slots=True, eq=False)
class LearnedDamage:
    """Damage as it was found on N faces.

    Attributes:
        size: side in pixels of these faces; others are damaged at this size.
        grey: N booleans, which had no colours.
        levels: N×3×2, the gain and the offset of each channel.
        blur: N×2, cut (cycles per pixel) and order of the transfer.
        colours: N×3×3, the directions in RGB, as rows, in which the noise is independent; the
            last one has most of it.
        noise: N×3×W×W, the noise's variance in these by frequency, zero frequency first; its mean
            over the frequencies is the variance of a pixel.
        tones: K factors of the noise's deviation, from black to white.
    """

    size: int
    grey: Tensor
    levels: Tensor
    blur: Tensor
    colours: Tensor
    noise: Tensor
    tones: Tensor

    def __len__(self) -> int:
        return len(self.blur)

    @property
    def sha256(self) -> str:
        """A checksum of all of it."""
        parts = (self.grey, self.levels, self.blur, self.colours, self.noise, self.tones)
        digest = hashlib.sha256(str(self.size).encode())
        for part in parts:
            digest.update(part.contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def blurs(self) -> Tensor:
        """N widths of the blur: the deviation in pixels of a Gaussian that halves alike."""
        cut, order = self.blur.unbind(1)
        half = cut * math.log(2) ** (1 / order)
        return math.sqrt(math.log(2) / 2) / (math.pi * half)

    @property
    def noises(self) -> Tensor:
        """N deviations of the noise of a channel, of 255."""
        return 255 * self.noise.mean((2, 3)).mean(1).sqrt()

    def describe(self) -> str:
        """The damage in words and numbers, as ranges over the faces."""
        unit = 512 / self.size
        coloured = self.noise[:, :2].mean() / self.noise[:, 2].mean().clamp(min=1e-12)
        words = [
            f"blur {_range(unit * self.blurs)} px of a 512 px face",
            f"noise {_range(self.noises)} of 255, {'in colour' if coloured > 0.05 else 'grey'}",
            f"contrast {_range(self.levels[..., 0].mean(1))}",
            f"black at {_range(self.levels[..., 1].mean(1))}",
        ]
        if self.grey.any():
            words.append(f"{int(self.grey.sum())} of {len(self)} without colours")
        return "; ".join(words)


@torch.no_grad()
def learn_damage(clean: Tensor, damaged: Tensor) -> LearnedDamage:
    """Measures what was done to faces.

    Args:
        clean: N×3×S×S RGB in [0, 1], S at least 64: clean faces, or pseudo targets.
        damaged: N×3×S×S RGB in [0, 1], the same faces damaged.

    Raises:
        InputError: if there are none, or they are no such images of one size.
    """
    check_images(clean, "clean faces")
    check_images(damaged, "damaged faces")
    side = clean.shape[-1]
    if clean.shape != damaged.shape or not len(clean) or clean.shape[-2] != side or side < 64:
        raise InputError(
            "Damage must be learned from square faces of 64 pixels or more, each clean and "
            f"damaged, got {tuple(clean.shape)} and {tuple(damaged.shape)}. Give pairs of one size."
        )
    records, rests, tones = [], [], []
    for one, other in zip(clean.cpu().float(), damaged.cpu().float(), strict=True):
        record, rest, plain = _measure(one, other)
        records.append(record)
        rests.append(rest)
        tones.append(plain)
    grey, levels, blur, colours, noise = map(torch.stack, zip(*records, strict=True))
    return LearnedDamage(side, grey, levels, blur, colours, noise, _tones(rests, tones))


@torch.no_grad()
def draw_damage(image: Tensor, damage: LearnedDamage, seed: int) -> Tensor:
    """Damages one 3×S×S face as one of the learned ones was, chosen by the seed.

    Raises:
        InputError: for a picture that is not square.
    """
    if image.shape[-1] != image.shape[-2]:
        raise InputError(
            f"Learned damage must be put on square faces, got {image.shape[-1]}×"
            f"{image.shape[-2]} pixels. Align the faces first."
        )
    rng = np.random.default_rng(seed)
    number = int(rng.integers(len(damage)))
    face = resize_square(image[None].cpu().float(), damage.size).clamp(0, 1)[0]
    face = _levelled(face, damage.grey[number], damage.levels[number])
    face = _blurred(face, damage.blur[number])
    white = torch.from_numpy(rng.standard_normal((3, damage.size, damage.size))).float()
    spectrum = _resampled(damage.noise[number], damage.size).sqrt()
    shaped = torch.fft.ifft2(torch.fft.fft2(white) * spectrum).real
    noise = torch.einsum("oc,ohw->chw", damage.colours[number], shaped)
    strength = _at_tones(damage.tones, luma(face[None])[0, 0])
    drawn = (face + strength * noise).clamp(0, 1)[None]
    return resize_square(drawn, image.shape[-1]).clamp(0, 1)[0]


def _measure(clean: Tensor, damaged: Tensor) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """A face's record; what remains of it, 3×S×S; and the damaged face without noise."""
    grey = torch.tensor(_spread(damaged) < max(_FADED * _spread(clean), _GREY))
    levels = _levels(luma(clean[None])[0].expand(3, -1, -1) if grey else clean, damaged)
    plain = _levelled(clean, grey, levels)
    blur = _fit_blur(luma(plain[None])[0, 0], luma(damaged[None])[0, 0])
    detail = plain - _blurred(plain, torch.tensor([0.08, 2.0]))
    plain = _blurred(plain, blur)
    rest = damaged - plain
    return (grey, levels, blur, *_noise(rest, detail)), rest, plain


def _spread(face: Tensor) -> float:
    """How far colours vary beside lightness: a tinted grey picture has none."""
    small = F.avg_pool2d(face, _COARSE).flatten(1)
    line = F.avg_pool2d(luma(face[None])[0], _COARSE).flatten()
    line = line - line.mean()
    small = small - small.mean(1, keepdim=True)
    slope = (small @ line) / line.square().sum().clamp(min=1e-6)
    return float((small - slope[:, None] * line).abs().mean())


def _levels(clean: Tensor, damaged: Tensor) -> Tensor:
    """3×2, gain and offset of each channel, by least squares over coarse squares."""
    x, y = (F.avg_pool2d(image, _COARSE).flatten(1).double() for image in (clean, damaged))
    mean_x, mean_y = x.mean(1), y.mean(1)
    covariance = ((x - mean_x[:, None]) * (y - mean_y[:, None])).mean(1)
    variance = x.var(1, correction=0)
    gain = ((covariance + 1e-4) / (variance + 1e-4)).clamp(0.05, 3)  # a flat face keeps its own
    return torch.stack([gain, mean_y - gain * mean_x], 1).float()


def _levelled(face: Tensor, grey: Tensor, levels: Tensor) -> Tensor:
    if grey:
        face = luma(face[None])[0].expand(3, -1, -1)
    return face * levels[:, :1, None] + levels[:, 1:, None]


def _fit_blur(plain: Tensor, damaged: Tensor) -> Tensor:
    """Cut and order of the blur between two S×S pictures."""
    side = plain.shape[-1]
    window = torch.hann_window(side, periodic=False)
    x, y = (
        torch.fft.fft2((image - image.mean()) * window * window[:, None])
        for image in (plain, damaged)
    )
    rings = (_frequencies(side) * 2 * _BANDS).long().clamp(max=_BANDS).flatten()

    def ring_sums(values: Tensor) -> Tensor:
        return torch.zeros(_BANDS + 1).index_add(0, rings, values.flatten())[1:_BANDS]

    power, cross, other = (
        ring_sums(values) for values in (x.abs() ** 2, (x.conj() * y).real, y.abs() ** 2)
    )
    found = cross / power.clamp(min=1e-12)
    noise = (other - found.square() * power).clamp(min=1e-6 * float(other.max()))
    certainty = power / noise * ring_sums(torch.ones(side, side))
    middle = (torch.arange(1, _BANDS) + 0.5) / (2 * _BANDS)
    cuts, orders = torch.tensor(_CUTS), torch.tensor(_ORDERS)
    curves = torch.exp(-((middle / cuts[:, None, None]) ** orders[:, None]))
    best = int(((curves - found).square() * certainty).sum(-1).argmin())
    return torch.stack([cuts[best // len(orders)], orders[best % len(orders)]])


def _blurred(face: Tensor, blur: Tensor) -> Tensor:
    """A 3×S×S face through a transfer of cut and order."""
    pad = face.shape[-1] // 8
    padded = F.pad(face, (pad,) * 4, mode="reflect")
    transfer = torch.exp(-((_frequencies(padded.shape[-1]) / blur[0]) ** blur[1]))
    blurred = torch.fft.ifft2(torch.fft.fft2(padded) * transfer).real
    return blurred[:, pad:-pad, pad:-pad]


def _noise(rest: Tensor, detail: Tensor) -> tuple[Tensor, Tensor]:
    """The noise's colours and spectrum, of what remains where the clean face is smooth."""
    window = torch.hann_window(WINDOW, periodic=True)
    window = window[:, None] * window
    parts, busy = _windows(rest), _windows(detail).square().mean((1, 2, 3))
    smooth = parts[busy.argsort()[: max(round(_SMOOTH * len(parts)), 1)]]
    smooth = smooth - smooth.mean((2, 3), keepdim=True)
    colours = torch.linalg.eigh(torch.cov(smooth.transpose(0, 1).flatten(1)))[1].T.contiguous()
    smooth = torch.einsum("oc,nchw->nohw", colours, smooth)
    power = torch.fft.fft2(smooth * window).abs().square().mean(0) / window.square().sum()
    # The lowest frequencies hold what the clean face has wrong in lightness and colour: the
    # noise in them is taken to be that of the next ones.
    low, beyond = (_frequencies(WINDOW) < cut / WINDOW for cut in (1.5, 3.1))
    near = power[:, beyond & ~low].mean(1)
    return colours, torch.where(low, near[:, None, None], power)


def _windows(image: Tensor) -> Tensor:
    """M×C×W×W overlapping windows of a C×S×S image."""
    step = WINDOW // 2
    parts = image.unfold(1, WINDOW, step).unfold(2, WINDOW, step)
    return parts.permute(1, 2, 0, 3, 4).flatten(0, 1)


def _resampled(noise: Tensor, side: int) -> Tensor:
    """3×side×side, a spectrum of W×W at the frequencies of a larger picture."""
    shifted = torch.fft.fftshift(noise, dim=(1, 2))
    wrapped = F.pad(shifted[None], (0, 1, 0, 1), mode="circular")
    places = (torch.fft.fftshift(torch.fft.fftfreq(side)) + 0.5) * 2 - 1
    y, x = torch.meshgrid(places, places, indexing="ij")
    grid = torch.stack([x, y], -1)[None]
    fine = F.grid_sample(wrapped, grid, "bilinear", "border", align_corners=True)[0]
    return torch.fft.ifftshift(fine, dim=(1, 2)).clamp(min=0)


def _tones(rests: list[Tensor], plains: list[Tensor]) -> Tensor:
    """K factors: how much stronger or weaker noise is at each lightness."""
    total, count = torch.zeros(_TONES), torch.zeros(_TONES)
    for rest, plain in zip(rests, plains, strict=True):
        fine = rest - _blurred(rest, torch.tensor([0.06, 2.0]))
        strength = fine.abs().mean(0)
        edges = _edges(plain)
        calm = edges <= edges.quantile(0.5)
        tone = (luma(plain[None])[0, 0].clamp(0, 1) * _TONES).long().clamp(max=_TONES - 1)
        mean = strength[calm].mean().clamp(min=1e-6)
        total.index_add_(0, tone[calm], strength[calm] / mean)
        count.index_add_(0, tone[calm], torch.ones(int(calm.sum())))
    few = 0.01 * count.sum()
    return ((total + few) / (count + few)).clamp(0.1, 4)  # rare tones are near the mean


def _edges(image: Tensor) -> Tensor:
    """S×S, how strong the edges are around each pixel."""
    grey = luma(image[None])
    around = F.max_pool2d(F.pad(grey, (2,) * 4, mode="replicate"), 5, 1)
    return (around + F.max_pool2d(-F.pad(grey, (2,) * 4, mode="replicate"), 5, 1))[0, 0]


def _at_tones(tones: Tensor, lightness: Tensor) -> Tensor:
    """The factors at each pixel's lightness, linear between the steps."""
    place = (lightness.clamp(0, 1) * _TONES - 0.5).clamp(0, _TONES - 1)
    low = place.long().clamp(max=_TONES - 2)
    return torch.lerp(tones[low], tones[low + 1], place - low)


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # ComfyUI's nodes run in it
def _frequencies(side: int) -> Tensor:
    """side×side, the frequency of each place of a spectrum in cycles per pixel."""
    line = torch.fft.fftfreq(side)
    return torch.hypot(line[:, None], line)


def _range(values: Tensor) -> str:
    """The middle 80 % of some values."""
    low, middle, high = values.double().quantile(torch.tensor([0.1, 0.5, 0.9]).double()).tolist()
    return f"{middle:.2g} ({low:.2g} to {high:.2g})"
