"""Tables of figures: what is measured of what, and which of several restorers is better."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest

from bfr.errors import InputError
from bfr.quality import render
from bfr.quality.metrics import HIGHER, LOWER
from bfr.quality.tables import Column, Table, compare

# Comparing ---------------------------------------------------------------------------------------

PSNR, NIQE = Column("psnr", "PSNR, dB", HIGHER), Column("niqe", "NIQE", LOWER)


def table(high: list[float], low: list[float]) -> Table:
    names = tuple(f"{place}.png" for place in range(len(high)))
    return Table(names, (PSNR, NIQE), {"psnr": tuple(high), "niqe": tuple(low)})


def test_the_better_of_two():
    both = compare({"base": table([20, 30], [5, 5]), "tuned": table([26, 28], [4.0, 4.5])})
    assert (both.best(PSNR), both.best(NIQE)) == ("tuned", "tuned")
    assert render.as_text(both).splitlines() == [
        "          better is   base   tuned  faces better",
        "PSNR, dB     higher  25.00  *27.00        1 of 2",
        "NIQE          lower   5.00   *4.25        2 of 2",
        "",
        "tuned is better in 2 of 2: PSNR, dB; NIQE.",
    ]
    assert render.as_markdown(both).splitlines() == [
        "|  | better is | base | tuned | faces better |",
        "|---|--:|--:|--:|--:|",
        "| PSNR, dB | higher | 25.00 | **27.00** | 1 of 2 |",
        "| NIQE | lower | 5.00 | **4.25** | 2 of 2 |",
        "",
        "tuned is better in 2 of 2: PSNR, dB; NIQE.",
    ]


def test_what_looks_alike_is_no_win():
    both = compare({"base": table([20.001], [5]), "tuned": table([20.004], [6])})
    assert both.best(PSNR) is None and both.best(NIQE) == "base"
    assert both.verdict() == ["base is better in 1 of 2: NIQE.", "Alike in 1 of 2: PSNR, dB."]


def test_the_best_of_three():
    three = compare({name: table([high], [5]) for name, high in zip("abc", (1, 3, 2), strict=True)})
    assert three.verdict() == ["b is best in 1 of 2: PSNR, dB.", "Alike in 1 of 2: NIQE."]
    assert render.rows(three, str)[0] == ["", "better is", "a", "b", "c"]


def test_a_single_table_has_no_best():
    one = compare({"mine": table([20, math.inf], [5, 6])})
    assert one.verdict() == [] and one.best(PSNR) is None
    assert render.rows(one, "*{}".format)[1:] == [
        ["PSNR, dB", "higher", "equal"],
        ["NIQE", "lower", "5.50"],
    ]


def test_means_are_of_the_same_faces():
    """A face without a figure in one table counts in none; and it is told."""
    hard, easy = math.nan, 10.0
    both = compare({"base": table([20, 20], [hard, 6]), "tuned": table([20, 20], [easy, 5])})
    assert both.tables["tuned"].mean(NIQE) == 5 and both.best(NIQE) == "tuned"
    assert render.rows(both, str)[2][-1] == "1 of 1"
    (gap,) = both.gaps()
    assert gap.startswith("NIQE") and "1 of 2 faces" in gap
    assert both.gaps()[0] in render.as_text(both) and both.gaps()[0] in render.as_markdown(both)
    nothing = compare({"base": table([20], [math.nan]), "tuned": table([20], [5])})
    assert nothing.best(NIQE) is None and render.rows(nothing, str)[2][2:] == ["-", "-", "0 of 0"]


def test_files():
    both = compare({"base": table([20, math.inf], [5, math.nan]), "tuned": table([21, 1], [4, 2])})
    assert list(csv.reader(io.StringIO(render.as_csv(both)))) == [
        ["folder", "face", "psnr", "niqe"],
        ["base", "0.png", "20", "5"],
        ["base", "1.png", "inf", ""],
        ["tuned", "0.png", "21", "4"],
        ["tuned", "1.png", "1", ""],
    ]
    told = json.loads(render.as_json(both))
    assert told["figures"]["niqe"] == {"title": "NIQE", "better": "lower", "best": "tuned"}
    assert told["folders"]["base"] == {
        "mean": {"psnr": "inf", "niqe": 5.0},
        "faces": {"0.png": {"psnr": 20.0, "niqe": 5.0}, "1.png": {"psnr": "inf", "niqe": None}},
    }


def test_the_plot_shows_every_figure(monkeypatch: pytest.MonkeyPatch):
    drawn: list[dict] = []
    monkeypatch.setattr(render, "bars", lambda panels, title: drawn.append(panels))
    render.plot(compare({"base": table([20], [5]), "tuned": table([26], [4])}), "Faces")
    assert drawn == [
        {
            "PSNR, dB\nhigher is better": {"base": (20,), "tuned": (26,)},
            "NIQE\nlower is better": {"base": (5,), "tuned": (4,)},
        }
    ]


def test_other_faces_are_not_compared():
    with pytest.raises(InputError, match="got none"):
        compare({})
    with pytest.raises(InputError, match="'b'"):
        compare({"a": table([1], [1]), "b": table([1, 2], [1, 2])})
