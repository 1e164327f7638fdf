"""Damage measured on faces, and applied to others.

The record of a face lists what happened to it, in this order::

    damaged = levels(clean) ⊛ blur + noise

Levels: a gain and an offset for each channel (fading, tint), after the colours are taken away if
the damaged face has none. Blur: the falling curve ``exp(-(f / cut)^order)``, which is a Gaussian
at order 2 and the sharp end of a small picture at higher ones. Noise: as coarse, as coloured, as
regular and at each lightness as strong as it was measured (`bfr.damage.learn`).
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
from ..image.resize import resize_square
from ..image.tensors import luma

TONES = 8
"""Steps of lightness at which the noise's strength is known."""


@dataclass(frozen=True, slots=True, eq=False)
class LearnedDamage:
    """The damage found on N faces.

    Attributes:
        size: side in pixels of these faces; others are damaged at this size.
        colourless: N booleans, which have no colours clean or damaged: a restorer is to leave
            them so, and a clean face must lose its own first.
        paper: N×3×2, the gain and the offset that tint these; 1 and 0 for the others.
        grey: N booleans, which lost the colours that they have clean.
        levels: N×3×2, the gain and the offset of each channel.
        blur: N×2, cut (cycles per pixel) and order of the transfer.
        colours: N×3×3, the directions in RGB, as rows, in which the noise is independent; the
            last one has most of it.
        noise: N×3×W×W, the noise's variance in these by frequency, zero frequency first; its mean
            over the frequencies is the variance of a pixel.
        tones: K factors of the noise's deviation, from black to white.
    """

    size: int
    colourless: Tensor
    paper: Tensor
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
        """The checksum of all records."""
        parts = (self.colourless, self.paper, self.grey, self.levels, self.blur, self.colours)
        parts += (self.noise, self.tones)
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
        if (without := self.grey | self.colourless).any():
            words.append(f"{int(without.sum())} of {len(self)} without colours")
        return "; ".join(words)


@torch.no_grad()
def draw_pair(image: Tensor, damage: LearnedDamage, seed: int) -> tuple[Tensor, Tensor]:
    """Damages a face as one of the learned ones was, chosen by the seed.

    Args:
        image: 3×S×S RGB in [0, 1].
        damage: of `bfr.damage.learn.learn_damage`.
        seed: chooses the face and draws the noise.

    Returns:
        The clean face, without colours if that one has none, and the damaged one.

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
    face = clean = levelled(face, damage.colourless[number], damage.paper[number]).clamp(0, 1)
    face = levelled(face, damage.grey[number], damage.levels[number])
    face = blurred(face, damage.blur[number])
    white = torch.from_numpy(rng.standard_normal((3, damage.size, damage.size))).float()
    spectrum = _resampled(damage.noise[number], damage.size).sqrt()
    shaped = torch.fft.ifft2(torch.fft.fft2(white) * spectrum).real
    noise = torch.einsum("oc,ohw->chw", damage.colours[number], shaped)
    strength = _at_tones(damage.tones, luma(face[None])[0, 0])
    pair = torch.stack([clean, (face + strength * noise).clamp(0, 1)])
    clean, damaged = resize_square(pair, image.shape[-1]).clamp(0, 1)
    return image if not damage.colourless[number] else clean, damaged


def draw_damage(image: Tensor, damage: LearnedDamage, seed: int) -> Tensor:
    """The damaged face of `draw_pair`."""
    return draw_pair(image, damage, seed)[1]


def levelled(face: Tensor, grey: Tensor, levels: Tensor) -> Tensor:
    if grey:
        face = luma(face[None])[0].expand(3, -1, -1)
    return face * levels[:, :1, None] + levels[:, 1:, None]


def blurred(face: Tensor, blur: Tensor) -> Tensor:
    """A 3×S×S face through a transfer of cut and order."""
    pad = face.shape[-1] // 8
    padded = F.pad(face, (pad,) * 4, mode="reflect")
    transfer = torch.exp(-((frequencies(padded.shape[-1]) / blur[0]) ** blur[1]))
    found = torch.fft.ifft2(torch.fft.fft2(padded) * transfer).real
    return found[:, pad:-pad, pad:-pad]


def _resampled(noise: Tensor, side: int) -> Tensor:
    """3×side×side, a spectrum of W×W at the frequencies of a larger picture."""
    shifted = torch.fft.fftshift(noise, dim=(1, 2))
    wrapped = F.pad(shifted[None], (0, 1, 0, 1), mode="circular")
    places = (torch.fft.fftshift(torch.fft.fftfreq(side)) + 0.5) * 2 - 1
    y, x = torch.meshgrid(places, places, indexing="ij")
    grid = torch.stack([x, y], -1)[None]
    fine = F.grid_sample(wrapped, grid, "bilinear", "border", align_corners=True)[0]
    return torch.fft.ifftshift(fine, dim=(1, 2)).clamp(min=0)


def _at_tones(tones: Tensor, lightness: Tensor) -> Tensor:
    """The factors at each pixel's lightness, linear between the steps."""
    place = (lightness.clamp(0, 1) * TONES - 0.5).clamp(0, TONES - 1)
    low = place.long().clamp(max=TONES - 2)
    return torch.lerp(tones[low], tones[low + 1], place - low)


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # ComfyUI's nodes run in it
def frequencies(side: int) -> Tensor:
    """side×side, the frequency of each place of a spectrum in cycles per pixel."""
    line = torch.fft.fftfreq(side)
    return torch.hypot(line[:, None], line)


def _range(values: Tensor) -> str:
    """The middle 80 % of some values."""
    low, middle, high = values.double().quantile(torch.tensor([0.1, 0.5, 0.9]).double()).tolist()
    return f"{middle:.2g} ({low:.2g} to {high:.2g})"
