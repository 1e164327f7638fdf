"""Sweeps over two settings of sampling: read, planned, sampled, measured and drawn."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..faces.identity import Identity
from ..faces.retinaface import Detector
from ..image.sheets import Sheet, lay_out
from ..image.tensors import resize_square
from ..quality.metrics import METRICS, FaceBatch, Tools, caption
from ..records import OnStep
from ..runtime.progress import within
from .prior import Prior
from .sample import sample_targets
from .settings import SampleSettings, for_prior

NOTHING = "none"
# What can be swept, by the name of its input: the input's id, and what its values are.
PARAMETERS: dict[str, tuple[str, type]] = {
    "low-pass factor": ("factor", int),
    "start": ("start", int),
    "stop": ("stop", int),
    "strength": ("strength", float),
    "sampler": ("sampler", str),
    "network calls": ("calls", int),
    "seed": ("seed", int),
}
_KINDS = {int: "whole numbers, as in 8, 16, 32", float: "numbers, as in 0.5, 0.75, 1"}
_THUMBNAIL = 160  # side in pixels of a face in the live preview
_EMPTY = 0.16  # grey of a cell without a face


@dataclass(frozen=True, slots=True)
class Axis:
    """One swept parameter.

    Attributes:
        name: of its input; `NOTHING` for none.
        values: at least one; (None,) for none.
    """

    name: str
    values: tuple[Any, ...]

    @property
    def labels(self) -> list[str]:
        """A heading for each value."""
        return [] if self.name == NOTHING else [f"{self.name} {value}" for value in self.values]

    def changes(self, value: Any) -> dict[str, Any]:
        """The input that a value is for, by its id."""
        return {} if self.name == NOTHING else {PARAMETERS[self.name][0]: value}


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of the grid.

    Attributes:
        name: its two values in words.
        settings: how its face is sampled; None if that cannot be.
        problem: why not.
        inputs: what to set a node to for the same, by the ids of its inputs.
    """

    name: str
    settings: SampleSettings | None
    problem: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)


def read_axis(name: str, text: str) -> Axis:
    """A swept parameter and its values, as in ``8, 16, 32``.

    Raises:
        InputError: if there is no such parameter, no value, or one that cannot be read.
    """
    if name == NOTHING:
        return Axis(NOTHING, (None,))
    if name not in PARAMETERS:
        raise InputError(
            f"What is swept must be {NOTHING} or one of {', '.join(PARAMETERS)}; got {name!r}."
        )
    kind = PARAMETERS[name][1]
    words = text.replace(",", " ").replace(";", " ").split()
    try:
        values = tuple(dict.fromkeys(kind(word) for word in words))
    except ValueError:
        values = ()
    if not values:
        raise InputError(
            f"Values of {name} must be {_KINDS.get(kind, 'names, as in ddpm, ddim')}; got {text!r}."
        )
    return Axis(name, values)


def plan(
    across: Axis,
    down: Axis,
    guidance: Mapping[str, Any],
    make: Callable[..., SampleSettings],
) -> list[Cell]:
    """The cells of the grid, row by row.

    Args:
        across: changes from column to column.
        down: changes from row to row.
        guidance: the settings of all cells, by the ids of the nodes' inputs.
        make: makes settings of them, and raises InputError where that cannot be.

    Raises:
        InputError: if both axes are one parameter, or no cell can be sampled.
    """
    if across.name == down.name != NOTHING:
        raise InputError(f"Across and down must be two parameters, and both are {down.name}.")
    cells = []
    for row, low in zip(down.labels or [""], down.values, strict=True):
        for column, value in zip(across.labels or [""], across.values, strict=True):
            name = ", ".join(filter(None, (row, column)))
            inputs = {**guidance, **down.changes(low), **across.changes(value)}
            try:
                cells.append(Cell(name, make(**inputs), inputs=inputs))
            except InputError as error:
                cells.append(Cell(name, None, str(error), inputs))
    if not any(cell.settings for cell in cells):
        raise InputError(f"None of {len(cells)} combinations can be sampled. {cells[0].problem}")
    return cells


def sample_cells(
    guess: Tensor, prior: Prior, cells: Sequence[Cell], columns: int, on_step: OnStep
) -> list[Tensor | None]:
    """Samples one guess once for each cell, all from the noise of their seeds.

    Args:
        guess: 1×3×S×S RGB in [0, 1].
        prior: of the pseudo targets.
        cells: row by row.
        columns: of the grid.
        on_step: progress in network calls; the preview is the grid as far as it is there.

    Returns:
        1×3×S×S in [0, 1] for each cell, None where it cannot be.
    """
    calls = [cell.settings.calls_a_face if cell.settings else 0 for cell in cells]
    side, rows = _THUMBNAIL, len(cells) // columns
    drawn = torch.full((1, 3, rows * side, columns * side), _EMPTY)
    faces: list[Tensor | None] = []
    for index, cell in enumerate(cells):
        if cell.settings is None:
            faces.append(None)
            continue
        row, column = divmod(index, columns)
        place = drawn[..., row * side : (row + 1) * side, column * side : (column + 1) * side]

        before = sum(calls[:index])
        whole = within(on_step, before, before + calls[index], sum(calls))

        def tell(done: int, total: int, preview: Tensor | None, place=place, whole=whole) -> None:
            if preview is not None:
                face = preview[..., : preview.shape[-1] // 3].cpu()
                place.copy_(F.interpolate(face, (side, side), mode="area"))
            whole(done, total, drawn)

        faces.append(sample_targets(guess, prior, cell.settings, on_step=tell).targets)
    return faces


def measure(
    guess: Tensor,
    faces: Sequence[Tensor | None],
    prior: Prior,
    detector: Detector | None,
    identity: Identity | None = None,
) -> list[str]:
    """The metrics of each face in words: likeness to the guess, identity and sharpness.

    They are measured at the prior's size, and the likeness at the paper's low-pass factor for
    that size, whatever the cell's own.

    Args:
        guess: 1×3×S×S RGB in [0, 1].
        faces: as of `sample_cells`.
        prior: that sampled them.
        detector: a face detector, for the distance of the landmarks too.
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
    """The labelled grid; where no face can be, it says why."""
    empty = torch.full_like(next(face for face in faces if face is not None), _EMPTY)
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
    """One line for all cells and one for each."""
    lines = [
        f"{cell.name}: {text or f'left out: {cell.problem}'}"
        for cell, text in zip(cells, figures, strict=True)
    ]
    return "\n".join([title, *lines])


def about(cells: Sequence[Cell], figures: Sequence[str]) -> list[dict[str, Any]]:
    """What the editor is told of each cell; ``settings`` is None where no face can be."""
    return [
        {
            "name": cell.name,
            "hint": text or cell.problem,
            "settings": None if cell.settings is None else dict(cell.inputs),
        }
        for cell, text in zip(cells, figures, strict=True)
    ]


def shared(across: Axis, down: Axis, guidance: Mapping[str, Any]) -> str:
    """The settings that all cells have in common, in words."""
    words = []
    for name, (id, _) in PARAMETERS.items():
        value = guidance[id]
        if name not in (across.name, down.name) and (id != "calls" or value):
            words.append(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(words)
