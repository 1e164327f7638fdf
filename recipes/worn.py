"""Hair and shadows, which belong to a face and are easily taken for something in front of it.

Moustaches, beards and a dark side are drawn on aligned faces of `SIDE` pixels, where the FFHQ
template has the nose and the mouth. They stay part of the face: nothing is added to its outline.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from .occluder_sources import COLUMNS, PIXEL, ROWS, SIDE, Array, soft

_MIDDLE, _NOSE, _MOUTH, _CHIN = 64.0, 80.0, 93.0, 113.0  # of the template, in parts


def grow(face: Array, rng: np.random.Generator) -> Array:
    """A face S×S×3 in [0, 1] with one of `KINDS`, or with a moustache and a beard."""
    kind = rng.choice(list(KINDS), p=SHARES)
    face = KINDS[kind](face, rng)
    return _beard(face, rng) if kind == "moustache" and rng.random() < 0.3 else face


def _moustache(face: Array, rng: np.random.Generator) -> Array:
    """From a toothbrush to a walrus, its ends up or down, parted in the middle or not."""
    x = (COLUMNS - _MIDDLE - rng.normal(0, 1)) / (half := rng.uniform(6, 21))
    far = np.abs(x).clip(0, 1)
    ends = rng.normal(2, 4) * far ** rng.uniform(1, 3)
    thick = rng.uniform(2, 6.5) * (1 - far ** rng.uniform(1.2, 6)) - 3 * (np.abs(x) > 1)
    thick = thick - rng.uniform(0, 2.5) * np.exp(-((x * half / 2) ** 2))
    middle = rng.uniform(_NOSE + 4, _MOUTH - 2) + ends
    return _hair(face, thick - np.abs(ROWS - middle), rng)


def _beard(face: Array, rng: np.random.Generator) -> Array:
    """From a goatee to a full beard, with a free mouth and a chin that may run into a tip."""
    half, low = rng.uniform(10, 38), rng.uniform(_CHIN, _CHIN + 22)
    x, y = (COLUMNS - _MIDDLE) / half, (ROWS - _MOUTH) / (low - _MOUTH)
    chin = (1 - np.hypot(x, np.maximum(y, 0)) ** rng.uniform(1, 3)) * half / 2
    sides = ROWS - _MOUTH + rng.uniform(-6, 26) * np.abs(x).clip(0, 1) ** rng.uniform(1.5, 4)
    mouth = (np.hypot((COLUMNS - _MIDDLE) / 15, (ROWS - _MOUTH) / rng.uniform(4, 7)) - 1) * 5
    return _hair(face, np.minimum(np.minimum(chin, sides), mouth), rng)


def _hair(face: Array, distance: Array, rng: np.random.Generator) -> Array:
    """Short hair where the distance is positive, in strands and with a ragged edge."""
    strands = rng.normal(0, 1, (SIDE, SIDE)).astype(np.float32)
    strands = cv2.GaussianBlur(
        strands, (0, 0), PIXEL * rng.uniform(0.4, 0.8), sigmaY=PIXEL * rng.uniform(1, 3)
    )
    strands /= strands.std() + 1e-6
    over = soft(distance + rng.uniform(0, 1.5) * strands, PIXEL * rng.uniform(0.5, 2.5))
    level = rng.uniform(0.6, 0.95) if rng.random() < 0.2 else rng.uniform(0.02, 0.4)
    colour = level * np.array([1.0, (green := rng.uniform(0.75, 1)), green * rng.uniform(0.6, 1)])
    pixels = colour * (1 + rng.uniform(0.05, 0.35) * strands)[..., None]
    over = (over * rng.uniform(0.6, 1))[..., None]
    return np.clip(face + over * (pixels - face), 0, 1).astype(np.float32)


def _shade(face: Array, rng: np.random.Generator) -> Array:
    """A side, a hat's shadow or a patch of light with a sharp or soft edge, straight or bent."""
    turn, bend = rng.uniform(0, 2 * math.pi), rng.normal(0, 0.006)
    x, y = COLUMNS - _MIDDLE, ROWS - 70
    across = x * math.sin(turn) - y * math.cos(turn)
    depth = x * math.cos(turn) + y * math.sin(turn) + bend * across**2 - rng.uniform(-12, 36)
    side = soft(depth, PIXEL * rng.uniform(2.5, 20))[..., None]
    if rng.random() < 0.15:  # light that burns out
        return np.clip(face + side * rng.uniform(0.1, 0.5), 0, 1).astype(np.float32)
    return (face * (1 - side * rng.uniform(0.3, 0.85))).astype(np.float32)


KINDS: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "moustache": _moustache,
    "beard": _beard,
    "shade": _shade,
}
SHARES = (0.45, 0.2, 0.35)
"""How often each of `KINDS` is drawn."""
