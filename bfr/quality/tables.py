"""Tables of metrics, and the comparison of several tables of the same faces.

A metric that a face does not have, for example because no face is found in it, is NaN: that face
is left out of the metric's means, in all tables that are compared.

`bfr.quality.measure` fills tables; `bfr.quality.render` writes comparisons as text, files and
plots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import InputError
from ..records import counted
from .metrics import HIGHER


@dataclass(frozen=True, slots=True)
class Column:
    """A metric in a table.

    Attributes:
        key: its name in files.
        title: its name in words, with its unit.
        better: "higher" or "lower".
        digits: after the point.
        whole: whether it is one value of all faces together, as FID is.
        limit: the value that a face passes on the better side of; None where there is none.
    """

    key: str
    title: str
    better: str
    digits: int = 2
    whole: bool = False
    limit: float | None = None

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
    """The metrics of some faces.

    Attributes:
        names: of the faces.
        columns: the metrics.
        values: by the column's key, one value per face, or a single one if the column is whole.
    """

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    values: Mapping[str, tuple[float, ...]]

    def mean(self, column: Column) -> float:
        """The mean of a metric over the faces that have it; NaN where none has."""
        known = [value for value in self.values[column.key] if not math.isnan(value)]
        return sum(known) / len(known) if known else math.nan

    def of_face(self, place: int) -> dict[str, float]:
        """The metrics of one face, by their keys."""
        return {c.key: self.values[c.key][place] for c in self.columns if not c.whole}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Tables of the same faces, restored in different ways.

    Attributes:
        tables: by the name of the way; means count only faces that have the metric in all.
    """

    tables: Mapping[str, Table]

    @property
    def columns(self) -> tuple[Column, ...]:
        return next(iter(self.tables.values())).columns

    def best(self, column: Column) -> str | None:
        """The name of the table with the best mean; None where the best round to one value."""
        means = {
            name: column.sign * round(mean, column.digits)
            for name, table in self.tables.items()
            if not math.isnan(mean := table.mean(column))
        }
        leading = [name for name, mean in means.items() if mean == max(means.values())]
        return leading[0] if len(leading) == 1 < len(means) else None

    def verdict(self) -> list[str]:
        """Sentences that say which table is best in which metrics; none for a single table."""
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
        """Sentences that say which metrics are missing on how many faces."""
        first = next(iter(self.tables.values()))
        missing = {c.title: sum(map(math.isnan, first.values[c.key])) for c in self.columns}
        return [
            f"{title}: could not be measured on {count} of {counted(len(first.names), 'face')}; "
            "left out of the means."
            for title, count in missing.items()
            if count
        ]

    def passes(self) -> list[str]:
        """On how many faces each table keeps within a metric's limit, in sentences."""
        sentences = []
        for column in self.columns:
            if (limit := column.limit) is None:
                continue
            counts = []
            for name, table in self.tables.items():
                known = [x for x in table.values[column.key] if not math.isnan(x)]
                within = sum(column.sign * x >= column.sign * limit for x in known)
                counts.append(f"{within} of {len(known)} faces ({name})")
            bound = "at least" if column.better == HIGHER else "at most"
            sentences.append(f"{column.title}: {bound} {limit:g} on {', '.join(counts)}.")
        return sentences

    def faces_better(self, column: Column) -> tuple[int, int]:
        """On how many faces the second of two tables beats the first, and of how many."""
        first, second = (table.values[column.key] for table in self.tables.values())
        better = [
            column.sign * b > column.sign * a
            for a, b in zip(first, second, strict=True)
            if not math.isnan(a)
        ]
        return sum(better), len(better)


def compare(tables: Mapping[str, Table]) -> Comparison:
    """Puts tables of the same faces side by side.

    Args:
        tables: by the name of the restorer or folder; the first is the one to beat.

    Raises:
        InputError: if there is none, or their faces or metrics differ.
    """
    if not tables:
        raise InputError("A comparison needs at least one table, got none. Measure faces first.")
    first = next(iter(tables.values()))
    for name, table in tables.items():
        if table.names != first.names or table.columns != first.columns:
            raise InputError(
                f"Tables to compare must have the same faces and metrics, got others in {name!r} "
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
    """One table of all the faces; each must have the same metrics, none of them ``whole``."""
    columns = tables[0].columns
    return Table(
        tuple(name for table in tables for name in table.names),
        columns,
        {c.key: tuple(value for table in tables for value in table.values[c.key]) for c in columns},
    )
