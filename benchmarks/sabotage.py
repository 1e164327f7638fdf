"""The cases of `benchmarks.guard`: targets, good and sabotaged, and whether each deserves praise.

One module on purpose: it is a list.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from kornia.filters import bilateral_blur
from torch import Tensor

from benchmarks.sabotage_drawing import (
    EYES,
    blurred,
    coloured,
    moved,
    near,
    places,
    rough,
    sharpened,
    shifted,
)
from bfr.damage.degrade import NO_DAMAGE, degrade_faces
from bfr.image.tensors import luma

SIZE, LEARNED = 256, 0.5
SCANS, FADED = "scans", "faded alike"


@dataclass(frozen=True, slots=True)
class Faces:
    """Damaged faces, the base's guesses, pseudo targets and, where known, the clean ones."""

    lq: Tensor
    guess: Tensor
    target: Tensor
    clean: Tensor


@dataclass(frozen=True, slots=True)
class Case:
    """Targets, and whether a restorer tuned to them deserves to be accepted."""

    targets: Callable[[Faces], Tensor]
    good: bool
    damage: str = "gfpgan"
    lr: float | None = None


def edged(x: Tensor) -> Tensor:
    return (x + 4 * (blurred(x, 0.8) - blurred(x, 1.6))).clamp(0, 1)


def warped(x: Tensor, amount: float = 0.12) -> Tensor:
    """Wider in the middle, and a little lopsided."""
    across, down = places(x)
    middle = near(x, (0.0, 0.0), 0.4**0.5, 0.4**0.5)
    wide = amount / 6 * torch.sin(3 * down) - amount * across * middle
    return moved(x, wide, amount / 2 * middle * torch.sin(3 * across))


def grainy(x: Tensor, deviation: float = 0.04) -> Tensor:
    return (x + deviation * rough(x, 3)).clamp(0, 1)


def patterned(x: Tensor, pattern: Tensor, amount: float = 0.03) -> Tensor:
    return (x + amount * pattern).clamp(0, 1)


def checkers(side: int) -> Tensor:
    line = torch.arange(side)
    return ((line[:, None] + line) % 2 * 2 - 1).float()


def stripes(side: int) -> Tensor:
    return torch.sin(torch.arange(side) * (2 * math.pi / 6)).expand(side, side)


def mosaic(x: Tensor, side: int = 8) -> Tensor:
    return F.interpolate(F.avg_pool2d(x, side), scale_factor=side, mode="nearest")


def noise(x: Tensor) -> Tensor:
    return torch.rand(x.shape, generator=torch.Generator().manual_seed(1))


def tinted(x: Tensor, amount: float = 1.0) -> Tensor:
    return coloured(x, 0.06 * amount, 0.0, -0.1 * amount)


def green(x: Tensor) -> Tensor:
    return coloured(x, -0.02, 0.02, -0.02)


def contrasted(x: Tensor, amount: float = 1.25) -> Tensor:
    return ((x - 0.5) * amount + 0.5).clamp(0, 1)


def pale(x: Tensor, share: float = 0.6) -> Tensor:
    return x.lerp(x.mean(1, keepdim=True), share).clamp(0, 1)


def halves(x: Tensor) -> Tensor:
    """The upper half of one person on the lower of another."""
    middle = x.shape[-2] // 2
    return torch.cat([x[..., :middle, :], x.roll(1, 0)[..., middle:, :]], -2)


def enlarged(x: Tensor, amount: float = 0.25) -> Tensor:
    """With larger eyes."""
    wide, high = (torch.zeros_like(line) for line in places(x))
    for eye in EYES:
        share = amount * near(x, eye, 0.02**0.5, 0.02**0.5)
        wide, high = (
            sum_ - share * (line - middle)
            for sum_, line, middle in zip((wide, high), places(x), eye, strict=True)
        )
    return moved(x, wide, high)


def patched(x: Tensor, other: Tensor, place: tuple[float, float], radius: float) -> Tensor:
    """A soft spot of another face."""
    line = torch.linspace(-1, 1, x.shape[-1])
    away = (line[:, None] - place[1]) ** 2 + (line - place[0]) ** 2
    return x.lerp(other, (2 - 2 * away / radius**2).clamp(0, 1))


def wax(x: Tensor) -> Tensor:
    """Skin without pores, edges kept."""
    return bilateral_blur(x, (11, 11), 0.08, (4.0, 4.0), "reflect")


def band_noise(x: Tensor) -> Tensor:
    noise = rough(x, 5)
    band = blurred(noise, 1.5) - blurred(noise, 3.0)
    return (x + 0.03 * band / band.std()).clamp(0, 1)


