"""Plots: what is drawn shows, where it should."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bfr.errors import InputError
from bfr.image.plots import bars, curves

BLUE, ORANGE = ((0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00))


def height_of(colour: tuple[int, int, int], plot: Tensor) -> int:
    """How many rows have pixels of a colour."""
    wanted = torch.tensor(colour)[:, None, None] / 255
    return int(((plot[0] - wanted).abs().amax(0) < 0.01).any(1).sum())


def test_curves_are_a_picture():
    drawn = curves({"loss": ([0, 1, 2], [3.0, 2.0, 1.0]), "critic": ([0], [0.5])}, "Losses")
    assert drawn.shape == (1, 3, 540, 960) and drawn.dtype == torch.float32
    assert 0 <= drawn.min() < drawn.max() <= 1
    assert height_of(BLUE, drawn) > 200 > 20 > height_of(ORANGE, drawn) > 0
    same = curves({"loss": ([0, 1, 2], [3.0, 2.0, 1.0]), "critic": ([0], [0.5])}, "Losses")
    assert torch.equal(drawn, same)


def test_values_that_cannot_be_drawn_are_left_out():
    clean = curves({"loss": ([0, 2, 3], [3.0, 1.0, 2.0])}, log=True)
    values = [3.0, math.nan, 1.0, 2.0, -1.0, math.inf]
    assert torch.equal(curves({"loss": ([0, 1, 2, 3, 4, 5], values)}, log=True), clean)


def test_a_noisy_curve_is_drawn_by_its_mean():
    """Of values that jump between two, the strong line stays in the middle."""
    steps = list(range(400))
    jumping = {"loss": (steps, [step % 2 for step in steps])}
    assert height_of(BLUE, curves(jumping)) < 60
    assert height_of(BLUE, curves({"loss": (steps[:40], jumping["loss"][1][:40])})) > 300


def test_bars_are_as_high_as_their_means():
    drawn = bars({"PSNR": {"base": [10.0], "tuned": [20.0]}})
    low, high = height_of(BLUE, drawn) - 12, height_of(ORANGE, drawn)  # the legend has both
    assert high - 12 == pytest.approx(2 * low, abs=6)
    several = bars({"PSNR": {"base": [8.0, 12.0, math.nan], "tuned": [20.0, math.nan, 20.0]}})
    assert height_of(BLUE, several) == pytest.approx(low + 12, abs=4)


def test_a_bar_without_a_figure_stays_empty():
    drawn = bars({"moved": {"base": [math.nan], "tuned": [1.0]}}, "Faces")
    assert height_of(BLUE, drawn) < 15 < height_of(ORANGE, drawn)
    infinite = bars({"moved": {"base": [math.inf], "tuned": [1.0]}}, "Faces")
    assert height_of(BLUE, infinite) < 15 and not torch.equal(infinite, drawn), "but told"


def test_many_panels_fill_several_rows():
    panel = {"base": [1.0], "tuned": [2.0]}
    one, many = bars({"a": panel}), bars({str(number): panel for number in range(9)})
    assert many.shape[2] > 2 * one.shape[2] and many.shape[3] > 2 * one.shape[3], "3 by 3"


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="got none"):
        curves({})
    with pytest.raises(InputError, match="2 steps and 1 values"):
        curves({"loss": ([0, 1], [1.0])})
    for nothing in ({}, {"a": {}}):
        with pytest.raises(InputError, match="got none"):
            bars(nothing)
    with pytest.raises(InputError, match="in 'b'"):
        bars({"a": {"x": [1.0]}, "b": {"y": [1.0]}})
