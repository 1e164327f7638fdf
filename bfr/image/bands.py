"""Bands of rows: what is made of a large image in bands takes little memory at a time."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Rows = Callable[[range], Tensor]
"""Some rows of a B×C×H×W image or mask, B×C×h×W, which may be made as they are asked for."""

BAND = 1 << 18  # pixels that are worked on at once


def bands(rows: range, width: int, least: int = 1) -> list[range]:
    """Rows in parts of at most `BAND` pixels, or of the least number of rows where that is more."""
    count = max(least, BAND // width)
    return [rows[start : start + count] for start in range(0, len(rows), count)]


def rows_of(image: Tensor | Rows) -> Rows:
    """The rows of an image, whether there is one or they are made as they are asked for."""
    if isinstance(image, Tensor):
        return lambda rows: image[:, :, rows.start : rows.stop]
    return image
