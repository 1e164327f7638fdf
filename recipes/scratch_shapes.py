"""Scratches, folds, tears, dust and fibres, drawn over photographs.

Every shape is drawn at twice the size, so that it is smooth. Some are interrupted and change their
strength along their way, as real ones do. They lie on top of the film's grain, are sharper than the
photograph, of one tone near white or black, and cross the borders of what is shown: that is what
tells them from cords and wires.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

FINE = 2  # times the picture's size at which shapes are drawn
SEEN = 0.07
"""The least difference, of white, that a scratch makes where it is to be found."""

HARD = 0.4  # the share of a pixel that a shape covers for it to count
_UNITS = 3  # fractional bits of OpenCV's coordinates

Shape = Callable[[int, int, np.random.Generator], np.ndarray]


def put_scratches(
    pixels: np.ndarray, rng: np.random.Generator, *, most: int = 6, only: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws scratches of several kinds over a photograph.

    Args:
        pixels: H×W×3 float32 RGB in [0, 1].
        rng: draws them.
        most: how many, at most; there is at least one.
        only: the kind to draw, of `KINDS`; None for all.

    Returns:
        The photograph scratched; H×W bool, where a scratch is to be found; H×W bool, where that
        cannot be said (its soft edges, and where one has the colour of what it covers).
    """
    height, width = pixels.shape[:2]
    names = list(KINDS) if only is None else [only]
    chances = np.array([KINDS[name][1] for name in names])
    scratched = pixels
    covered = np.zeros((height, width), np.float32)
    for name in rng.choice(names, int(rng.integers(1, most + 1)), p=chances / chances.sum()):
        over = KINDS[name][0](height * FINE, width * FINE, rng)
        over = _interrupted(_shrunk(over, height, width), rng)
        if rng.random() < 0.3:
            over = cv2.GaussianBlur(over, (0, 0), rng.uniform(0.3, 0.7))
        scratched = _covered(scratched, over, name, rng)
        covered = np.maximum(covered, over)
    changed = np.abs(scratched - pixels).max(2)
    found = (covered > HARD) & (changed > SEEN)
    unsure = ((covered > 0.05) | (changed > SEEN / 2)) & ~found
    return scratched, found, unsure


