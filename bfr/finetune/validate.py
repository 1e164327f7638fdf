"""Validation: the faces that restorers are scored on, and what is measured of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..faces.identity import Identity
from ..image.sheets import sheet
from ..pairs.folder import PairSet, read_image
from ..pairs.pair import Pair
from ..quality.face_batch import check_faces
from ..quality.likeness import consistency_psnr, likeness_factor
from ..quality.metrics import METRICS
from ..quality.perceptual import pyramid_distance
from ..records import OnStep, counted
from ..restore.restorer import Restorer, restore_faces
from .figures import Figures, compare
from .guard import average
from .look import Given, Look, look, look_at_given

SHOWN = 4
"""Faces in a strip."""

ENOUGH = 16
"""Faces to judge by: where fewer pairs are held back, some that are trained with are added."""

_AT_ONCE = 8  # faces that are measured together: bounds the memory
_EXACT = 100.0  # decibels that stand for equal images
_CELL = 256  # pixels of a face in a strip, at most
_TABLE = {
    "niqe": (METRICS["niqe"].title, -1),
    "sharpness": (METRICS["sharpness"].title, 1),
    "distance": ("distance to pseudo targets", 0),
    "likeness": (METRICS["likeness"].title, 0),
}
"""The figures of the report: their titles, and whether more (1) or less (-1) is better; the others
do not count."""


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """The faces that restorers are scored on.

    Attributes:
        lq: N×3×S×S RGB in [0, 1], degraded faces of pairs.
        target: N×3×S×S RGB in [0, 1], their pseudo targets.
        guess: the first guesses of the first `SHOWN` of them.
        held: how many of them, the first ones, are not trained with.
        faces: M×3×T×T RGB in [0, 1], real degraded faces without targets; None for none.
    """

    lq: Tensor
    target: Tensor
    guess: Tensor
    held: int
    faces: Tensor | None = None

    @property
    def inputs(self) -> list[Tensor]:
        """The degraded faces, in batches of one size."""
        return [self.lq] if self.faces is None else [self.lq, self.faces]

    def describe(self) -> str:
        """The faces that the figures rest on, in words."""
        numbers = {
            "held back": self.held,
            "trained with": len(self.lq) - self.held,
            "to evaluate": 0 if self.faces is None else len(self.faces),
        }
        return ", ".join(f"{counted(n, 'face')} {kind}" for kind, n in numbers.items() if n)


def make_panel(
    pairs: PairSet, held: Sequence[Pair], train: Sequence[Pair], faces: Tensor | None, most: int
) -> Panel:
    """Reads the faces to score with.

    Args:
        pairs: their folder.
        held: the pairs held back.
        train: the others, some of which are added up to `ENOUGH`.
        faces: N×3×S×S RGB in [0, 1], real degraded faces, or None.
        most: of these faces, the most to take.

    Raises:
        InputError: if the faces are no images in [0, 1] or not square.
        ImageError: if an image is missing or damaged.
    """
    if faces is not None:
        check_faces(faces, "evaluation")
        faces = faces[:most].detach().to("cpu", torch.float32, copy=True)
    scored = [*held, *train[: max(ENOUGH - len(held), 0)]]
    lq, target, guess = (
        torch.cat([read_image(pairs.folder, kind, pair) for pair in chosen])
        for kind, chosen in (("lq", scored), ("target", scored), ("guess", scored[:SHOWN]))
    )
    return Panel(lq, target, guess, len(held), faces)


def restore(restorer: Restorer, panel: Panel, on_step: OnStep | None = None) -> list[Tensor]:
    """Restores a panel's `inputs`.

    Args:
        restorer: on its device, in evaluation mode after this; CodeFormer restores with w = 0.
        panel: the faces.
        on_step: progress in faces; raising from it stops the work.

    Raises:
        WeightsError: if the restorer gives NaN.
        OutOfMemoryError: if there is not even memory for one face.
    """
    return [restore_faces(faces, restorer, fidelity=0.0, on_step=on_step) for faces in panel.inputs]


def first_looks(
    restored: Sequence[Tensor], panel: Panel, identity: Identity
) -> list[tuple[Look, Given]]:
    """What a whole run is judged by: for each batch, the base's faces and the damaged ones.

    Args:
        restored: of `restore`, by the base.
        panel: the faces.
        identity: of `load_identity`.
    """
    return [
        (look(batch, identity), look_at_given(given, identity))
        for batch, given in zip(restored, panel.inputs, strict=True)
    ]


def measure(
    restored: Sequence[Tensor],
    panel: Panel,
    before: Sequence[tuple[Look, Given]],
    identity: Identity,
) -> Figures:
    """Measures a panel's restored faces.

    Args:
        restored: of `restore`.
        panel: the faces.
        before: of `first_looks`.
        identity: of `load_identity`.

    Returns:
        The figures of `compare`, of all faces one after the other; "likeness"
        (`consistency_psnr` with the input, at a 32nd of the side, at most 100 dB); and for the
        pairs "distance" (`pyramid_distance` to the pseudo targets).
    """
    found: Figures = {}
    for batch, damaged, (base, given) in zip(restored, panel.inputs, before, strict=True):
        alike = consistency_psnr(batch, damaged, likeness_factor(damaged.shape[-1]))
        figures = compare(base, look(batch, identity), given)
        for name, values in {**figures, "likeness": alike.clamp(max=_EXACT).tolist()}.items():
            found[name] = found.get(name, []) + values
    parts = zip(restored[0].split(_AT_ONCE), panel.target.split(_AT_ONCE), strict=True)
    found["distance"] = torch.cat([pyramid_distance(*part).double() for part in parts]).tolist()
    return found


def means(figures: Figures) -> dict[str, float | None]:
    """The means over faces, as the log stores them."""
    return {name: average(values) for name, values in figures.items()}


def table(base: Mapping[str, float | None], tuned: Mapping[str, float | None]) -> str:
    """The `means` of base and tuned restorer, one per line, and which are better."""
    rows = [("", "base", "tuned", "")]
    for name, (title, sign) in _TABLE.items():
        before, after, verdict = base.get(name), tuned.get(name), ""
        if sign and before is not None and after is not None:
            better = sign * (after - before)
            verdict = "better" if better > 0 else "worse" if better < 0 else "equal"
        rows.append((title, _number(before), _number(after), verdict))
    wide = max(len(row[0]) for row in rows)
    return "\n".join(
        f"{label:<{wide}}  {before:>8}  {after:>8}  {verdict}".rstrip()
        for label, before, after, verdict in rows
    )


def strip(panel: Panel, **restored: Tensor) -> Tensor:
    """A sheet of a panel's first faces: input, guess, pseudo target, and restored.

    Args:
        panel: the faces.
        restored: by column, at least as many faces as are shown, 3×S×S RGB in [0, 1].

    Returns:
        1×3×H×W RGB in [0, 1].
    """
    columns = {
        "input": panel.lq,
        "guess": panel.guess,
        "pseudo target": panel.target,
        **restored,
    }
    rows = [faces[number] for number in range(len(panel.guess)) for faces in columns.values()]
    cell = max(16, min(_CELL, panel.lq.shape[-1]))
    return sheet(rows, columns=len(columns), column_labels=list(columns), cell_size=cell)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
