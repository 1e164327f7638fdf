"""Sweeps over two settings of sampling: read, planned and sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..records import OnStep
from ..runtime.progress import within
from .constraint import PAPER_SIZE
from .guidance import Guidance
from .prior import Prior
from .sample import sample_targets
from .settings import SampleSettings

NOTHING = "none"
# What can be swept, by the name of its input: the input's id and the type of its values.
PARAMETERS: dict[str, tuple[str, type]] = {
    "low-pass factor": ("factor", int),
    "start": ("start", int),
    "stop": ("stop", int),
    "strength": ("strength", float),
    "sampler": ("sampler", str),
    "network calls": ("calls", int),
    "seed": ("seed", int),
    "freedom": ("freedom", float),
    "detail": ("detail", float),
    "hold": ("hold", str),
    "error": ("error", float),
}
_KINDS = {int: "whole numbers, such as 8, 16, 32", float: "numbers, such as 0.5, 0.75, 1"}
_THUMBNAIL = 160  # side in pixels of a face in the live preview
EMPTY = 0.16  # grey of a cell without a face


@dataclass(frozen=True, slots=True)
class Axis:
    """One swept parameter.

    Attributes:
        name: of its input, or `NOTHING`.
        values: at least one; (None,) for `NOTHING`.
    """

    name: str
    values: tuple[Any, ...]

    @property
    def labels(self) -> list[str]:
        """One heading per value."""
        return [] if self.name == NOTHING else [f"{self.name} {value}" for value in self.values]

    def changes(self, value: Any) -> dict[str, Any]:
        """The input that a value changes, by its id."""
        return {} if self.name == NOTHING else {PARAMETERS[self.name][0]: value}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the grid.

    Attributes:
        name: its two values in words.
        settings: how its face is sampled; None if that is impossible.
        problem: why not.
        inputs: what gives the same on a node, by the ids of its inputs.
    """

    name: str
    settings: SampleSettings | None
    problem: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)


def read_axis(name: str, text: str) -> Axis:
    """Reads a swept parameter and its values, such as ``8, 16, 32``.

    Raises:
        InputError: for an unknown parameter, no value, or one of the wrong type.
    """
    if name == NOTHING:
        return Axis(NOTHING, (None,))
    if name not in PARAMETERS:
        raise InputError(
            f"The swept parameter must be {NOTHING} or one of {', '.join(PARAMETERS)}, got "
            f"{name!r}. Choose one of them."
        )
    kind = PARAMETERS[name][1]
    words = text.replace(",", " ").replace(";", " ").split()
    try:
        values = tuple(dict.fromkeys(kind(word) for word in words))
    except ValueError:
        values = ()
    if not values:
        raise InputError(
            f"Values of {name} must be {_KINDS.get(kind, 'names, such as ddpm, ddim')}, got "
            f"{text!r}. Separate them by commas."
        )
    return Axis(name, values)


def plan(across: Axis, down: Axis, guidance: Mapping[str, Any], prior: Prior) -> list[Cell]:
    """The cells of the grid, row by row.

    Args:
        across: changes from column to column.
        down: changes from row to row.
        guidance: the settings that all cells share, as `Guidance` takes them.
        prior: of the pseudo targets.

    Raises:
        InputError: if both axes are one parameter, or no cell can be sampled.
    """
    if across.name == down.name != NOTHING:
        raise InputError(
            f"Across and down must be two parameters, got {down.name} for both. Change one, or "
            f"set down to {NOTHING}."
        )
    cells = []
    for row, low in zip(down.labels or [""], down.values, strict=True):
        for column, value in zip(across.labels or [""], across.values, strict=True):
            name = ", ".join(filter(None, (row, column)))
            inputs = {**guidance, **down.changes(low), **across.changes(value)}
            try:
                settings = Guidance(**inputs).settings(prior)
                cells.append(Cell(name, settings, inputs=inputs))
            except InputError as error:
                cells.append(Cell(name, None, str(error), inputs))
    if not any(cell.settings for cell in cells):
        raise InputError(
            f"At least one combination must be possible, got 0 of {len(cells)}. {cells[0].problem}"
        )
    return cells


def sample_cells(
    guess: Tensor, prior: Prior, cells: Sequence[Cell], columns: int, on_step: OnStep
) -> list[Tensor | None]:
    """Samples one guess once per cell; cells of one seed share their noise.

    Args:
        guess: 1×3×S×S RGB in [0, 1].
        prior: of the pseudo targets.
        cells: row by row.
        columns: of the grid.
        on_step: progress in network calls; the preview is the grid so far.

    Returns:
        1×3×S×S in [0, 1] per cell, None where it cannot be sampled.
    """
    calls = [cell.settings.calls_a_face if cell.settings else 0 for cell in cells]
    side, rows = _THUMBNAIL, len(cells) // columns
    drawn = torch.full((1, 3, rows * side, columns * side), EMPTY)
    faces: list[Tensor | None] = []
    for index, cell in enumerate(cells):
        if cell.settings is None:
            faces.append(None)
            continue
        row, column = divmod(index, columns)
        place = drawn[..., row * side : (row + 1) * side, column * side : (column + 1) * side]
        before = sum(calls[:index])
        whole = within(on_step, before, before + calls[index], sum(calls))

        def report(done: int, total: int, preview: Tensor | None, place=place, whole=whole) -> None:
            if preview is not None:
                face = preview[..., : preview.shape[-1] // 3].cpu()
                place.copy_(F.interpolate(face, (side, side), mode="area"))
            whole(done, total, drawn)

        faces.append(sample_targets(guess, prior, cell.settings, on_step=report).targets)
    return faces


def shared(across: Axis, down: Axis, guidance: Mapping[str, Any]) -> str:
    """The settings that all cells have in common, in words; what follows freedom is left out."""
    words = []
    for name, (id, _) in PARAMETERS.items():
        default = getattr(Guidance(), id)
        value = guidance.get(id, default)
        automatic = not value and id in ("start", "stop", "factor", "error", "calls", "detail")
        automatic |= id == "hold" and value == default
        automatic |= id == "freedom" and bool(guidance.get("start"))
        if name not in (across.name, down.name) and not automatic:
            words.append(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}")
    size = f" (for {PAPER_SIZE} px)" if guidance.get("suit_prior", True) else ""
    return ", ".join(words) + size
