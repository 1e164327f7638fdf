"""Hands and fingers in front of a face: rounded limbs in some skin, lit from one side."""

from __future__ import annotations

import math

import cv2
import numpy as np

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

Limb = tuple[Array, Array, float, float]
"""Its two ends (x, y) and the radii there, in pixels."""


def draw_hand(sources: Sources, rng: np.random.Generator) -> Occluder:
    """A palm, fingers of three limbs each and an arm; some fingers may be bent away."""
    scale = rng.uniform(0.6, 1.5)
    turn, centre = rng.uniform(0, 2 * math.pi), somewhere(rng)
    spread, mirror = rng.uniform(0.0, 0.25), rng.choice([-1, 1])
    limbs = (
        [(np.array([0.0, 4.0]), np.array([0.0, 70.0]), 10.0, 12.0)] if rng.random() < 0.6 else []
    )
    limbs += [(np.array([x, -4.0]), np.array([0.6 * x, 9.0]), 8.0, 9.0) for x in (-7.0, 0.0, 7.0)]
    bend = rng.uniform(-0.15, 0.15)
    for i in range(4):
        if rng.random() < 0.12:
            continue
        at, angle = np.array([(i - 1.5) * 6.2, -9.0]), (i - 1.5) * spread - math.pi / 2
        width, length = rng.uniform(2.9, 3.8), rng.uniform(0.8, 1.1) * (11, 13.5, 13, 10)[i]
        curl = rng.uniform(-0.25, 0.25) + bend
        for share in (1.0, 0.7, 0.55):
            end = at + share * length * np.array([math.cos(angle), math.sin(angle)])
            limbs.append((at, end, width, width * 0.93))
            at, angle, width = end, angle + curl, width * 0.92
    if rng.random() < 0.8:  # the thumb
        at, angle = np.array([-9.0, 3.0]), -math.pi / 2 - rng.uniform(0.3, 1.2)
        for length, width in ((11, 4.4), (9, 3.7)):
            end = at + length * np.array([math.cos(angle), math.sin(angle)])
            limbs.append((at, end, width, width * 0.92))
            at, angle = end, angle + rng.uniform(-0.3, 0.5)
    return _limbs([_moved(limb, scale, turn, mirror, centre) for limb in limbs], sources, rng)


def draw_fingers(sources: Sources, rng: np.random.Generator) -> Occluder:
    """One to four large fingers or an arm from beyond the border, side by side."""
    turn, gap = rng.uniform(0, 2 * math.pi), rng.uniform(0.85, 1.2)
    across = np.array([-math.sin(turn), math.cos(turn)])
    along, middle = np.array([math.cos(turn), math.sin(turn)]), somewhere(rng)
    width, limbs, start = rng.uniform(5, 12), [], 0.0
    for _ in range(rng.integers(1, 5)):
        tip = middle + start * across + along * rng.uniform(-8, 8)
        knuckle = tip - along * rng.uniform(16, 34) + across * rng.uniform(-2, 2)
        limbs += [
            (tip, knuckle, width * 0.9, width),
            (knuckle, knuckle - 150 * along, width, width),
        ]
        start += 2 * width * gap
    return _limbs(limbs, sources, rng)


def _moved(limb: Limb, scale: float, turn: float, mirror: int, centre: Array) -> Limb:
    spin = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    start, end = (centre + scale * spin @ (np.array([mirror, 1.0]) * point) for point in limb[:2])
    return start, end, scale * limb[2], scale * limb[3]


def _limbs(limbs: list[Limb], sources: Sources, rng: np.random.Generator) -> Occluder:
    """Rounded limbs (start, end, radii) in skin: height, light from one side, dark clefts."""
    height = np.full((SIDE, SIDE), -1e3, np.float32)  # over the plane of the face, in pixels
    second = height.copy()
    for start, end, first, last in limbs:
        axis = end - start
        along = ((COLUMNS - start[0]) * axis[0] + (ROWS - start[1]) * axis[1]) / (
            axis @ axis + 1e-6
        )
        along = np.clip(along, 0, 1)
        off = np.hypot(COLUMNS - start[0] - along * axis[0], ROWS - start[1] - along * axis[1])
        radius = first + (last - first) * along
        own = np.where(off < radius, np.sqrt(np.maximum(radius**2 - off**2, 0)), radius - off)
        second = np.maximum(second, np.minimum(own, height))
        height = np.maximum(height, own)
    outline = soft(height, rng.uniform(0.4, 1.2))
    relief = np.maximum(cv2.GaussianBlur(height.clip(-2), (0, 0), 0.8 * PIXEL), 0)
    dy, dx = np.gradient(relief, 1 / PIXEL)
    flat = rng.uniform(0.6, 1.6)
    light = rng.normal(size=2)
    lit = (flat - light[0] * dx - light[1] * dy) / np.sqrt(flat**2 + dx**2 + dy**2)
    shade = rng.uniform(0.15, 0.5)
    skin = sources.skins[rng.integers(len(sources.skins))] * rng.normal(1, 0.03, 3)
    pixels = skin * (1 - shade + shade * np.clip(lit, -1, 1.5))[..., None]
    cleft = np.exp(-np.abs(height - second) / rng.uniform(0.5, 1.5)) * (second > -1)
    pixels = pixels * (1 - rng.uniform(0, 0.45) * cleft)[..., None]
    grain = cv2.resize(rng.normal(0, 1, (UNITS // 4, UNITS // 4)).astype(np.float32), (SIDE, SIDE))
    fine = rng.normal(0, 1, (SIDE, SIDE)).astype(np.float32)
    pixels = pixels + (rng.uniform(0, 0.03) * grain + rng.uniform(0, 0.02) * fine)[..., None]
    return Occluder(np.clip(pixels, 0, 1).astype(np.float32), outline)
