"""Results of a sweep: its faces measured, drawn in a grid, and reported."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..faces.identity import Identity
from ..faces.retinaface import Detector
from ..image.resize import resize_square
from ..image.sheets import Sheet, lay_out
from ..quality.face_batch import FaceBatch, Tools
from ..quality.metrics import METRICS, caption
from .prior import Prior
from .settings import SampleSettings, for_prior
from .sweep import EMPTY, Axis, Cell


def measure(
    guess: Tensor,
    faces: Sequence[Tensor | None],
    prior: Prior,
    detector: Detector | None,
    identity: Identity | None = None,
) -> list[str]:
    """The metrics of each face in words: likeness to the guess, identity and sharpness.

    They are measured at the prior's size, the likeness at the paper's low-pass factor for that
    size, whatever the cell's own.

    Args:
        guess: 1×3×S×S RGB in [0, 1].
        faces: from `sample_cells`.
        prior: that sampled them.
        detector: a face detector, to measure how far the landmarks moved too.
        identity: a face recognition network, for the distance to the guess's person.
    """
    factor = for_prior(SampleSettings(), prior).constraint.factor
    tools = Tools(detector, identity=identity, factor=factor)
    original, small_original = (
        FaceBatch(image, tools) for image in (guess, resize_square(guess, prior.size))
    )
    texts = []
    for face in faces:
        if face is None:
            texts.append("")
            continue
        small = FaceBatch(resize_square(face, prior.size), tools)
        values = {"likeness": METRICS["likeness"].measure(small, small_original)}
        own = FaceBatch(face, tools)
        if detector is not None:
            values["landmarks"] = METRICS["landmarks"].measure(own, original)
        if identity is not None:
            values["identity"] = METRICS["identity"].measure(own, original)
        values["sharpness"] = METRICS["sharpness"].measure(small, small_original)
        texts.append(caption({key: float(value) for key, value in values.items()}))
    return texts


def draw(
    faces: Sequence[Tensor | None],
    cells: Sequence[Cell],
    figures: Sequence[str],
    across: Axis,
    down: Axis,
    title: str,
) -> Sheet:
    """The labelled grid; a cell that cannot be sampled gives the reason."""
    empty = torch.full_like(next(face for face in faces if face is not None), EMPTY)
    labels = [
        text or re.split(r", (?!\d)", cell.problem)[0]
        for text, cell in zip(figures, cells, strict=True)
    ]
    return lay_out(
        torch.cat([empty if face is None else face for face in faces]),
        labels,
        columns=len(across.values),
        column_labels=across.labels,
        row_labels=down.labels,
        title=title,
    )


def report(cells: Sequence[Cell], figures: Sequence[str], title: str) -> str:
    """One line for all cells, then one per cell."""
    lines = [
        f"{cell.name}: {text or f'left out: {cell.problem}'}"
        for cell, text in zip(cells, figures, strict=True)
    ]
    return "\n".join([title, *lines])


def about(cells: Sequence[Cell], figures: Sequence[str]) -> list[dict[str, Any]]:
    """Each cell for the editor; ``settings`` is None where it cannot be sampled."""
    return [
        {
            "name": cell.name,
            "hint": text or cell.problem,
            "settings": None if cell.settings is None else dict(cell.inputs),
        }
        for cell, text in zip(cells, figures, strict=True)
    ]
