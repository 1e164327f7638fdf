"""Training canvases for the face detector: faces pasted at random scale, tilt and damage.

A canvas is split into random cells; each cell shows a labelled image, moved so that its face has
a random size and place, or a stretch without a face. Then the whole canvas is damaged as old
photographs are: grey, faded, blurred, noisy, compressed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from bfr.faces.align import align_faces
from bfr.image.geometry import MIRROR_ORDER
from bfr.image.tensors import from_uint8
from bfr.records import Face, FaceSet
from recipes.detector_damage import HATS, damage_canvas, put_on_hat

from .detector_labels import Labels
from .faces import landmark_boxes

CANVAS = 320


@dataclass(frozen=True, slots=True)
class Source:
    """A decoded image with its faces: F×5×2 landmarks, F×4 boxes, boxes to ignore, false alarms.

    Landmarks that are not `exact` come from a detector: good for boxes, not to learn points from.
    """

    image: Image.Image
    landmarks: np.ndarray
    boxes: np.ndarray
    ignored: np.ndarray
    alarms: np.ndarray
    exact: bool


@dataclass(frozen=True, slots=True)
class Canvas:
    """One sample: S×S×3 uint8 RGB, F×4 boxes, F×5×2 landmarks (NaN: unknown), boxes to ignore."""

    pixels: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray
    ignored: np.ndarray


def load_source(labels: Labels, side: int = 384) -> Source:
    """Decodes an image, no larger than `side`, and scales its labels with it."""
    image = Image.open(labels.image.path).convert("RGB")
    scale = min(1.0, side / max(image.size))
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(
            size, Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BILINEAR
        )
    landmarks, ignored, alarms = (
        ((points + 0.5) * scale - 0.5).astype(np.float32)
        for points in (labels.image.landmarks, labels.ignored, labels.alarms)
    )
    boxes = landmark_boxes(landmarks)
    return Source(image, landmarks, boxes, ignored, alarms, labels.exact)


def first_face(source: Source) -> Tensor:
    """The first face of an image, aligned: 1×3×64×64 RGB in [0, 1]."""
    pixels = from_uint8(np.array(source.image)[None])
    points = source.landmarks[0].tolist()
    face = Face((0.0, 0.0, 1.0, 1.0), 1.0, tuple((x, y) for x, y in points))
    return align_faces(pixels, FaceSet(((face,),), (pixels.shape[2], pixels.shape[3])), 64)[0]


def make_canvas(sources: list[Source], rng: np.random.Generator) -> Canvas:
    """Draws one training canvas from the sources."""
    canvas = _backdrop(sources, rng)
    boxes, landmarks, ignored = [], [], []
    for cell in _cells(rng):
        source = sources[rng.integers(len(sources))]
        if rng.random() < 0.25:
            _paste_without_face(canvas, cell, source, rng)
            continue
        shown, hidden = _paste_with_face(canvas, cell, source, rng)
        for box, points in shown:
            if rng.random() < HATS:
                put_on_hat(canvas, points, rng)
            boxes.append(box)
            landmarks.append(points if source.exact else np.full((5, 2), np.nan))
        ignored.extend(hidden)
    pixels = np.asarray(damage_canvas(canvas, rng))
    turns = int(rng.integers(1, 4)) if rng.random() < 0.06 else 0
    if turns:  # turned pictures teach that a face lying on its side is not upright
        pixels, boxes, landmarks, ignored = np.rot90(pixels, turns).copy(), [], [], []
    return Canvas(
        pixels,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(landmarks, np.float32).reshape(-1, 5, 2),
        np.array(ignored, np.float32).reshape(-1, 4),
    )


def mirrored(canvas: Canvas) -> Canvas:
    """The canvas seen in a mirror; left and right landmarks change their names."""
    last = canvas.pixels.shape[1] - 1
    landmarks = canvas.landmarks[:, MIRROR_ORDER].copy()
    landmarks[..., 0] = last - landmarks[..., 0]
    boxes, ignored = (
        np.stack([last - b[:, 2], b[:, 1], last - b[:, 0], b[:, 3]], 1)
        for b in (canvas.boxes, canvas.ignored)
    )
    return Canvas(canvas.pixels[:, ::-1], boxes, landmarks, ignored)


def _cells(rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Random rectangles (x0, y0, x1, y1) that tile the canvas, 1, 4, 9, 25 or 64 of them."""
    count = rng.choice([1, 2, 3, 5, 8], p=[0.36, 0.3, 0.18, 0.1, 0.06])
    cuts = []
    for _ in range(2):
        jitter = rng.uniform(-0.3, 0.3, count - 1)
        inner = (np.arange(1, count) + jitter) * CANVAS / count
        cuts.append([0, *inner.round().astype(int).tolist(), CANVAS])
    columns, rows = cuts
    return [
        (columns[i], rows[j], columns[i + 1], rows[j + 1])
        for i in range(count)
        for j in range(count)
    ]


