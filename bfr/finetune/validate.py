"""Whether a tuned restorer beats its base: figures of both, and one number that compares them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..image.sheets import sheet
from ..pairs.folder import Pair, PairSet, read_image
from ..quality.likeness import consistency_psnr, likeness_factor
from ..quality.metrics import METRICS, check_faces
from ..quality.niqe import niqe
from ..quality.perceptual import pyramid_distance
from ..quality.texture import sharpness
from ..records import OnStep, counted
from ..restore.restorer import Restorer, restore_faces

Figures = dict[str, float | None]
"""Means over faces by name, as "pairs niqe"; None where a figure cannot be had."""

SHOWN = 4
"""Faces in a strip."""

DRIFT, ALIKE = 3.0, 30.0
"""A restorer whose likeness to the input falls by more than `DRIFT` decibels, to below `ALIKE`,
changes colours and shapes: it never counts as better."""

_AT_ONCE = 8  # faces that are measured together: bounds the memory
_EXACT = 100.0  # decibels that stand for equal images
_FEW = 8  # faces: figures of fewer say little
_CELL = 256  # pixels of a face in a strip, at most
_TITLES = {key: metric.title for key, metric in METRICS.items()}
_TITLES["distance"] = "distance to pseudo targets"
_FIGURES = {
    f"{where} {key}": (f"{called}: {_TITLES[key]}", 0 if key == "likeness" else METRICS[key].sign)
    for where, called in (("pairs", "pairs"), ("faces", "evaluation"))
    for key in ("distance", "niqe", "sharpness", "likeness")
}
"""By a figure's name in the log: what it is called, and whether more (1) or less (-1) is better;
0 only guards against drift."""


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """The faces that restorers are scored on.

    Attributes:
        lq: N×3×S×S RGB in [0, 1], degraded faces.
        target: N×3×S×S RGB in [0, 1], their pseudo targets.
        guess: the first guesses of the first `SHOWN` of them.
        faces: M×3×T×T RGB in [0, 1], real degraded faces without targets; None for none.
    """

    lq: Tensor
    target: Tensor
    guess: Tensor
    faces: Tensor | None = None

    def describe(self, held: bool) -> str:
        """What the figures rest on; ``held`` says whether the pairs were held back."""
        count, more = len(self.lq), 0 if self.faces is None else len(self.faces)
        words = f"{counted(count, 'pair')} "
        words += "held back" if held else "of these, which flatters"
        words += f", and {counted(more, 'evaluation face')}" if more else ""
        return f"{words}: so few say little" if count + more < _FEW else words


def make_panel(pairs: PairSet, scored: tuple[Pair, ...], faces: Tensor | None, most: int) -> Panel:
    """Reads the pairs to score with.

    Args:
        pairs: their folder.
        scored: which; at least one.
        faces: N×3×S×S RGB in [0, 1], real degraded faces, or None.
        most: of the faces, only so many are taken.

    Raises:
        InputError: if the faces are no images in [0, 1] or not square.
        ImageError: if an image is missing or damaged.
    """
    if faces is not None:
        check_faces(faces, "evaluation")
        faces = faces[:most].detach().to("cpu", torch.float32, copy=True)
    lq, target, guess = (
        torch.cat([read_image(pairs.folder, kind, pair) for pair in chosen])
        for kind, chosen in (("lq", scored), ("target", scored), ("guess", scored[:SHOWN]))
    )
    return Panel(lq, target, guess, faces)


def score(
    restorer: Restorer, panel: Panel, on_step: OnStep | None = None
) -> tuple[Figures, Tensor]:
    """Restores a panel's faces and measures them.

    Args:
        restorer: on its device, in evaluation mode after this; CodeFormer restores with w = 0.
        panel: the faces.
        on_step: progress in faces; raising from it stops the work.

    Returns:
        The figures, and the first `SHOWN` restored pairs, K×3×S×S RGB in [0, 1] on the CPU. With
        N for `niqe` and so on: "pairs distance" (`pyramid_distance` to the pseudo targets),
        "pairs niqe", "pairs sharpness", "pairs likeness" (`consistency_psnr` with the input, at a
        32nd of the side, at most 100 dB), and for the panel's faces "faces niqe" and so on.

    Raises:
        WeightsError: if the restorer gives NaN.
        OutOfMemoryError: if there is not even memory for one face.
    """
    restored = restore_faces(panel.lq, restorer, fidelity=0.0, on_step=on_step)
    figures = {
        "pairs distance": _mean(
            torch.cat(
                [
                    pyramid_distance(part, target)
                    for part, target in zip(
                        restored.split(_AT_ONCE), panel.target.split(_AT_ONCE), strict=True
                    )
                ]
            )
        ),
        **_without_reference("pairs", restored, panel.lq),
    }
    if panel.faces is not None:
        faces = restore_faces(panel.faces, restorer, fidelity=0.0, on_step=on_step)
        figures |= _without_reference("faces", faces, panel.faces)
    return figures, restored[:SHOWN].clone()


def gain(figures: Mapping[str, float | None], base: Mapping[str, float | None]) -> float:
    """How much better a restorer is than its base, as one number.

    The mean over all figures but the likeness of ``(f - b) / max(f, b)`` where more is better,
    and of ``(b - f) / max(f, b)`` where less is: each in [-1, 1], and 0 for the base itself.
    -∞ for a restorer that drifted from the input (`DRIFT`, `ALIKE`) or whose output cannot be
    measured where the base's can.
    """
    gains = []
    for name, before in base.items():
        after, (_, sign) = figures.get(name), _FIGURES[name]
        if before is None:
            continue
        if after is None:
            return -math.inf
        if sign == 0 and after < min(before - DRIFT, ALIKE):
            return -math.inf
        if sign:
            gains.append(sign * (after - before) / (max(after, before) or 1.0))
    return sum(gains) / len(gains) if gains else 0.0


def table(base: Mapping[str, float | None], tuned: Mapping[str, float | None]) -> str:
    """The figures of base and tuned restorer, a line each, and whether they are better."""
    rows = [("", "base", "tuned", "")]
    for name, before in base.items():
        title, sign = _FIGURES[name]
        after = tuned.get(name)
        verdict = ""
        if sign and before is not None and after is not None:
            better = sign * (after - before)
            verdict = "better" if better > 0 else "worse" if better < 0 else "equal"
        rows.append((title, _number(before), _number(after), verdict))
    wide = max(len(row[0]) for row in rows)
    return "\n".join(
        f"{label:<{wide}}  {before:>8}  {after:>8}  {verdict}".rstrip()
        for label, before, after, verdict in rows
    )


def report(validations: Sequence[Mapping[str, Any]], best: Mapping[str, Any], last: bool) -> str:
    """Whether and how the best restorer of a run beats its base, in words and a table.

    Args:
        validations: the "step", "figures" and "gain" of each, the base's first.
        best: which of them is the best.
        last: whether the last one is returned even if the base scored better.
    """
    if not validations:
        return "Stopped before the base was scored: the base is returned."
    base, shown = validations[0], best
    if best is not base:
        words = (
            f"Better than the base: {best['gain']:+.1%} over the figures on average, at step "
            f"{best['step']}."
        )
    else:
        shown = validations[-1]
        returned = "the last one is returned, as asked" if last else "the base is returned"
        words = f"WARNING: no step scored better than the base; {returned}."
        if shown is not base and shown["gain"] is None:
            words += " The last one drifted from its input, or gives pictures without content."
        elif shown is not base:
            words += f" The last one: {shown['gain']:+.1%} over the figures on average."
    return f"{words}\n{table(base['figures'], shown['figures'])}"


def strip(panel: Panel, **restored: Tensor) -> Tensor:
    """A sheet of a panel's first faces: input, guess, pseudo target and what came of them.

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


def _without_reference(where: str, restored: Tensor, given: Tensor) -> Figures:
    alike = consistency_psnr(restored, given, likeness_factor(given.shape[-1]))
    return {
        f"{where} niqe": _mean(niqe(restored)),
        f"{where} sharpness": _mean(sharpness(restored)),
        f"{where} likeness": _mean(alike.clamp(max=_EXACT)),
    }


def _mean(values: Tensor) -> float | None:
    mean = float(values.double().mean())
    return mean if math.isfinite(mean) else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
