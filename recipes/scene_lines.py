"""Thin things of a scene that are no scratches: cords, wires, stripes, frames, hair, bars.

They are lit, shaded across their width, have a shadow, and end where a thing in front of them
begins; the camera blurs them and the film's grain lies on them. A scratch has none of that.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from .scratch_shapes import FINE, draw_lines, draw_width

Canvas = Callable[[int, int, np.random.Generator], np.ndarray]


def put_lines(pixels: np.ndarray, rng: np.random.Generator, most: int = 3) -> np.ndarray:
    """Draws things of a scene over a photograph, blurred as by its lens.

    Args:
        pixels: H×W×3 float32 RGB in [0, 1].
        rng: draws them.
        most: how many, at most; there is at least one.

    Returns:
        H×W×3 float32 in [0, 1].
    """
    height, width = pixels.shape[:2]
    drawn = pixels
    for _ in range(int(rng.integers(1, most + 1))):
        kind = THINGS[int(rng.integers(len(THINGS)))]
        over = kind(height * FINE, width * FINE, rng)
        over = cv2.resize(over, (width, height), interpolation=cv2.INTER_AREA)
        over = over.astype(np.float32) / 255
        if rng.random() < 0.6:
            over = over * _behind(pixels, rng)
        drawn = _lit(drawn, over, rng)
    return cv2.GaussianBlur(drawn, (0, 0), rng.uniform(0.5, 1.6)).clip(0, 1)


def _behind(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mask of where a thing is seen: not behind what is lighter, or darker, than a shade."""
    grey = cv2.GaussianBlur(pixels.mean(2), (0, 0), rng.uniform(1, 4))
    shade = np.quantile(grey, rng.uniform(0.25, 0.75))
    seen = grey > shade if rng.random() < 0.5 else grey < shade
    return seen.astype(np.float32)


