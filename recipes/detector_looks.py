"""Training samples of the detector's second look: one face, or a place without."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from bfr.faces.detect import LOOK_SIDE, look_template
from bfr.image.geometry import MIRROR_ORDER, fit_similarity
from recipes.detector_damage import HATS, damage_canvas, put_on_hat
from recipes.detector_samples import Canvas, Source, paste, visible

from .faces import landmark_boxes

_ALARMS = 0.7  # share of looks at what is no face that look at a false alarm, if there is one
_FACE_IN_LOOK = 0.77 * LOOK_SIDE  # the height of a face's box in a second look


def make_look(source: Source, rng: np.random.Generator) -> Canvas:
    """Draws what the second look of `bfr.faces.detect` sees: one face, nearly upright, one size."""
    which = rng.integers(len(source.landmarks))
    points = torch.as_tensor(source.landmarks[which : which + 1], dtype=torch.float64)
    to_look = fit_similarity(points, look_template())[0].numpy()
    turn, zoom = np.radians(rng.normal(0, 7)), np.exp(rng.normal(0, 0.12))
    if rng.random() < 0.1:
        turn, zoom = turn * 4, zoom**2
    spin = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if rng.random() < 0.5:
        spin = spin @ np.diag([-1.0, 1.0])
    middle = np.full(2, (LOOK_SIDE - 1) / 2)
    shift = middle + rng.normal(0, 0.05 * LOOK_SIDE, 2) - spin @ middle
    to_look = np.column_stack([spin @ to_look[:, :2], spin @ to_look[:, 2] + shift])
    look = _look(source, to_look, rng)
    landmarks = source.landmarks @ to_look[:, :2].T + to_look[:, 2]
    if np.linalg.det(spin) < 0:
        landmarks = landmarks[:, MIRROR_ORDER]
    landmarks = landmarks.astype(np.float32)
    others = np.concatenate([np.delete(landmark_boxes(landmarks), which, 0), np.zeros((0, 4))])
    own = landmarks[which : which + 1]
    if rng.random() < HATS:
        put_on_hat(look, own[0], rng)
    pixels = np.asarray(damage_canvas(look, rng))
    known = own if source.exact else np.full_like(own, np.nan)
    return Canvas(pixels, landmark_boxes(own), known, others.astype(np.float32))


def make_empty_look(source: Source, rng: np.random.Generator) -> Canvas | None:
    """Draws what the second look sees where the search was wrong: a place without a face.

    Returns:
        The look, with nothing to find in it; None if no such place was found in the picture.
    """
    wide, high = source.image.size
    faces = np.concatenate([source.boxes, source.ignored]).reshape(-1, 4)
    places = []
    if len(source.alarms) and rng.random() < _ALARMS:
        box = source.alarms[rng.integers(len(source.alarms))]
        size = max(box[2:] - box[:2]) * np.exp(rng.normal(0, 0.15))
        x, y = box.reshape(2, 2).mean(0) + rng.normal(0, 0.08 * size, 2)
        places.append((np.inf, size, x, y))
    for _ in range(20 if not places else 0):
        size = np.exp(rng.uniform(np.log(12), np.log(max(13, 0.8 * min(wide, high)))))
        x, y = rng.uniform(0, wide), rng.uniform(0, high)
        box = np.array([x - size / 2, y - size / 2, x + size / 2, y + size / 2])
        if all(visible(box, face) < 0.05 for face in faces):
            shown = source.image.crop(tuple(box.round().astype(int))).convert("L")
            places.append((np.asarray(shown).std(), size, x, y))
    if not places:
        return None
    _, size, x, y = max(places[:4])  # plain walls are not what deceives
    angle, zoom = np.radians(rng.normal(0, 20)), _FACE_IN_LOOK / size
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.full(2, (LOOK_SIDE - 1) / 2)
    to_look = np.column_stack([linear, middle - linear @ [x, y]])
    look = _look(source, to_look, rng)
    hidden = landmark_boxes(source.landmarks @ linear.T + to_look[:, 2])
    none = np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32)
    return Canvas(np.asarray(damage_canvas(look, rng)), *none, hidden)


def _look(source: Source, to_look: np.ndarray, rng: np.random.Generator) -> Image.Image:
    mean = tuple(int(value) for value in np.asarray(source.image).mean((0, 1)))
    look = Image.new("RGB", (LOOK_SIDE, LOOK_SIDE), mean)
    paste(look, (0, 0, LOOK_SIDE, LOOK_SIDE), source.image, to_look, rng)
    return look
