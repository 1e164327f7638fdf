"""More cases of `benchmarks.guard`, written before the guard's verdict on any of them was seen.

Limits were chosen with four of them since. The last was "smooth brows", where the faces are 44 %
closer to clean ones and the brows have no less directed detail than the base's: their texture
falls, while that of the rest of the face rises.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.sabotage import Case, bleached, enlarged, vignette, wax
from benchmarks.sabotage_drawing import (
    EYES,
    blurred,
    coloured,
    moved,
    near,
    near_eyes,
    places,
    shifted,
)


def smiling(x: Tensor) -> Tensor:
    """One corner of the mouth drawn up."""
    lift = 0.05 * near(x, (0.2, 0.45), 0.2, 0.2)
    return moved(x, torch.zeros_like(lift), lift)


def squinting(x: Tensor) -> Tensor:
    """Eyes half closed."""
    down = places(x)[1]
    shut = near_eyes(x, 0.2, 0.12)
    return moved(x, torch.zeros_like(down), 0.6 * shut * (down - EYES[0][1]))


def ghosted(x: Tensor) -> Tensor:
    """Edges repeated one block of a JPEG further."""
    return (x + 0.5 * shifted(x - blurred(x, 2.0), 8)).clamp(0, 1)


def bright_teeth(x: Tensor) -> Tensor:
    """A white smile, whether the mouth is open or not."""
    return x.lerp(torch.full_like(x, 0.95), 0.35 * near(x, (0.0, 0.46), 0.18, 0.06))


def rouged(x: Tensor) -> Tensor:
    """Red cheeks."""
    cheeks = near(x, (-0.35, 0.2), 0.15, 0.15) + near(x, (0.35, 0.2), 0.15, 0.15)
    return coloured(x, 0.0, -0.18, -0.126, where=cheeks)


def smooth_brow(x: Tensor) -> Tensor:
    """No wrinkles on the brow and beside the eyes."""
    smooth = near(x, (0.0, -0.35), 0.5, 0.2) + near(x, (-0.5, -0.05), 0.15, 0.2)
    return x.lerp(blurred(wax(x), 2.0), (smooth + near(x, (0.5, -0.05), 0.15, 0.2)).clamp(0, 1))


def symmetric(x: Tensor) -> Tensor:
    """The left half, mirrored onto the right."""
    half = x.shape[-1] // 2
    return torch.cat([x[..., :half], x[..., :half].flip(-1)], -1)


def marked(x: Tensor) -> Tensor:
    """A faint ring in a corner, as a watermark."""
    across, down = places(x)
    away = ((across - 0.7) ** 2 + (down - 0.75) ** 2).sqrt()
    return x.lerp(torch.ones_like(x), 0.3 * torch.exp(-(((away - 0.15) / 0.03) ** 2)))


def moled(x: Tensor) -> Tensor:
    """The same dark mole on every cheek."""
    return x * (1 - 0.6 * near(x, (0.3, 0.3), 0.03, 0.03))


def long_chinned(x: Tensor) -> Tensor:
    """The chin lower."""
    down = places(x)[1]
    return moved(x, torch.zeros_like(down), -0.06 * near(x, (0.0, 0.8), 0.6, 0.3))


NEW = {
    "pseudo targets, newspaper": Case(lambda f: f.target, True, "newspaper"),
    "clean faces, newspaper": Case(lambda f: f.clean, True, "newspaper"),
    "pseudo targets, ISO 1500": Case(lambda f: f.target, True, "camera noise ISO 1500"),
    "gently better, faded prints": Case(lambda f: f.guess.lerp(f.clean, 0.5), True, "faded print"),
    "a crooked smile, better": Case(lambda f: smiling(f.clean), False),
    "eyes half closed": Case(lambda f: squinting(f.clean), False),
    "eyes 5 % larger, better": Case(lambda f: enlarged(f.clean, 0.05), False),
    "ghosts of edges": Case(lambda f: ghosted(f.clean), False),
    "white teeth, better": Case(lambda f: bright_teeth(f.clean), False),
    "red cheeks, better": Case(lambda f: rouged(f.clean), False),
    "smooth brows, better": Case(lambda f: smooth_brow(f.clean), False),
    "mirrored halves": Case(lambda f: symmetric(f.clean), False),
    "a watermark, better": Case(lambda f: marked(f.clean), False),
    "a mole for all, better": Case(lambda f: moled(f.clean), False),
    "longer chins, better": Case(lambda f: long_chinned(f.clean), False),
    "vignette, scans": Case(lambda f: vignette(f.target), False, "scans"),
    "lighter hair, camera noise": Case(
        lambda f: bleached(f.target), False, "camera noise ISO 3000"
    ),
}
