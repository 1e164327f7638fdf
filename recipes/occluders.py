"""Things that lie in front of faces, drawn afresh each time: hands, objects, text, strands, veils.

Each is a picture of its own with a soft outline, and goes over a clean face of `SIDE` pixels. Hands
are rounded limbs in the skin of some face, lit from one side; what other things are covered with is
cut out of photographs (`recipes.occlusion prepare`), or painted.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .hands import draw_fingers, draw_hand
from .occluder_sources import (
    COLUMNS,
    PIXEL,
    ROWS,
    SIDE,
    UNITS,
    Array,
    Occluder,
    Sources,
    soft,
    somewhere,
)

_LETTERS = "ABCDEFGHKLMNOPRSTUVWXYZabcdeghkmnopqrstuvwxyz0123456789&?!©@#"
_FINE = 4  # pixels of a part in which text and strands are drawn, and then reduced
_LAYER = (UNITS * _FINE, UNITS * _FINE)


def draw_occluder(kind: str, sources: Sources, rng: np.random.Generator) -> Occluder:
    """Draws an occluder of one of `KINDS`."""
    return KINDS[kind](sources, rng)


def put_on(face: Array, occluder: Occluder, rng: np.random.Generator) -> tuple[Array, Array]:
    """Lays an occluder over a face, often with its shadow.

    Args:
        face: S×S×3 in [0, 1].
        occluder: what goes on top.
        rng: draws the shadow and the light.

    Returns:
        The covered face S×S×3, and how much of each pixel is covered, S×S.
    """
    outline, pixels = occluder.outline[..., None], occluder.pixels
    if rng.random() < 0.5:  # in the light of the photograph
        level = face.mean() / max(
            0.05, float((pixels * outline).sum() / (3 * outline.sum() + 1e-6))
        )
        pixels = pixels * np.clip(level, 0.5, 1.6) ** rng.uniform(0, 1)
    if rng.random() < 0.5:
        dx, dy = PIXEL * rng.uniform(-6, 6, 2)
        shift = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        moved = cv2.warpAffine(occluder.outline, shift, (SIDE, SIDE))
        shadow = cv2.GaussianBlur(moved, (0, 0), PIXEL * rng.uniform(1, 5)) * rng.uniform(0.1, 0.6)
        face = face * (1 - shadow[..., None])
    return np.clip(face + outline * (pixels - face), 0, 1), occluder.outline


def _blob(sources: Sources, rng: np.random.Generator) -> Occluder:
    """A round or angular shape, cut out of a photograph."""
    angles = np.arctan2(ROWS - (at := somewhere(rng))[1], COLUMNS - at[0])
    radius, harmonics = rng.uniform(12, 45), rng.integers(1, 7)
    wave = sum(
        rng.normal(0, 0.22 / n) * np.cos(n * angles + rng.uniform(0, 6.3))
        for n in range(1, harmonics + 1)
    )
    stretch, turn = rng.uniform(0.5, 2.0), rng.uniform(0, math.pi)
    x = (COLUMNS - at[0]) * math.cos(turn) + (ROWS - at[1]) * math.sin(turn)
    y = (ROWS - at[1]) * math.cos(turn) - (COLUMNS - at[0]) * math.sin(turn)
    distance = radius * (1 + wave) - np.hypot(x * stretch, y / stretch)
    return Occluder(_cover(sources, rng), soft(distance, rng.uniform(0.3, 1.5)))


def _polygon(sources: Sources, rng: np.random.Generator) -> Occluder:
    """A sheet, book, sign or box: three to six corners."""
    count, at = rng.integers(3, 7), somewhere(rng)
    angles = np.sort(rng.uniform(0, 2 * math.pi, count))
    radii = rng.uniform(15, 60, count)
    corners = at + np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)
    return Occluder(_cover(sources, rng), _drawn(lambda d: d.polygon(_flat(corners), fill=255)))


def _bar(sources: Sources, rng: np.random.Generator) -> Occluder:
    """A bar, stick, rope or railing across the picture, straight or bent."""
    at, turn, bend = somewhere(rng), rng.uniform(0, math.pi), rng.uniform(-0.004, 0.004)
    x = (COLUMNS - at[0]) * math.cos(turn) + (ROWS - at[1]) * math.sin(turn)
    y = (ROWS - at[1]) * math.cos(turn) - (COLUMNS - at[0]) * math.sin(turn) + bend * x**2
    width = rng.uniform(1.8, 14)
    distance = width - np.abs(y)
    if rng.random() < 0.5:  # it ends somewhere
        distance = np.minimum(distance, x + rng.uniform(0, 40))
    pixels = _cover(sources, rng)
    if rng.random() < 0.5:  # round, with a gloss
        pixels = pixels * (0.5 + 0.7 * np.sqrt(np.clip(1 - (y / width) ** 2, 0, 1)))[..., None]
    return Occluder(np.clip(pixels, 0, 1), soft(distance, rng.uniform(0.3, 1.0)))


def _microphone(sources: Sources, rng: np.random.Generator) -> Occluder:
    """A round meshed or foam head on a stick, from below or a side, mostly at the mouth."""
    at = np.array([rng.normal(64, 18), rng.normal(96, 14)])
    turn, radius = rng.uniform(0.1, math.pi - 0.1), rng.uniform(7, 20)
    x = (COLUMNS - at[0]) * math.cos(turn) + (ROWS - at[1]) * math.sin(turn)
    y = (ROWS - at[1]) * math.cos(turn) - (COLUMNS - at[0]) * math.sin(turn)
    long = rng.uniform(0.8, 1.3)
    head = radius * (1 - np.hypot(x / (radius * long), y / radius))
    stick = np.minimum(radius * rng.uniform(0.35, 0.75) - np.abs(y), x)
    colour = rng.uniform(0.02, 0.6) * (1 + 0.1 * rng.normal(size=3))
    if rng.random() < 0.15:
        colour = rng.uniform(0, 1, 3)
    bulge = np.sqrt(np.clip(1 - (x / radius / long) ** 2 - (y / radius) ** 2, 0, 1))
    mesh = np.sin(COLUMNS * rng.uniform(1, 2.8)) * np.sin(ROWS * rng.uniform(1, 2.8))
    lit = 0.5 + 0.6 * bulge + 0.02 * rng.normal() * (x + y) + rng.uniform(0, 0.35) * mesh
    metal = rng.uniform(0.1, 1.2) * (
        0.4 + 0.8 * np.exp(-(((y / radius - rng.uniform(-0.3, 0.3)) * 3) ** 2))
    )
    shading = np.where(head > 0, lit, metal)
    return Occluder(np.clip(colour * shading[..., None], 0, 1), soft(np.maximum(head, stick), 0.6))


def _text(sources: Sources, rng: np.random.Generator) -> Occluder:
    """Letters of any size over the face, as in a caption, a stamp or a watermark."""
    size = int(rng.uniform(14, 44) * _FINE)
    font = ImageFont.truetype(str(sources.fonts[rng.integers(len(sources.fonts))]), size)
    words = "".join(rng.choice(list(_LETTERS + "  "), rng.integers(1, 12)))
    layer = Image.new("L", _LAYER)
    draw = ImageDraw.Draw(layer)
    at = [value * _FINE for value in somewhere(rng)]
    for line in range(int(rng.integers(1, 4))):
        draw.text((at[0], at[1] + line * 1.2 * size), words, 255, font, anchor="mm")
    layer = layer.rotate(rng.normal(0, 20), Image.Resampling.BILINEAR, center=tuple(at))
    outline = np.asarray(layer.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255
    colour = (
        rng.choice([0.0, 1.0, rng.random()]) * np.ones(3) if rng.random() < 0.6 else rng.random(3)
    )
    strong = 1.0 if rng.random() < 0.7 else rng.uniform(0.6, 1)
    return Occluder(np.broadcast_to(colour.astype(np.float32), (SIDE, SIDE, 3)), strong * outline)


def _strands(sources: Sources, rng: np.random.Generator) -> Occluder:
    """A few thick strands of hair, branches or strings that fall over the face."""
    start, turn = somewhere(rng), rng.normal(math.pi / 2, 0.5)
    ways = []
    for _ in range(rng.integers(2, 14)):
        at = start + rng.normal(0, 5, 2) - 50 * np.array([math.cos(turn), math.sin(turn)])
        angle, curl, points = turn + rng.normal(0, 0.12), rng.normal(0, 0.02), []
        for _ in range(14):
            points.append(tuple((at * _FINE).tolist()))
            at, angle = at + 7 * np.array([math.cos(angle), math.sin(angle)]), angle + curl
        ways.append((points, int(rng.uniform(1.8, 5) * _FINE)))
    layer = Image.new("L", _LAYER)
    draw = ImageDraw.Draw(layer)
    for points, width in ways:
        draw.line(points, 255, width, joint="curve")
    outline = np.asarray(layer.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255
    colour = rng.uniform(0.02, 0.6) * np.array([1.0, rng.uniform(0.7, 1), rng.uniform(0.5, 1)])
    along = np.sin((COLUMNS * math.sin(turn) - ROWS * math.cos(turn)) * rng.uniform(1, 3))
    pixels = colour * (1 + 0.3 * along)[..., None]
    return Occluder(np.clip(pixels, 0, 1).astype(np.float32), outline)


def _veil(sources: Sources, rng: np.random.Generator) -> Occluder:
    """Cloth, a mask or a scarf over the lower or upper part, or a side."""
    turn = rng.choice([math.pi / 2, -math.pi / 2, 0, math.pi]) + rng.normal(0, 0.3)
    depth = (COLUMNS - 64) * math.cos(turn) + (ROWS - 64) * math.sin(turn)
    across = (ROWS - 64) * math.cos(turn) - (COLUMNS - 64) * math.sin(turn)
    edge = rng.uniform(4, 40) + rng.normal(0, 6) * np.cos(
        across / rng.uniform(8, 40) + rng.uniform(0, 6)
    )
    pixels = _cover(sources, rng)
    folds = np.sin(across / rng.uniform(2, 8) + depth / rng.uniform(10, 40))
    pixels = np.clip(pixels * (1 + rng.uniform(0, 0.25) * folds)[..., None], 0, 1)
    return Occluder(pixels, soft(depth - edge, rng.uniform(0.4, 1.5)))


KINDS: dict[str, Callable[[Sources, np.random.Generator], Occluder]] = {
    "hand": draw_hand,
    "fingers": draw_fingers,
    "cut-out": _blob,
    "sheet": _polygon,
    "bar": _bar,
    "microphone": _microphone,
    "text": _text,
    "strands": _strands,
    "cloth": _veil,
}
SHARES = (0.16, 0.06, 0.05, 0.15, 0.14, 0.05, 0.20, 0.15, 0.04)
"""How often each of `KINDS` is drawn: those oftener that are missed most."""


def _cover(sources: Sources, rng: np.random.Generator) -> Array:
    """A cover for a thing, S×S×3: a photograph's part, or one colour."""
    if rng.random() < 0.25:
        colour = rng.uniform(0, 1, 3) if rng.random() < 0.5 else np.full(3, rng.uniform(0, 1))
        slope = (COLUMNS * rng.normal() + ROWS * rng.normal()) / UNITS
        return np.clip(colour + rng.uniform(0, 0.2) * slope[..., None], 0, 1).astype(np.float32)
    patch = sources.patches[rng.integers(len(sources.patches))]
    patch = np.rot90(patch, int(rng.integers(4)))[:: rng.choice([-1, 1])].astype(np.float32) / 255
    return np.clip((patch - 0.5) * rng.uniform(0.7, 1.2) + 0.5 + rng.normal(0, 0.08), 0, 1)


def _drawn(draw: Callable[[ImageDraw.ImageDraw], None]) -> Array:
    layer = Image.new("L", _LAYER)
    draw(ImageDraw.Draw(layer))
    return np.asarray(layer.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255


def _flat(points: Array) -> list[float]:
    return (points * _FINE).ravel().tolist()
