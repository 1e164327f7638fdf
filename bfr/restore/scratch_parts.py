"""Selects the connected parts of a scratch mask that are really scratches.

The network's verdict on single pixels is not enough: cords, frames and the rims of things are thin
and light, too. A scratch as a whole has some certain pixels and hardly any colour, is thin, does
not run along the photograph's border and does not go around anything.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..image.opencv import load_opencv

_SHARE = 0.3  # of its pixels that are sure
_CHROMA = 0.3  # between its channels, at most
_THIN = 0.025  # of the photograph's shorter side, or `_LEAST_THIN` pixels
_LEAST_THIN = 6.0
_BORDER = 0.06  # of the shorter side: what lies in it as a whole is the border of the print
_LONG = 0.1  # of the shorter side: from there on it may go around something
_AROUND = 0.15  # of its length that its middle is away from it


def scratches_among(
    likely: np.ndarray, sure: np.ndarray, pixels: np.ndarray, min_size: float
) -> np.ndarray:
    """Keeps the connected parts that are scratches.

    Args:
        likely: H×W bool, what is likely of one.
        sure: H×W bool, what is surely of one.
        pixels: H×W×3 float32 RGB in [0, 1].
        min_size: the least longer side in pixels of a scratch.

    Returns:
        H×W bool: those parts of ``likely``.

    Raises:
        MissingPackageError: without OpenCV.
    """
    cv2 = load_opencv("Found scratches")
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(likely.astype(np.uint8))
    flat, areas = labels.ravel(), boxes[:, cv2.CC_STAT_AREA]
    sure_of = np.bincount(flat[sure.ravel()], minlength=count)
    kept = (sure_of > 0) & (sure_of >= _SHARE * areas)
    kept &= boxes[:, 2:4].max(1) >= min_size
    colour = (pixels.max(2) - pixels.min(2))[sure]
    chroma = np.bincount(labels[sure], colour, count) / np.maximum(sure_of, 1)
    kept &= chroma < _CHROMA
    side = min(likely.shape)
    kept &= ~_in_border(boxes, likely.shape, _BORDER * side)
    kept[0] = False  # what is in no part
    thickest = np.zeros(count)
    place = kept[labels]
    reach = cv2.distanceTransform(likely.astype(np.uint8), cv2.DIST_L2, 3)
    np.maximum.at(thickest, labels[place], reach[place])
    kept &= 2 * thickest <= max(_LEAST_THIN, _THIN * side)
    for part in np.flatnonzero(kept).tolist():
        if boxes[part, 2:4].max() >= _LONG * side and _goes_around(labels, boxes[part], part):
            kept[part] = False
    return kept[labels]


def _in_border(boxes: np.ndarray, shape: tuple[int, ...], width: float) -> np.ndarray:
    """Marks the boxes (x, y, width, height, …) that lie wholly in a border of the photograph."""
    x0, y0 = boxes[:, 0], boxes[:, 1]
    x1, y1 = x0 + boxes[:, 2], y0 + boxes[:, 3]
    beside = (x1 < width) | (x0 > shape[1] - width)
    return beside | (y1 < width) | (y0 > shape[0] - width)


def _goes_around(labels: np.ndarray, box: Any, part: int) -> bool:
    """True if the middle of a part is far from it, like that of a bow or frame."""
    x, y, width, height = (int(value) for value in box[:4])
    rows, columns = np.nonzero(labels[y : y + height, x : x + width] == part)
    away = np.hypot(rows - rows.mean(), columns - columns.mean()).min()
    return bool(away > _AROUND * np.hypot(width, height))