def ringing(x: Tensor) -> Tensor:
    """Cut off sharply at a third of the frequencies."""
    spectrum = torch.fft.fft2(x)
    line = torch.fft.fftfreq(x.shape[-1]).abs()
    keep = (line < 1 / 6) & (line < 1 / 6)[:, None]
    return torch.fft.ifft2(spectrum * keep).real.clamp(0, 1)


def one_sharpened(x: Tensor) -> Tensor:
    return torch.cat([sharpened(x[:, :1], 2.0, 4.0), x[:, 1:]], 1)


def packed(x: Tensor, quality: float) -> Tensor:
    return degrade_faces(x, replace(NO_DAMAGE, jpeg=(quality, quality)))


def cast(x: Tensor, amount: float = 1.0) -> Tensor:
    return coloured(x, -0.06 * amount, 0.0, 0.06 * amount)


def vignette(x: Tensor) -> Tensor:
    """Darker towards the corners."""
    across, down = places(x)
    return x * (1 - 0.2 * (across.square() + down.square()))


def side_lit(x: Tensor) -> Tensor:
    """Light on the left, shade on the right."""
    return (x * (1 - 0.1 * places(x)[0])).clamp(0, 1)


def bleached(x: Tensor) -> Tensor:
    """With lighter hair."""
    across, down = places(x)
    hair = ((-0.45 - down) / 0.2).clamp(0, 1) * (1 - across.square())
    return x + 0.35 * hair * (1 - x)


def lipstick(x: Tensor) -> Tensor:
    """With red lips."""
    return coloured(x, 0.0, -0.3, -0.24, where=near(x, (0.0, 0.46), 0.22, 0.08))


def haloed(x: Tensor) -> Tensor:
    """The local contrast of an overdone HDR photograph."""
    return sharpened(x, 12.0, 0.5)


def bled(x: Tensor) -> Tensor:
    """Colours that run over their edges."""
    grey = luma(x)
    return (grey + blurred(x - grey, 8.0)).clamp(0, 1)


def colour_noise(x: Tensor) -> Tensor:
    """Noise that changes colours only."""
    noise = blurred(rough(x, 7), 1.0)
    noise = 0.08 * noise / noise.std()
    return (x + noise - luma(noise)).clamp(0, 1)


def slimmed(x: Tensor, amount: float = 0.06) -> Tensor:
    """With narrower faces."""
    across = places(x)[0]
    more = amount * across * near(x, (0.0, 0.0), 0.5**0.5, 0.5**0.5)
    return moved(x, more, torch.zeros_like(more))


def doubled(x: Tensor) -> Tensor:
    """With a faint second outline."""
    return x.lerp(shifted(x, 4), 0.3)


def glowing(x: Tensor) -> Tensor:
    """The soft light of a beauty filter: skin smooth, lights bloom."""
    soft = blurred(wax(x), 6.0)
    return x.lerp(1 - (1 - x) * (1 - soft), 0.25)


def averaged(x: Tensor) -> Tensor:
    """A little of the same mean face in all."""
    return x.lerp(x.mean(0, keepdim=True), 0.3)


def faded(x: Tensor) -> Tensor:
    """Fades all alike, as years in the sun do: no black and little contrast."""
    return 0.22 + 0.62 * x


