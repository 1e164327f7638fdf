"""The last cases of `benchmarks.guard`: committed before any verdict on them was seen.

Their author knew the guard as it was. Then, with 8 faces, 9 of 14 verdicts were right: all 3 on
good targets, 6 of 11 on harmful ones. It accepted noise in the shadows, sharp mouths, freckles, one
lightness for all and blue eyes. Limits were chosen for these since, for freckles a round later.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.sabotage import Case
from benchmarks.sabotage_drawing import blurred, moved, near, near_eyes, places, rough, sharpened
from bfr.image.tensors import luma


def glancing(x: Tensor) -> Tensor:
    """Eyes that look aside."""
    aside = -0.04 * near_eyes(x, 0.09, 0.06)
    return moved(x, aside, torch.zeros_like(aside))


def dark_noise(x: Tensor) -> Tensor:
    """Noise in the shadows only."""
    shadows = (1 - 3 * blurred(luma(x), 2.0)).clamp(min=0)
    return (x + 0.1 * shadows * rough(x, 17)).clamp(0, 1)


def sharp_mouth(x: Tensor) -> Tensor:
    """The mouth over-sharpened, nothing else."""
    return x.lerp(sharpened(x, 1.5, 4.0), near(x, (0.0, 0.46), 0.3, 0.15))


def wrinkled(x: Tensor) -> Tensor:
    """Three lines across every brow."""
    lines = sum((near(x, (0.0, y), 0.35, 0.012) for y in (-0.5, -0.43, -0.36)), x.new_zeros(1))
    return x * (1 - 0.3 * lines)


def some_dark(x: Tensor) -> Tensor:
    """Every third person darker."""
    gains = torch.tensor([0.82 if n % 3 == 0 else 1.0 for n in range(len(x))])
    return x * gains[:, None, None, None]


def freckled(x: Tensor) -> Tensor:
    """Freckles on cheeks and nose, others on each face."""
    spots = blurred(rough(x[:, :1], 19), 1.5)
    spots = (spots / spots.std() - 1.3).clamp(0, 1) * near(x, (0.0, 0.2), 0.45, 0.15)
    return x * (1 - spots * torch.tensor([0.2, 0.35, 0.4])[:, None, None])


def one_lightness(x: Tensor) -> Tensor:
    """Dark people lighter and light ones darker."""
    light = luma(x).mean((2, 3), keepdim=True)
    return (x * (light.mean() / light) ** 0.4).clamp(0, 1)


def stairs(x: Tensor) -> Tensor:
    """Edges in steps of 2 px."""
    return F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="nearest")


def smeared(x: Tensor) -> Tensor:
    """Blurred sideways, as by a camera that moved."""
    return F.avg_pool2d(F.pad(x, (3, 3, 0, 0), mode="replicate"), (1, 7), 1)


def blue_eyed(x: Tensor) -> Tensor:
    """Blue eyes for all."""
    blue = x * torch.tensor([0.6, 0.9, 1.6])[:, None, None]
    return x.lerp(blue, 0.8 * near_eyes(x, 0.06, 0.05).clamp(0, 1)).clamp(0, 1)


def scan_lines(x: Tensor) -> Tensor:
    """Every third row darker, from another row on in each face."""
    row = torch.arange(x.shape[-1])[:, None]
    dark = torch.stack([((row + n) % 3 == 0).float() for n in range(len(x))])[:, None]
    return x * (1 - 0.1 * dark)


def hair_only(x: Tensor, other: Tensor) -> Tensor:
    """Another picture outside of the face."""
    across, down = places(x)
    outside = (((across / 0.55).square() + (down / 0.75).square() - 1) / 0.4).clamp(0, 1)
    return x.lerp(other, outside)


def every_second(x: Tensor, other: Tensor) -> Tensor:
    """Another picture in every second face."""
    other = other.clone()
    other[::2] = x[::2]
    return other


LAST = {
    "better for every second face": Case(lambda f: every_second(f.guess, f.clean), True),
    "better hair and background": Case(lambda f: hair_only(f.guess, f.clean), True),
    "between target and truth, camera noise": Case(
        lambda f: f.target.lerp(f.clean, 0.5), True, "camera noise ISO 3000"
    ),
    "eyes that look aside, better": Case(lambda f: glancing(f.clean), False),
    "noise in the shadows, better": Case(lambda f: dark_noise(f.clean), False),
    "sharp mouths": Case(lambda f: sharp_mouth(f.guess), False),
    "lines across brows, better": Case(lambda f: wrinkled(f.clean), False),
    "every third person darker, better": Case(lambda f: some_dark(f.clean), False),
    "freckles, better": Case(lambda f: freckled(f.clean), False),
    "one lightness for all, better": Case(lambda f: one_lightness(f.clean), False),
    "steps of 2 px, better": Case(lambda f: stairs(f.clean), False),
    "smeared sideways, better": Case(lambda f: smeared(f.clean), False),
    "blue eyes for all, better": Case(lambda f: blue_eyed(f.clean), False),
    "scan lines, camera noise": Case(
        lambda f: scan_lines(f.target), False, "camera noise ISO 3000"
    ),
}
