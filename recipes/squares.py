"""Squares of whole photographs, to learn from and to evaluate on."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bfr.files.photos import read_photo
from bfr.files.whole import atomic_path

log = logging.getLogger(__name__)
SQUARE = 160  # pixels of a side
FOLDERS = {
    "train/congress": 1.75,
    "train/headshots": 1.6,
    "train/generated": 1.5,
    "train/generated_diverse": 1.5,
}
"""How many times photographs are reduced until their own compression is gone. Left out: old
photographs, whose grain would be learned as if it belonged there."""
SHIPPED = (
    *("chelsea", "coffee", "rocket", "camera", "coins", "brick", "grass", "gravel"),
    *("hubble_deep_field", "immunohistochemistry", "moon"),
)
"""scikit-image's photographs to learn from."""
HELD = ("astronaut", "stereo_motorcycle")
"""scikit-image's photographs to evaluate on."""


def shipped(names: Sequence[str]) -> Iterator[Tensor]:
    """Photographs of scikit-image, 1×3×H×W in [0, 1]."""
    from skimage import data

    for name in names:
        pixels = getattr(data, name)()
        pixels = pixels[0] if isinstance(pixels, tuple) else pixels
        pixels = np.repeat(pixels[..., None], 3, -1) if pixels.ndim == 2 else pixels
        yield torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def squares_of(picture: Tensor, side: int = SQUARE) -> Iterator[Tensor]:
    """Squares 3×S×S that cover a picture 1×3×H×W, the last ones overlapping; none if too small."""
    height, width = picture.shape[-2:]
    if min(height, width) < side:
        return
    for top in _places(height, side):
        for left in _places(width, side):
            yield picture[0, :, top : top + side, left : left + side]


def _places(length: int, side: int) -> list[int]:
    count = -(-length // side)
    return [round(i * (length - side) / max(1, count - 1)) for i in range(count)]


def reduce(picture: Tensor, factor: float) -> Tensor:
    """A picture reduced by a factor."""
    if factor == 1:
        return picture
    small = F.interpolate(picture, scale_factor=1 / factor, mode="bicubic", antialias=True)
    return small.clamp(0, 1)


def prepare(data: Path, squares: Path, more: Path | None) -> None:
    """Writes `squares.npy`, N×S×S×3 uint8, those of the shipped photographs first."""
    pictures = list(shipped(SHIPPED))
    pictures += [read_photo(path).pixels for path in sorted(more.iterdir())] if more else []
    kept = [
        square for picture in pictures for f in (1, 2) for square in squares_of(reduce(picture, f))
    ]
    kept, varied = _as_bytes(kept), len(kept)
    for folder, factor in FOLDERS.items():
        for path in sorted((data / folder).iterdir()):
            kept += _as_bytes(squares_of(reduce(read_photo(path).pixels, factor)))
        log.info("%d squares with %s", len(kept), folder)
    squares.mkdir(parents=True, exist_ok=True)
    with atomic_path(squares / "squares.npy") as path, path.open("wb") as file:
        np.save(file, np.stack(kept))
    with atomic_path(squares / "squares.json") as path:
        path.write_text(json.dumps({"varied": varied}))


def _as_bytes(squares: Iterator[Tensor] | Sequence[Tensor]) -> list[np.ndarray]:
    return [(square * 255).round().byte().permute(1, 2, 0).numpy() for square in squares]


def held_out_squares(data: Path, more: Path | None) -> dict[str, Tensor]:
    """Squares N×3×S×S of photographs that training has not seen, by where they are from."""
    portraits = [read_photo(path).pixels for path in sorted((data / "eval/hq").iterdir())]
    sets = {
        "portraits": [next(squares_of(reduce(p, 1.6)), None) for p in portraits],
        "scikit-image": [s for p in shipped(HELD) for s in squares_of(p)],
    }
    if more is not None:
        pictures = [read_photo(path).pixels for path in sorted(more.iterdir())]
        sets[more.name] = [s for p in pictures for s in list(squares_of(p))[::4]]
    found = {name: [s for s in squares if s is not None] for name, squares in sets.items()}
    return {name: torch.stack(squares) for name, squares in found.items() if squares}
