"""The tables and grids of `benchmarks.unseen_damage`."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.unseen_faces import DamagedFaces, evaluation_faces
from bfr.files.photos import Photo
from bfr.files.whole import atomic_path
from bfr.files.writing import write_photo
from bfr.image.sheets import sheet
from bfr.quality.tables import Column, Table
from bfr.restore.load import load_restorer
from bfr.restore.restorer import restore_faces


def _table(content: dict[str, Any]) -> Table:
    columns = tuple(Column(**column) for column in content["columns"])
    return Table(tuple(content["names"]), columns, content["values"])


def tabulate(args: argparse.Namespace) -> str:
    """OUT/table.md, table.json and the grids, of all the parts that are done."""
    lines = ["Marked against the base, or the guess, where the paired difference exceeds two "]
    lines[0] += "standard errors: ▲ better, ▼ worse.\n"
    means: dict[str, dict[str, object]] = {}
    for damage in args.damages:
        if not (file := args.out / damage / "figures.json").exists():
            continue
        measured = {name: _table(table) for name, table in json.loads(file.read_text()).items()}
        tuning: dict[str, Table] = {}
        for way in args.ways:
            if (file := args.out / damage / way / "figures.json").exists():
                done = json.loads(file.read_text())
                note = "" if done["improved"] else ", no better by its own score"
                name = f"tuned, {way} (step {done['best step']}{note})"
                measured[name] = _table(done["restored"])
                tuning.setdefault("guess", _table(done["guess"]))
                tuning[f"pseudo target, {way}"] = _table(done["target"])
        lines += [f"## {damage}\n", *markdown(measured, measured["base"])]
        if tuning:
            lines += ["Of the tuning faces:\n", *markdown(tuning, tuning["guess"])]
        means[damage] = {
            name: {column.key: table.mean(column) for column in table.columns}
            for name, table in (measured | tuning).items()
        }
        write_photo(args.out / f"{damage}.png", Photo(draw(damage, args)))
    text = "\n".join(lines)
    write_json(args.out / "table.json", means)
    with atomic_path(args.out / "table.md") as path:
        path.write_text(text, encoding="utf-8")
    return text


def markdown(tables: dict[str, Table], base: Table) -> list[str]:
    titles = [column.title for column in base.columns]
    lines = [
        f"| {len(base.names)} faces | {' | '.join(titles)} |",
        "|---" + "|---:" * len(titles) + "|",
    ]
    for name, table in tables.items():
        cells = [
            f"{column.shown(table.mean(column))} {_mark(table, base, column)}".strip()
            for column in base.columns
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def _mark(table: Table, base: Table, column: Column) -> str:
    """True if a mean surely differs from the base's, face by face."""
    gains = torch.tensor(table.values[column.key]) - torch.tensor(base.values[column.key])
    gains = gains[gains.isfinite()] * column.sign
    if len(gains) < 2 or gains.mean().abs() <= 2 * gains.std() / math.sqrt(len(gains)):
        return ""
    return "▲" if gains.mean() > 0 else "▼"


def draw(damage: str, args: argparse.Namespace) -> Tensor:
    """A row for each of some faces: damaged, by the base, by each tuned restorer, and clean."""
    seen = evaluation_faces(args.data, args.out, damage, args.evaluated)
    shown = torch.linspace(0, len(seen.given) - 1, min(args.shown, len(seen.given))).long()
    given = seen.given[shown]
    columns = {"damaged": given, "base": restore_faces(given, load_restorer())}
    for way in args.ways:
        file = args.out / damage / way / "restorer.safetensors"
        if file.exists():
            columns[f"tuned, {way}"] = restore_faces(given, load_restorer(file))
    if seen.clean is not None:
        columns["clean"] = seen.clean[shown]
    cells = [faces[i] for i in range(len(shown)) for faces in columns.values()]
    return sheet(cells, column_labels=list(columns), title=damage)


def in_order(faces: DamagedFaces, names: Sequence[str]) -> DamagedFaces:
    """The tuning faces in the order of their pairs, whose sources end in their numbers."""
    order = [int(name.rpartition(" ")[2]) - 1 for name in names]
    return DamagedFaces(faces.given[order], None if faces.clean is None else faces.clean[order])


def write_json(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as path:
        path.write_text(json.dumps(content), encoding="utf-8")