def _shrunk(over: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(over, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _interrupted(over: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A shape with gaps and weaker parts."""
    if rng.random() < 0.7:
        return over
    height, width = over.shape
    side = int(rng.integers(4, 24))
    coarse = rng.uniform(0, 1, (max(2, height // side), max(2, width // side))).astype(np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    gaps = rng.uniform(0.05, 0.3)
    return over * np.clip((field - gaps) * rng.uniform(3, 12), 0, 1)


def _covered(
    pixels: np.ndarray, over: np.ndarray, name: str, rng: np.random.Generator
) -> np.ndarray:
    """A photograph under a shape in white, black, or a shade of what is there."""
    opacity = rng.uniform(0.75, 1.0) if rng.random() < 0.8 else rng.uniform(0.4, 0.75)
    if name != "fold" or rng.random() < 0.8:
        light = rng.random() < (0.4 if name in ("fibre", "dust") else 0.8)
        shade = rng.uniform(0.82, 1.0) if light else rng.uniform(0.0, 0.12)
        colour = np.clip(shade + rng.normal(0, 0.02, 3), 0, 1).astype(np.float32)
        if light and rng.random() < 0.3:  # the paper has gone yellow
            colour = np.clip(colour * [1.0, 0.94, 0.8], 0, 1).astype(np.float32)
        target = np.broadcast_to(colour, pixels.shape)
    else:  # as a fold under glass: lighter or darker than it was
        target = np.clip(pixels + rng.choice([-1, 1]) * rng.uniform(0.2, 0.4), 0, 1)
    if name in ("fold", "tear"):  # bare paper has a texture
        target = target + rng.normal(0, rng.uniform(0, 0.03), (*over.shape, 1))
    share = (over * opacity)[..., None]
    mixed = pixels * (1 - share) + np.clip(target, 0, 1) * share
    if name == "fold" and rng.random() < 0.6:
        mixed = _shadowed(mixed, over, rng)
    return mixed.astype(np.float32)


def _shadowed(pixels: np.ndarray, over: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The soft shadow beside a fold, which is none of it."""
    far = cv2.GaussianBlur(over, (0, 0), rng.uniform(3, 8))
    shift = np.array([[1, 0, rng.uniform(-4, 4)], [0, 1, rng.uniform(-4, 4)]])
    far = cv2.warpAffine(far, shift, over.shape[::-1])
    return np.clip(pixels - rng.uniform(-0.1, 0.25) * far[..., None], 0, 1)


def draw_lines(
    canvas: np.ndarray, points: np.ndarray, widths: np.ndarray | float, value: int = 255
) -> None:
    """Draws a polyline N×2 of one width or of a width per point, in fine pixels."""
    fixed = np.round(points * 2**_UNITS).astype(np.int32)
    if isinstance(widths, float):
        width = max(1, round(widths))
        cv2.polylines(canvas, [fixed], False, value, width, cv2.LINE_AA, _UNITS)
        return
    for start, stop, width in zip(fixed, fixed[1:], np.asarray(widths), strict=False):
        first, last = tuple(map(int, start)), tuple(map(int, stop))
        cv2.line(canvas, first, last, value, max(1, round(float(width))), cv2.LINE_AA, _UNITS)


def draw_width(rng: np.random.Generator, most: float) -> float:
    """A width in fine pixels: thin ones are more frequent."""
    return float(FINE * np.exp(rng.uniform(np.log(0.9), np.log(most))))


def _across(
    height: int, width: int, rng: np.random.Generator, count: int, share: float
) -> np.ndarray:
    """Points along a straight line through a random point, ``share`` of the diagonal long."""
    middle = rng.uniform(0, 1, 2) * [width, height]
    angle = rng.uniform(0, np.pi)
    if rng.random() < 0.35:  # film scratches run along an edge
        angle = np.round(angle / (np.pi / 2)) * (np.pi / 2) + rng.normal(0, 0.03)
    along = np.array([np.cos(angle), np.sin(angle)])
    half = 0.5 * share * np.hypot(height, width)
    return middle + np.linspace(-half, half, count)[:, None] * along


def scratch(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """One scratch, or several side by side: straight or bent, thin, and as long as it likes."""
    canvas = np.zeros((height, width), np.uint8)
    points = _across(height, width, rng, 24, rng.choice([0.15, 0.4, 0.8, 2.0]))
    length = float(np.linalg.norm(points[-1] - points[0]))
    normal = np.array([points[0, 1] - points[-1, 1], points[-1, 0] - points[0, 0]]) / (length + 1)
    place = np.linspace(-1, 1, len(points))[:, None]
    bend = rng.choice([0, 0.03, 0.15]) * length * rng.normal()
    points = points + normal * (bend * (place**2 + 0.3 * rng.normal() * place**3))
    points = points + rng.normal(0, rng.choice([0, 0.5, 2.0]), points.shape)
    thick = draw_width(rng, 4.0)
    for number in range(int(rng.choice([1, 1, 1, 2, 4]))):
        beside = normal * rng.uniform(-12, 12) * FINE if number else 0
        if rng.random() < 0.5:
            draw_lines(canvas, points + beside, thick)
        else:  # thin at its ends
            draw_lines(canvas, points + beside, thick * (1 - np.abs(place[:, 0])) ** 0.5)
    return canvas


def fold(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A crease from edge to edge: frayed, of changing width, with cracks off to the sides."""
    canvas = np.zeros((height, width), np.uint8)
    points = _across(height, width, rng, 60, 2.2)
    points = points + rng.normal(0, rng.uniform(0, 2.5), points.shape)
    wide = draw_width(rng, 12.0)
    draw_lines(canvas, points, wide * rng.uniform(0.3, 1.2, len(points)))
    for _ in range(int(rng.integers(0, 12))):
        start = points[rng.integers(len(points))]
        crack = start + np.cumsum(rng.normal(0, 5, (5, 2)), 0)
        draw_lines(canvas, np.vstack([start, crack]), draw_width(rng, 1.5))
    return canvas


def tear(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A jagged tear from an edge inwards, which grows narrower."""
    canvas = np.zeros((height, width), np.uint8)
    side = int(rng.integers(4))
    start = rng.uniform(0, 1, 2) * [width, height]
    start[side % 2] = [0, 0, width, height][side]
    inwards = np.array([width, height]) / 2 - start + rng.normal(0, 0.2, 2) * [width, height]
    inwards = inwards / (np.linalg.norm(inwards) + 1)
    steps = int(rng.integers(8, 40))
    ways = inwards * rng.uniform(4, 14) + rng.normal(0, rng.uniform(1, 6), (steps, 2))
    points = np.vstack([start, start + np.cumsum(ways, 0)])
    thick = (
        draw_width(rng, 12.0) * np.linspace(1, 0.2, len(points)) * rng.uniform(0.6, 1.3, steps + 1)
    )
    draw_lines(canvas, points, thick)
    return canvas


def fibre(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A fibre or hair on the scanner's glass: thin, long for its width, and curled."""
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        count = int(rng.integers(8, 40))
        turns = np.cumsum(rng.normal(rng.normal(0, 0.08), 0.12, count)) + rng.uniform(0, 2 * np.pi)
        ways = rng.uniform(2, 8) * np.stack([np.cos(turns), np.sin(turns)], 1)
        points = rng.uniform(0, 1, 2) * [width, height] + np.cumsum(ways, 0)
        draw_lines(canvas, points, draw_width(rng, 2.5))
    return canvas


def dust(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Specks all over or in one place, most of them small."""
    canvas = np.zeros((height, width), np.uint8)
    count = int(np.exp(rng.uniform(0, np.log(60))))
    places = rng.uniform(0, 1, (count, 2))
    if rng.random() < 0.3:
        places = rng.uniform(0, 1, 2) + rng.normal(0, 0.1, (count, 2))
    for place in places * [width, height]:
        radius = FINE * np.exp(rng.uniform(np.log(0.9), np.log(rng.choice([2.0, 5.0]))))
        _blob(canvas, place, radius, rng)
    return canvas


def _blob(canvas: np.ndarray, place: np.ndarray, radius: float, rng: np.random.Generator) -> None:
    """Fills an uneven round shape."""
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    away = radius * rng.uniform(0.5, 1.2, 8)
    points = place + np.stack([np.cos(angles) * away, np.sin(angles) * away], 1)
    cv2.fillPoly(canvas, [np.round(points * 2**_UNITS).astype(np.int32)], 255, cv2.LINE_AA, _UNITS)


KINDS: dict[str, tuple[Shape, float]] = {
    "scratch": (scratch, 0.42),
    "fold": (fold, 0.2),
    "tear": (tear, 0.12),
    "fibre": (fibre, 0.08),
    "dust": (dust, 0.18),
}
"""What is drawn, and how often."""
