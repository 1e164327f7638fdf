"""The experiment's arguments, marks and table; its parts are tested where they belong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import unseen_damage, unseen_faces, unseen_tables
from bfr.quality.metrics import HIGHER, LOWER
from bfr.quality.tables import Column, Table
from bfr.runtime.precision import suited_precision

COLUMNS = (Column("psnr", "PSNR, dB", HIGHER), Column("niqe", "NIQE", LOWER))


def table(psnr: list[float], niqe: list[float]) -> Table:
    names = tuple(str(number) for number in range(len(psnr)))
    return Table(names, COLUMNS, {"psnr": tuple(psnr), "niqe": tuple(niqe)})


def test_parts_can_run_alone():
    parse, parts = unseen_damage.parse, unseen_damage.parts
    assert len(list(parts(parse(["data", "out"])))) == 20
    one = parse(["data", "out", "--only", "real scans/soft"])
    assert list(parts(one)) == [("real scans", "soft")]
    assert not list(parts(parse(["data", "out", "--only", "table"])))
    with pytest.raises(SystemExit):
        parse(["data", "out", "--only", "real scans"])


@pytest.mark.parametrize("asked", ["auto", "float32"])
def test_the_settings_name_the_precision_that_is_taken(tmp_path: Path, asked: str):
    words = ["data", str(tmp_path), "--precision", asked]
    args = unseen_damage.parse(words if asked != "auto" else words[:2])
    assert args.precision == asked
    unseen_damage.check_same(args)
    taken = json.loads((tmp_path / "settings.json").read_text())["precision"]
    suited = suited_precision(torch.device("cpu"))
    assert taken == (suited if asked == "auto" else asked)
    unseen_damage.check_same(unseen_damage.parse([*words[:2], "--precision", taken]))
    other = {"float32": "bfloat16"}.get(taken, "float32")
    with pytest.raises(SystemExit, match=taken):
        unseen_damage.check_same(unseen_damage.parse([*words[:2], "--precision", other]))


def test_only_sure_differences_are_marked():
    base = table([20.0, 21, 22, 23], [5.0, 6, 5, 6])
    lines = unseen_tables.markdown(
        {"base": base, "tuned": table([21.0, 22.1, 22.9, 24], [5.5, 5.5, 5.5, float("nan")])}, base
    )
    assert lines[2] == "| base | 21.50 | 5.50 |"
    assert lines[3] == "| tuned | 22.50 ▲ | 5.50 |"


def test_pairs_find_their_clean_faces():
    given = torch.arange(3.0).view(3, 1, 1, 1).expand(-1, 3, 4, 4)
    faces = unseen_faces.DamagedFaces(given, 1 - given)
    chosen = unseen_tables.in_order(faces, ["crop 0003", "crop 0001"])
    assert chosen.clean is not None
    assert torch.equal(chosen.given, given[[2, 0]]) and torch.equal(chosen.clean, 1 - chosen.given)
