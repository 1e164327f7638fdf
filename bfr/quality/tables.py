"""Measuring restored faces: a table of figures, and two or more tables side by side.

Which figures there are follows from what is given: sharpness and NIQE need the faces alone,
likeness the damaged faces that they were made of, PSNR, SSIM and the perceptual distance clean
references. A figure that cannot be had for a face, as where no face is found, is NaN: it shows as
"-" and is left out of the means, in all tables that are compared.
"""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..image.plots import bars
from ..records import OnStep
from .metrics import (
    check_faces,
    consistency_psnr,
    landmark_distance,
    likeness_factor,
    psnr,
    sharpness,
    ssim,
)
from .niqe import niqe
from .perceptual import Distance
from .pyiqa_scores import Score, load_score

HIGHER, LOWER = "higher", "lower"
_AT_ONCE = 8  # faces measured together: bounds the memory

Faces = Mapping[str, Tensor]
Figure = tuple["Column", Callable[[Faces], Tensor]]


@dataclass(frozen=True, slots=True)
class Column:
    """A figure.

    Attributes:
        key: its name in files.
        title: its name in words, with its unit.
        better: "higher" or "lower".
        digits: after the point.
        whole: whether it is of all faces together, and not of each.
    """

    key: str
    title: str
    better: str
    digits: int = 2
    whole: bool = False

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return 1 if self.better == HIGHER else -1

    def shown(self, value: float) -> str:
        """A value in this column's digits; "equal" where images are, "-" where there is none."""
        if math.isnan(value):
            return "-"
        return "equal" if math.isinf(value) else f"{value:.{self.digits}f}"


@dataclass(frozen=True, slots=True)
class Table:
    """The figures of some faces.

    Attributes:
        names: of the faces.
        columns: the figures.
        values: by the column's key, one value a face, or a single one for all.
    """

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    values: Mapping[str, tuple[float, ...]]

    def mean(self, column: Column) -> float:
        """The mean of a figure over the faces that have it; NaN where none has."""
        known = [value for value in self.values[column.key] if not math.isnan(value)]
        return sum(known) / len(known) if known else math.nan

    def of_face(self, place: int) -> dict[str, float]:
        """The figures of one face, by their keys."""
        return {c.key: self.values[c.key][place] for c in self.columns if not c.whole}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Tables of the same faces, restored in different ways.

    Attributes:
        tables: by the name of the way; means count only faces that have the figure in all.
    """

    tables: Mapping[str, Table]

    @property
    def columns(self) -> tuple[Column, ...]:
        return next(iter(self.tables.values())).columns

    def best(self, column: Column) -> str | None:
        """The name of the table with the best mean; None where the best look alike."""
        means = {
            name: column.sign * round(mean, column.digits)
            for name, table in self.tables.items()
            if not math.isnan(mean := table.mean(column))
        }
        leading = [name for name, mean in means.items() if mean == max(means.values())]
        return leading[0] if len(leading) == 1 < len(means) else None

    def verdict(self) -> list[str]:
        """Which table is best in which figures, in sentences; none for a single table."""
        if len(self.tables) < 2:
            return []
        word = "better" if len(self.tables) == 2 else "best"
        best = {column.title: self.best(column) for column in self.columns}
        sentences: list[str] = []
        for name in (*self.tables, None):
            if titles := [title for title, leader in best.items() if leader == name]:
                lead = "Alike" if name is None else f"{name} is {word}"
                sentences.append(f"{lead} in {len(titles)} of {len(best)}: {'; '.join(titles)}.")
        return sentences

    def gaps(self) -> list[str]:
        """Which figures some faces do not have, in sentences."""
        first = next(iter(self.tables.values()))
        absent = {c.title: sum(map(math.isnan, first.values[c.key])) for c in self.columns}
        return [
            f"{title}: not of {count} of {len(first.names)} faces, which do not show it everywhere."
            for title, count in absent.items()
            if count
        ]

    def rows(self, mark: Callable[[str], str]) -> list[list[str]]:
        """The cells of a head and of each figure; ``mark`` is put on the best."""
        two = len(self.tables) == 2
        rows = [["", "better is", *self.tables, *(["faces better"] if two else [])]]
        for column in self.columns:
            best = self.best(column)
            means = {name: column.shown(table.mean(column)) for name, table in self.tables.items()}
            shown = [mark(text) if name == best else text for name, text in means.items()]
            rows.append([column.title, column.better, *shown])
            if two:
                rows[-1].append(self._faces_better(column))
        return rows

    def _faces_better(self, column: Column) -> str:
        """On how many faces the second table is better than the first."""
        first, second = (table.values[column.key] for table in self.tables.values())
        better = [
            column.sign * b > column.sign * a
            for a, b in zip(first, second, strict=True)
            if not math.isnan(a)
        ]
        return "" if column.whole else f"{sum(better)} of {len(better)}"

    def as_text(self) -> str:
        """A line a figure, the best marked with an asterisk; the verdict and the gaps."""
        rows = self.rows("*{}".format)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for first, *others in rows:
            cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
            lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
        told = [*self.verdict(), *self.gaps()]
        return "\n".join([*lines, *([""] if told else []), *told])

    def as_markdown(self) -> str:
        """The same as Markdown, the best in bold."""
        rows = self.rows("**{}**".format)
        head, *body = ("| " + " | ".join(row).replace("\n", " ") + " |" for row in rows)
        lines = [head, "|---" + "|--:" * (len(rows[0]) - 1) + "|", *body]
        return "\n".join([*lines, *(f"\n{told}" for told in (*self.verdict(), *self.gaps()))])

    def as_csv(self) -> str:
        """A line a way and face, headed by the figures' keys; nothing where there is none."""
        text = io.StringIO()
        write = csv.writer(text, lineterminator="\n").writerow
        write(["folder", "face", *(column.key for column in self.columns if not column.whole)])
        for name, table in self.tables.items():
            for place, face in enumerate(table.names):
                figures = table.of_face(place).values()
                write([name, face, *("" if math.isnan(x) else f"{x:.6g}" for x in figures)])
        return text.getvalue()

    def as_json(self) -> str:
        """Everything: what the figures are and which way is best, their means, and each face's.

        Where there is no figure it is null; infinity, which JSON has not, is "inf".
        """
        figures = {
            c.key: {"title": c.title, "better": c.better, "best": self.best(c)}
            for c in self.columns
        }
        folders = {
            name: {
                "mean": {column.key: _plain(table.mean(column)) for column in self.columns},
                "faces": {
                    face: {key: _plain(value) for key, value in table.of_face(place).items()}
                    for place, face in enumerate(table.names)
                },
            }
            for name, table in self.tables.items()
        }
        return json.dumps({"figures": figures, "folders": folders}, indent=1, ensure_ascii=False)

    def plot(self, title: str = "") -> Tensor:
        """The means as bars with the faces as dots, a panel a figure: 1×3×H×W in [0, 1]."""
        panels = {
            f"{textwrap.fill(column.title, 26)}\n{column.better} is better": {
                name: table.values[column.key] for name, table in self.tables.items()
            }
            for column in self.columns
        }
        return bars(panels, title)


