"""Bands of rows: all of them, once, and none too large."""

from __future__ import annotations

import pytest
import torch

import bfr.image.bands
from bfr.image.bands import bands, rows_of


@pytest.mark.parametrize("width", [3, 10, 21, 500])
def test_bands_cover_all_rows_once(monkeypatch: pytest.MonkeyPatch, width: int):
    monkeypatch.setattr(bfr.image.bands, "BAND", 100)
    parts = bands(range(5, 42), width)
    assert [row for part in parts for row in part] == list(range(5, 42))
    assert all(len(part) * width <= 100 or len(part) == 1 for part in parts)
    assert min(map(len, bands(range(40), width, 2))) >= 2


def test_rows_of_an_image_and_of_what_is_made_as_it_is_asked_for():
    image = torch.rand(1, 3, 9, 4)
    assert torch.equal(rows_of(image)(range(2, 5)), image[:, :, 2:5])
    made = rows_of(lambda rows: torch.full((1, 1, len(rows), 4), float(rows.start)))
    assert torch.equal(made(range(3, 5)), torch.full((1, 1, 2, 4), 3.0))