TUNING = {
    "clean faces": Case(lambda f: f.clean, True),
    "pseudo targets": Case(lambda f: f.target, True),
    "pseudo targets, camera noise": Case(lambda f: f.target, True, "camera noise ISO 3000"),
    "over-sharpened": Case(lambda f: sharpened(f.guess, 2.0, 4.0), False),
    "edges drawn in": Case(lambda f: edged(f.guess), False),
    "warped and sharpened": Case(lambda f: sharpened(warped(f.guess), 1.5, 2.5), False),
    "darkened": Case(lambda f: 0.94 * f.guess, False),
    "grain": Case(lambda f: grainy(f.guess), False),
    "checkerboard": Case(lambda f: patterned(f.guess, checkers(SIZE)), False),
    "blurred a little": Case(lambda f: blurred(f.guess, 1.0), False),
    "swapped people": Case(lambda f: f.guess.roll(1, 0), False),
    "mosaic": Case(lambda f: mosaic(f.guess), False),
    "gently better": Case(lambda f: f.guess.lerp(f.clean, 0.5), True),
    "darker but better": Case(lambda f: 0.94 * f.clean, False),
    "a little contrast": Case(lambda f: contrasted(f.guess, 1.12), False),
    "large eyes": Case(lambda f: enlarged(f.guess), False),
    "wax": Case(lambda f: wax(f.guess), False),
    "jpeg": Case(lambda f: packed(f.guess, 12), False),
    "eyes of another": Case(
        lambda f: patched(
            patched(f.guess, f.clean.roll(1, 0), EYES[0], 0.35), f.clean.roll(1, 0), EYES[1], 0.35
        ),
        False,
    ),
    "vignette": Case(lambda f: vignette(f.guess), False),
    "light from the left": Case(lambda f: side_lit(f.clean), False),
    "red lips": Case(lambda f: lipstick(f.guess), False),
    "narrow faces": Case(lambda f: slimmed(f.guess), False),
    "moved aside by 1 px": Case(lambda f: shifted(f.guess, 1), False),
    "colour noise": Case(lambda f: colour_noise(f.guess), False),
    "colours that run": Case(lambda f: bled(f.guess), False),
    "clean faces, all faded alike": Case(lambda f: f.clean, True, FADED),
    "a slight blue cast": Case(lambda f: cast(f.guess, 0.5), False),
    "a slight blue cast, better": Case(lambda f: cast(f.clean, 0.5), False),
    "a little warmer, better": Case(lambda f: tinted(f.clean, 0.5), False),
    "greener, scans": Case(lambda f: green(f.target), False, SCANS),
    "more colourful, better": Case(lambda f: pale(f.clean, -0.25), False),
    "diverging, lr 0.05": Case(lambda f: f.target, False, lr=0.05),
}
REPORT = {
    "clean faces, camera noise": Case(lambda f: f.clean, True, "camera noise ISO 3000"),
    "pseudo targets, scans": Case(lambda f: f.target, True, SCANS),
    "pseudo targets, faded prints": Case(lambda f: f.target, True, "faded print"),
    "over-sharpened, finer": Case(lambda f: sharpened(f.guess, 1.0, 4.0), False),
    "darkened and sharpened": Case(lambda f: 0.94 * sharpened(f.guess, 1.5, 2.5), False),
    "warped": Case(lambda f: warped(f.guess), False),
    "moved aside by 3 px": Case(lambda f: shifted(f.guess), False),
    "stripes": Case(lambda f: patterned(f.guess, stripes(SIZE)), False),
    "posterised": Case(lambda f: (10 * f.guess).round() / 10, False),
    "blurred": Case(lambda f: blurred(f.guess, 3.0), False),
    "one head for all": Case(lambda f: f.clean[:1].expand_as(f.guess), False),
    "strangers, sharpened": Case(lambda f: sharpened(f.clean.roll(1, 0), 1.5, 2.0), False),
    "halves of two people": Case(lambda f: halves(f.guess), False),
    "noise": Case(lambda f: noise(f.guess), False),
    "tint": Case(lambda f: tinted(f.guess), False),
    "contrast": Case(lambda f: contrasted(f.guess), False),
    "paler": Case(lambda f: pale(f.guess), False),
    "over-sharpened pseudo targets": Case(lambda f: sharpened(f.target, 1.5, 2.5), False),
    "over-sharpened, real scans": Case(lambda f: sharpened(f.guess, 2.0, 4.0), False, SCANS),
    "better, and contrast": Case(lambda f: contrasted(f.clean, 1.15), False),
    "darker, camera noise": Case(lambda f: 0.94 * f.target, False, "camera noise ISO 3000"),
    "lighter but better": Case(lambda f: (1.06 * f.clean).clamp(0, 1), False),
    "blue cast": Case(lambda f: cast(f.guess), False),
    "blue cast, better": Case(lambda f: cast(f.clean), False),
    "mouth of another": Case(
        lambda f: patched(f.guess, f.clean.roll(1, 0), (0.0, 0.35), 0.4), False
    ),
    "mirrored": Case(lambda f: f.guess.flip(-1), False),
    "band of noise": Case(lambda f: band_noise(f.guess), False),
    "ringing": Case(lambda f: ringing(f.guess), False),
    "one channel sharpened": Case(lambda f: one_sharpened(f.guess), False),
    "bleached hair": Case(lambda f: bleached(f.clean), False),
    "large eyes, a little": Case(lambda f: enlarged(f.clean, 0.12), False),
    "overdone HDR": Case(lambda f: haloed(f.guess), False),
    "second outline": Case(lambda f: doubled(f.clean), False),
    "beauty filter": Case(lambda f: glowing(f.guess), False),
    "a mean face in all": Case(lambda f: averaged(f.guess), False),
    "clean faces, faded prints": Case(lambda f: f.clean, True, "faded print"),
    "clean, then faded": Case(lambda f: faded(f.clean), False),
    "diverging, lr 0.1": Case(lambda f: f.target, False, lr=0.1),
}