def compare(tables: Mapping[str, Table]) -> Comparison:
    """Puts tables of the same faces side by side.

    Args:
        tables: by the name of the restorer or folder; the first is what others are compared to.

    Raises:
        InputError: if there is none, or their faces or figures differ.
    """
    if not tables:
        raise InputError("To compare, at least one table is needed, and none came.")
    first = next(iter(tables.values()))
    for name, table in tables.items():
        if table.names != first.names or table.columns != first.columns:
            raise InputError(
                f"Tables to compare must have the same faces and figures, and {name!r} has others "
                f"({len(table.names)} faces; {', '.join(c.title for c in table.columns)}). "
                "Measure the same faces with the same references."
            )
    values: dict[str, dict[str, tuple[float, ...]]] = {name: {} for name in tables}
    for column in first.columns:
        rows = list(zip(*(table.values[column.key] for table in tables.values()), strict=True))
        rows = [row if not any(map(math.isnan, row)) else (math.nan,) * len(row) for row in rows]
        for name, known in zip(tables, zip(*rows, strict=True), strict=True):
            values[name][column.key] = known
    return Comparison(
        {name: Table(table.names, table.columns, values[name]) for name, table in tables.items()}
    )


def join(tables: Sequence[Table]) -> Table:
    """One table of all the faces, where each has the same figures, none of them ``whole``."""
    columns = tables[0].columns
    return Table(
        tuple(name for table in tables for name in table.names),
        columns,
        {c.key: tuple(value for table in tables for value in table.values[c.key]) for c in columns},
    )


