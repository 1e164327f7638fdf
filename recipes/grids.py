"""Sheets of 24 held-out pictures, the worst ones first, to look at beside the figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bfr.files.photos import Photo
from bfr.files.writing import write_photo
from bfr.image.sheets import sheet

COUNT, WORST = 24, 6
CELL = 256  # pixels of a side


def worst_first(quality: Tensor) -> Tensor:
    """Chooses 24 of N pictures to show: the worst six, then others from worst to best.

    Args:
        quality: N values, more is better.

    Returns:
        Their numbers; of fewer pictures than 24, all.
    """
    order = quality.argsort()
    if len(order) <= COUNT:
        return order
    others = torch.linspace(WORST, len(order) - 1, COUNT - WORST).long()
    return torch.cat([order[:WORST], order[others]])


def write_versions(
    path: Path, versions: Sequence[Tensor], titles: Sequence[str], across: int = 1
) -> None:
    """Draws the versions of each picture beside one another, with their titles above.

    Args:
        path: of the sheet, whose folder is made.
        versions: what is compared, N×3×S×S RGB in [0, 1] each.
        titles: one of each version.
        across: how many pictures share a row.
    """
    cells = torch.stack(list(versions), 1).flatten(0, 1)
    titles = list(titles) * across
    _write(path, sheet(cells, column_labels=titles, cell_size=cells.shape[-1] // 2))


def reduced(picture: Tensor) -> Tensor:
    """A picture 1×3×H×W as 3×h×w that is at most `CELL` pixels on a side."""
    scale = min(1.0, CELL / max(picture.shape[-2:]))
    return F.interpolate(picture, scale_factor=scale, mode="area")[0]


def write_worst(path: Path, pictures: Sequence[Tensor], quality: Tensor) -> None:
    """Draws those that `worst_first` chooses of N pictures, six to a row.

    Args:
        path: of the sheet, whose folder is made.
        pictures: N of 3×H×W RGB in [0, 1], of any sizes.
        quality: N values, more is better.
    """
    shown = [pictures[i] for i in worst_first(quality).tolist()]
    _write(path, sheet(shown, columns=6, cell_size=CELL))


def _write(path: Path, drawn: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_photo(path, Photo(drawn))
