"""Damage measured on faces, so that other faces can be damaged the same way.

Each pair of a clean and a damaged face gives one record (`LearnedDamage`), by statistics, without
training. Levels are compared in coarse squares. The blur is fitted to the cross-spectrum of the two
(Wiener's estimate), with each frequency weighted by how far it stands above the noise. The noise is
the two-dimensional spectrum of the remainder where the clean face is smooth, in the colours in
which it is independent. Its strength at each lightness is measured on all faces together.

The clean faces may be pseudo targets: detail that these invent is missing from the damaged faces,
which only weakens the highest frequencies.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..image.tensors import check_images, luma
from .learned import TONES, LearnedDamage, blurred, frequencies, levelled

WINDOW = 32
"""Side in pixels of the windows that noise is measured in."""

_SMOOTH = 0.4  # share of the windows, the smoothest, that noise is measured in
_BANDS = 48  # rings of frequencies
_ORDERS = (1.5, 2.0, 3.0, 4.0, 6.0, 10.0)
_CUTS = tuple(0.02 * 1.08**n for n in range(48))  # cycles a pixel, up to 0.75
_COARSE = 16  # pixels: levels are compared in means of such squares
_FADED = 0.25  # of the clean face's spread of colours, below which a face has none
_GREY = 0.006  # spread of colours below which a clean face has none


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
    found = list(map(torch.stack, zip(*records, strict=True)))
    return LearnedDamage(side, *found, _tones(rests, tones))  # pyright: ignore[reportCallIssue]


def _measure(clean: Tensor, damaged: Tensor) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """A face's record; what remains of it, 3×S×S; and the damaged face without noise."""
    colourless = torch.tensor(_spread(clean) < _GREY)
    paper = torch.tensor([[1.0, 0.0]] * 3)
    if colourless:
        paper = _levels(_without_colours(clean), clean)
        clean = levelled(clean, colourless, paper)
    grey = ~colourless & (_spread(damaged) < _FADED * _spread(clean))
    levels = _levels(_without_colours(clean) if grey else clean, damaged)
    plain = levelled(clean, grey, levels)
    blur = _fit_blur(luma(plain[None])[0, 0], luma(damaged[None])[0, 0])
    detail = plain - blurred(plain, torch.tensor([0.08, 2.0]))
    plain = blurred(plain, blur)
    rest = damaged - plain
    return (colourless, paper, grey, levels, blur, *_noise(rest, detail)), rest, plain


def _without_colours(face: Tensor) -> Tensor:
    return luma(face[None])[0].expand(3, -1, -1)


def _spread(face: Tensor) -> float:
    """The spread of colours apart from lightness; 0 in a tinted grey picture."""
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


def _fit_blur(plain: Tensor, damaged: Tensor) -> Tensor:
    """Cut and order of the blur between two S×S pictures."""
    side = plain.shape[-1]
    window = torch.hann_window(side, periodic=False)
    x, y = (
        torch.fft.fft2((image - image.mean()) * window * window[:, None])
        for image in (plain, damaged)
    )
    rings = (frequencies(side) * 2 * _BANDS).long().clamp(max=_BANDS).flatten()

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
    low, beyond = (frequencies(WINDOW) < cut / WINDOW for cut in (1.5, 3.1))
    near = power[:, beyond & ~low].mean(1)
    return colours, torch.where(low, near[:, None, None], power)


def _windows(image: Tensor) -> Tensor:
    """M×C×W×W overlapping windows of a C×S×S image."""
    step = WINDOW // 2
    parts = image.unfold(1, WINDOW, step).unfold(2, WINDOW, step)
    return parts.permute(1, 2, 0, 3, 4).flatten(0, 1)


def _tones(rests: list[Tensor], plains: list[Tensor]) -> Tensor:
    """K factors: how much stronger or weaker noise is at each lightness."""
    total, count = torch.zeros(TONES), torch.zeros(TONES)
    for rest, plain in zip(rests, plains, strict=True):
        fine = rest - blurred(rest, torch.tensor([0.06, 2.0]))
        strength = fine.abs().mean(0)
        edges = _edges(plain)
        calm = edges <= edges.quantile(0.5)
        tone = (luma(plain[None])[0, 0].clamp(0, 1) * TONES).long().clamp(max=TONES - 1)
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
