"""Comparisons of restored faces written down: as text, Markdown, CSV and JSON, and as a plot."""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Callable

from torch import Tensor

from ..image.plots import bars
from .tables import Comparison


def rows(comparison: Comparison, mark: Callable[[str], str]) -> list[list[str]]:
    """The cells of a head and of each metric; ``mark`` is put on the best."""
    two = len(comparison.tables) == 2
    cells = [["", "better is", *comparison.tables, *(["faces better"] if two else [])]]
    for column in comparison.columns:
        best = comparison.best(column)
        means = {name: column.shown(t.mean(column)) for name, t in comparison.tables.items()}
        shown = [mark(text) if name == best else text for name, text in means.items()]
        cells.append([column.title, column.better, *shown])
        if two:
            better = "" if column.whole else "{} of {}".format(*comparison.faces_better(column))
            cells[-1].append(better)
    return cells


def as_text(comparison: Comparison) -> str:
    """One line per metric, the best marked with an asterisk; then the remarks."""
    cells = rows(comparison, "*{}".format)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for first, *others in cells:
        padded = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *padded]).rstrip())
    remarks = _remarks(comparison)
    return "\n".join([*lines, *([""] if remarks else []), *remarks])


def as_markdown(comparison: Comparison) -> str:
    """The same as Markdown, the best in bold."""
    cells = rows(comparison, "**{}**".format)
    head, *body = ("| " + " | ".join(row).replace("\n", " ") + " |" for row in cells)
    lines = [head, "|---" + "|--:" * (len(cells[0]) - 1) + "|", *body]
    return "\n".join([*lines, *(f"\n{remark}" for remark in _remarks(comparison))])


def as_csv(comparison: Comparison) -> str:
    """One line per restoration and face, headed by the metrics' keys; empty where NaN."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    write(["folder", "face", *(column.key for column in comparison.columns if not column.whole)])
    for name, table in comparison.tables.items():
        for place, face in enumerate(table.names):
            values = table.of_face(place).values()
            write([name, face, *("" if math.isnan(x) else f"{x:.6g}" for x in values)])
    return text.getvalue()


def as_json(comparison: Comparison) -> str:
    """The metrics with the best restoration in each, all means, and the values of each face.

    A missing value is null; infinity, which JSON does not have, is "inf".
    """
    figures = {
        c.key: {"title": c.title, "better": c.better, "best": comparison.best(c)}
        for c in comparison.columns
    }
    folders = {
        name: {
            "mean": {column.key: _plain(table.mean(column)) for column in comparison.columns},
            "faces": {
                face: {key: _plain(value) for key, value in table.of_face(place).items()}
                for place, face in enumerate(table.names)
            },
        }
        for name, table in comparison.tables.items()
    }
    return json.dumps({"figures": figures, "folders": folders}, indent=1, ensure_ascii=False)


def plot(comparison: Comparison, title: str = "") -> Tensor:
    """The means as bars with the faces as dots, one panel per metric: 1×3×H×W in [0, 1]."""
    panels = {
        f"{textwrap.fill(column.title, 26)}\n{column.better} is better": {
            name: table.values[column.key] for name, table in comparison.tables.items()
        }
        for column in comparison.columns
    }
    return bars(panels, title)


def _remarks(comparison: Comparison) -> list[str]:
    return [*comparison.verdict(), *comparison.passes(), *comparison.gaps()]


def _plain(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return "inf" if math.isinf(value) else round(value, 6)