@torch.no_grad()
def measure_faces(
    restored: Tensor,
    *,
    reference: Tensor | None = None,
    given: Tensor | None = None,
    detector: nn.Module | None = None,
    distance: Distance | None = None,
    extra: Sequence[str] = (),
    names: Sequence[str] = (),
    device: torch.device | str | None = None,
    on_step: OnStep | None = None,
) -> Table:
    """Measures restored faces with all figures that what is given allows.

    Args:
        restored: N×3×S×S RGB in [0, 1], aligned faces; at least one.
        reference: N×3×S×S RGB in [0, 1], the clean faces: gives PSNR, SSIM and the distance.
        given: N×3×S×S RGB in [0, 1], the damaged faces: gives the likeness of low frequencies.
        detector: of `load_detector`; measures how far eyes, nose and mouth are from those of the
            reference, or else of the damaged faces, in hundredths of the distance of the eyes.
        distance: of `load_distance`, on ``device``; None leaves it out.
        extra: names of scores in pyiqa, as "musiq", "maniqa" or "fid" (`pyiqa_scores` tells
            its licence, and what it downloads).
        names: of the faces; nothing numbers them.
        device: where to measure; None for that of ``restored``.
        on_step: progress in faces.

    Raises:
        InputError: if the faces are none in [0, 1], no squares, or not as many and large in all
            sets; for an unknown score, or one that needs a reference.
        MissingPackageError: for a score without pyiqa.
    """
    sets = {"restored": restored, "reference": reference, "given": given}
    sets = {name: faces for name, faces in sets.items() if faces is not None}
    for name, faces in sets.items():
        _check(name, faces, restored)
    names = tuple(names) or tuple(str(number) for number in range(1, len(restored) + 1))
    if len(names) != len(restored):
        raise InputError(f"{len(restored)} faces came with {len(names)} names. Give one each.")
    device = restored.device if device is None else torch.device(device)
    figures = _figures(sets, detector, distance)
    scores = [load_score(name, device) for name in dict.fromkeys(extra)]
    for score in scores:
        if score.needs_reference and reference is None:
            raise InputError(
                f"{score.name} compares with clean faces, and none came. Give a reference, or "
                "leave it out."
            )
    figures += [(_column(score), _of_score(score)) for score in scores if not score.whole]
    values: dict[str, list[Tensor]] = {column.key: [] for column, _ in figures}
    for start in range(0, len(restored), _AT_ONCE):
        part = {
            name: faces[start : start + _AT_ONCE].to(device, torch.float32)
            for name, faces in sets.items()
        }
        for column, figure in figures:
            values[column.key].append(figure(part).double().cpu())
        if on_step is not None:
            on_step(min(start + _AT_ONCE, len(restored)), len(restored), None)
    columns = [column for column, _ in figures]
    found = {key: tuple(torch.cat(parts).tolist()) for key, parts in values.items()}
    for score in scores:
        if score.whole:
            columns.append(_column(score))
            found[columns[-1].key] = tuple(score.measure(restored, reference).tolist())
    return Table(names, tuple(columns), found)


def _figures(sets: Faces, detector: nn.Module | None, distance: Distance | None) -> list[Figure]:
    """The figures that need no package, with how each is measured of some faces of all sets."""
    factor = likeness_factor(sets["restored"].shape[-1])
    anchor = "reference" if "reference" in sets else "given"

    def likeness(restored: Tensor, given: Tensor) -> Tensor:
        return consistency_psnr(restored, given, factor)

    def landmarks(restored: Tensor, kept: Tensor) -> Tensor:
        assert detector is not None
        return 100 * landmark_distance(restored, kept, detector)

    candidates: list[tuple[Column, Callable[..., Tensor], str | None]] = [
        (Column("psnr", "PSNR, dB", HIGHER), psnr, "reference"),
        (Column("ssim", "SSIM", HIGHER, 4), ssim, "reference"),
        (Column("likeness", "likeness to the input, dB", HIGHER), likeness, "given"),
        (Column("niqe", "NIQE", LOWER), niqe, None),
        (Column("sharpness", "sharpness", HIGHER), sharpness, None),
    ]
    if distance is not None:
        column = Column("distance", f"{distance.name} distance", LOWER, 4)
        candidates.insert(2, (column, distance.measure, "reference"))
    if detector is not None:
        owner = "reference" if anchor == "reference" else "input"
        column = Column("landmarks", f"landmarks off the {owner}'s, %", LOWER)
        candidates.insert(-2, (column, landmarks, anchor))

    def of(figure: Callable[..., Tensor], other: str | None) -> Callable[[Faces], Tensor]:
        return lambda part: figure(*(part[name] for name in ("restored", other) if name))

    return [
        (column, of(figure, other))
        for column, figure, other in candidates
        if other is None or other in sets
    ]


def _column(score: Score) -> Column:
    better = LOWER if score.lower_is_better else HIGHER
    return Column(f"pyiqa_{score.name}", f"{score.name} (pyiqa)", better, 3, score.whole)


def _of_score(score: Score) -> Callable[[Faces], Tensor]:
    return lambda part: score.measure(part["restored"], part.get("reference"))


def _check(name: str, faces: Tensor, restored: Tensor) -> None:
    check_faces(faces, f"{name} faces")
    shape, wanted = tuple(faces.shape), tuple(restored.shape)
    if shape != wanted:
        raise InputError(
            f"There must be as many and as large {name} as restored faces: {wanted[0]} of "
            f"{wanted[-1]} pixels, and {shape[0]} of {shape[-1]} pixels came. Give the same faces "
            "at the same size."
        )


def _plain(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return "inf" if math.isinf(value) else round(value, 6)