def _paste_with_face(canvas, cell, source: Source, rng):
    """Shows one of the source's faces in the cell; returns its labels and boxes to ignore."""
    x0, y0, x1, y1 = cell
    short = min(x1 - x0, y1 - y0)
    which = rng.integers(len(source.landmarks))
    own = max(*(source.boxes[which, 2:] - source.boxes[which, :2]))
    size = np.exp(rng.uniform(np.log(max(9, 0.3 * short)), np.log(1.15 * short)))
    tilt = rng.normal(0, 12) if rng.random() < 0.85 else rng.uniform(-55, 55)
    mirror = rng.random() < 0.5
    zoom = size / own
    cos, sin = zoom * np.cos(np.radians(tilt)), zoom * np.sin(np.radians(tilt))
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1.0 if mirror else 1.0, 1.0])
    centre = source.boxes[which].reshape(2, 2).mean(0)
    slack = np.maximum(0, np.array([x1 - x0, y1 - y0]) - size) / 2
    place = np.array([x0 + x1, y0 + y1]) / 2 + rng.uniform(-1, 1, 2) * (slack + 0.12 * size)
    to_canvas = np.column_stack([linear, place - linear @ centre])
    paste(canvas, cell, source.image, to_canvas, rng)

    landmarks = source.landmarks @ linear.T + to_canvas[:, 2]
    if mirror:
        landmarks = landmarks[:, MIRROR_ORDER]
    shown, hidden = [], []
    for points, box in zip(landmarks, landmark_boxes(landmarks), strict=True):
        inside = ((points > [x0, y0]) & (points < [x1, y1])).all(1).sum()
        seen = visible(box, cell)
        if inside >= 4 and seen > 0.6 and max(box[2:] - box[:2]) > 8:
            shown.append((box, points))
        elif seen > 0.15:
            hidden.append(np.clip(box, [x0, y0, x0, y0], [x1, y1, x1, y1]))
    for box in source.ignored:
        corners = np.array([[box[0], box[1]], [box[2], box[1]], [box[0], box[3]], [box[2], box[3]]])
        moved = corners @ linear.T + to_canvas[:, 2]
        hidden.append(np.clip([*moved.min(0), *moved.max(0)], [x0, y0, x0, y0], [x1, y1, x1, y1]))
    return shown, hidden


def visible(box: np.ndarray, cell) -> float:
    """The share of the box's area that lies in the cell."""
    width = min(box[2], cell[2]) - max(box[0], cell[0])
    height = min(box[3], cell[3]) - max(box[1], cell[1])
    return max(width, 0) * max(height, 0) / ((box[2] - box[0]) * (box[3] - box[1]))


def paste(canvas: Image.Image, cell, image: Image.Image, to_canvas: np.ndarray, rng) -> None:
    """Warps the image into the cell of the canvas; what it does not cover stays."""
    x0, y0, x1, y1 = cell
    zoom = np.sqrt(abs(np.linalg.det(to_canvas[:, :2])))
    shrink = int(1 / zoom) if rng.random() < 0.85 else 1
    if shrink > 1:
        image = image.reduce(shrink)
        linear = to_canvas[:, :2] * shrink
        to_canvas = np.column_stack(
            [linear, to_canvas[:, 2] + to_canvas[:, :2] @ np.full(2, (shrink - 1) / 2)]
        )
    # Pillow maps output to input and counts from pixel corners; our labels count from centres.
    linear = np.linalg.inv(to_canvas[:, :2])
    start = np.array([x0, y0]) - to_canvas[:, 2]
    shift = linear @ (start - 0.5) + 0.5
    numbers = (*linear[0], shift[0], *linear[1], shift[1])
    size = (x1 - x0, y1 - y0)
    warp = Image.Transform.AFFINE
    patch = image.transform(size, warp, numbers, Image.Resampling.BILINEAR)
    cover = Image.new("L", image.size, 255).transform(size, warp, numbers)
    canvas.paste(patch, (x0, y0), cover)


def _paste_without_face(canvas: Image.Image, cell, source: Source, rng) -> None:
    """Fills the cell with a stretch of the source that shows no whole face."""
    patch = _faceless(source, rng)
    size = (cell[2] - cell[0], cell[3] - cell[1])
    if patch is not None:
        canvas.paste(patch.resize(size, Image.Resampling.BILINEAR), cell[:2])


def _faceless(source: Source, rng) -> Image.Image | None:
    """A random crop of the source that keeps clear of its faces, or a close-up of one."""
    width, height = source.image.size
    taken = np.concatenate([source.boxes, source.ignored])
    for _ in range(6):
        side = rng.uniform(0.1, 0.6) * min(width, height)
        x, y = rng.uniform(0, width - side), rng.uniform(0, height - side)
        crop = np.array([x, y, x + side, y + side])
        overlaps = [visible(box, crop) for box in taken]
        close_up = any(visible(crop, box) > 0.6 and side < 0.3 * (box[2] - box[0]) for box in taken)
        if max(overlaps, default=0) < 0.08 or close_up:
            return source.image.crop(tuple(crop.round().astype(int)))
    return None


def _backdrop(sources: list[Source], rng) -> Image.Image:
    """A canvas without faces: a plain colour, noise, shapes, or a stretch of a photograph."""
    kind = rng.random()
    if kind < 0.3:
        patch = _faceless(sources[rng.integers(len(sources))], rng)
        if patch is not None:
            return patch.resize((CANVAS, CANVAS), Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", (CANVAS, CANVAS), tuple(rng.integers(0, 256, 3).tolist()))
    if kind > 0.85:
        coarse = rng.integers(0, 256, (*rng.integers(2, 40, 2), 3), np.uint8)
        canvas = Image.fromarray(coarse).resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)
    if kind > 0.6:
        draw = ImageDraw.Draw(canvas)
        for _ in range(rng.integers(1, 30)):
            x, y, w, h = rng.integers(0, CANVAS, 4) // np.array([1, 1, 3, 3])
            shape = rng.choice([draw.ellipse, draw.rectangle, draw.line])
            shape((x, y, x + w, y + h), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return canvas