def _lit(pixels: np.ndarray, over: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A thing of one colour, shaded across and along, with its shadow."""
    height, width = over.shape
    grey = rng.uniform(0, 1)
    colour = np.clip(grey + rng.normal(0, rng.choice([0.02, 0.2]), 3), 0, 1).astype(np.float32)
    coarse = rng.normal(1, rng.uniform(0, 0.35), (int(rng.integers(2, 9)),) * 2)
    light = cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    shift = rng.uniform(-2, 2, 2)
    side = cv2.GaussianBlur(over, (0, 0), rng.uniform(0.7, 2))
    across = _moved(side, shift) - _moved(side, -shift)  # lighter on one side of it
    target = colour * light[..., None] + rng.uniform(0, 1.2) * across[..., None]
    if rng.random() < 0.5:
        shadow = _moved(cv2.GaussianBlur(over, (0, 0), rng.uniform(1, 5)), rng.uniform(-5, 5, 2))
        pixels = pixels * (1 - rng.uniform(0.1, 0.6) * shadow[..., None])
    share = over[..., None] * (1.0 if rng.random() < 0.6 else rng.uniform(0.3, 1))
    mixed = pixels * (1 - share) + target.clip(0, 1) * share
    return mixed.clip(0, 1).astype(np.float32)


def _moved(over: np.ndarray, shift: np.ndarray) -> np.ndarray:
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    return cv2.warpAffine(over, matrix, (over.shape[1], over.shape[0]))


def _curve(height: int, width: int, rng: np.random.Generator, count: int = 40) -> np.ndarray:
    """A smooth curve N×2 across a part of the picture."""
    ends = rng.uniform(-0.2, 1.2, (4, 2)) * [width, height]
    place = np.linspace(0, 1, count)[:, None]
    first, second, third, fourth = ends
    return (
        first * (1 - place) ** 3
        + 3 * second * place * (1 - place) ** 2
        + 3 * third * place**2 * (1 - place)
        + fourth * place**3
    )


def cord(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A necklace, lanyard or chain: it hangs in a bow or a V, of a cord or of beads."""
    canvas = np.zeros((height, width), np.uint8)
    middle, wide = rng.uniform(0.2, 0.8) * width, rng.uniform(0.08, 0.5) * width
    top, deep = rng.uniform(-0.2, 0.6) * height, rng.uniform(0.1, 0.8) * height
    place = np.linspace(-1, 1, int(rng.integers(30, 90)))
    power = rng.choice([1.1, 2.0, 3.0])
    bow = np.stack([middle + wide * place, top + deep * (1 - np.abs(place) ** power)], 1)
    for apart in range(int(rng.choice([1, 1, 2]))):
        points = bow + np.array([apart * rng.uniform(4, 14), 0])
        if rng.random() < 0.4:
            radius = float(rng.uniform(1.5, 7))
            for point in points[:: int(rng.integers(1, 3))]:
                cv2.circle(canvas, tuple(map(int, point)), max(1, round(radius)), 255, -1)
        else:
            draw_lines(canvas, points, draw_width(rng, 8.0))
    return canvas


def wires(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Wires, twigs or seams, thinner towards an end, at times with branches."""
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 5))):
        points = _curve(height, width, rng)
        if rng.random() < 0.4:
            points = np.linspace(points[0], points[-1], len(points))
        thick = draw_width(rng, 6.0)
        draw_lines(canvas, points, thick * np.linspace(1, rng.uniform(0.3, 1), len(points)))
        for _ in range(int(rng.choice([0, 0, 3, 8]))):
            start = points[rng.integers(len(points))]
            twig = np.cumsum(rng.normal(0, 3, (8, 2)) + rng.normal(0, 8, 2), 0)
            draw_lines(canvas, np.vstack([start, start + twig]), max(1.0, thick / 2))
    return canvas


def strands(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Strands of hair or grass, side by side along a curve."""
    canvas = np.zeros((height, width), np.uint8)
    lead = _curve(height, width, rng)
    for _ in range(int(rng.integers(3, 25))):
        spread = np.linspace(rng.normal(0, 25, 2), rng.normal(0, 25, 2), len(lead))
        first, last = np.sort(rng.integers(0, len(lead), 2))
        if last - first > 3:
            draw_lines(canvas, (lead + spread)[first:last], draw_width(rng, 1.6))
    return canvas


def stripes(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Stripes, bars, blinds or hatching: lines at equal distances, on a part of the picture."""
    canvas = np.zeros((height, width), np.uint8)
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)]) + rng.normal(0, 0.03)
    along, normal = (
        np.array([np.cos(angle), np.sin(angle)]),
        np.array([-np.sin(angle), np.cos(angle)]),
    )
    apart = FINE * np.exp(rng.uniform(np.log(3), np.log(60)))
    thick = float(min(draw_width(rng, 8.0), max(1.0, apart * 0.5)))
    middle, reach = rng.uniform(0, 1, 2) * [width, height], np.hypot(height, width)
    half, long = rng.uniform(0.05, 1) * reach, rng.uniform(0.1, 1) * reach
    for offset in np.arange(-half, half, apart):
        centre = middle + normal * offset
        draw_lines(canvas, np.stack([centre - along * long, centre + along * long]), thick)
    return canvas


def frame(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A frame of a picture, window, mount or pair of glasses: rectangles and ovals, also nested."""
    canvas = np.zeros((height, width), np.uint8)
    low, high = rng.uniform(0, 0.5, 2), rng.uniform(0.5, 1, 2)
    if rng.random() < 0.4:  # the border of a print
        low, high = np.full(2, rng.uniform(0, 0.1)), np.full(2, rng.uniform(0.9, 1))
    first, last = low * [width, height], high * [width, height]
    thick, oval = max(1, round(draw_width(rng, 8.0))), rng.random() < 0.3
    for ring in range(int(rng.choice([1, 1, 2, 3]))):
        inner = ring * rng.uniform(4, 20)
        start, stop = (first + inner).astype(int), (last - inner).astype(int)
        centre, axes = (start + stop) // 2, np.maximum((stop - start) // 2, 1)
        if oval:
            cv2.ellipse(
                canvas, tuple(map(int, centre)), tuple(map(int, axes)), 0, 0, 360, 255, thick
            )
        else:
            cv2.rectangle(canvas, tuple(map(int, start)), tuple(map(int, stop)), 255, thick)
    return canvas


def spots(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Buttons, lights, dots of a tie: round, some of them in rows."""
    canvas = np.zeros((height, width), np.uint8)
    radius = FINE * np.exp(rng.uniform(np.log(0.8), np.log(7)))
    start, step = rng.uniform(0, 1, 2) * [width, height], rng.normal(0, 8 * radius, (2, 2))
    for row in range(int(rng.integers(1, 6))):
        for column in range(int(rng.integers(1, 6))):
            place = start + row * step[0] + column * step[1] + rng.normal(0, radius / 3, 2)
            cv2.circle(canvas, tuple(map(int, place)), max(1, round(radius)), 255, -1, cv2.LINE_AA)
    return canvas


THINGS: tuple[Canvas, ...] = (cord, cord, wires, strands, stripes, stripes, frame, spots)
"""What is drawn; what stands twice is drawn twice as often."""
