"""What the recipes show beside their figures: the worst pictures first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bfr.files.photos import read_photo
from bfr.records import Face, FaceSet
from recipes.detector_evaluation import landmark_error, looks_ahead
from recipes.faces import LabelledImage
from recipes.grids import CELL, reduced, worst_first, write_versions, write_worst

EYES = ((10.0, 10.0), (30.0, 10.0), (20.0, 20.0), (12.0, 30.0), (28.0, 30.0))


def test_the_worst_come_first_then_some_of_all():
    quality = torch.randperm(200, generator=torch.Generator().manual_seed(0)).float()
    shown = quality[worst_first(quality)].tolist()
    assert len(shown) == len(set(shown)) == 24 and shown == sorted(shown)
    assert shown[:6] == [0, 1, 2, 3, 4, 5] and shown[-1] == 199
    assert max(np.diff(shown[6:])) <= 12, "evenly"
    assert worst_first(quality[:9]).tolist() == quality[:9].argsort().tolist()


def test_versions_stand_side_by_side(tmp_path: Path):
    light, dark = torch.full((4, 3, 64, 64), 0.9), torch.full((4, 3, 64, 64), 0.3)
    write_versions(tmp_path / "new" / "sheet.png", [light, dark], ["light", "dark"], across=2)
    drawn = read_photo(tmp_path / "new" / "sheet.png").pixels[0].mean(0)
    middle = drawn[-30]  # of the last row
    near = [((middle - value).abs() < 0.01).sum().item() for value in (0.9, 0.3)]
    assert near == [2 * 32, 2 * 32], "two of each in a row, at half their size"


def test_pictures_of_any_size_fit(tmp_path: Path):
    wide = reduced(torch.full((1, 3, 300, 3 * CELL), 0.5))
    assert wide.shape == (3, 100, CELL) and wide.mean() == 0.5
    assert reduced(torch.zeros(1, 3, 40, 30)).shape == (3, 40, 30)
    write_worst(tmp_path / "sheet.png", [wide, torch.zeros(3, 40, 30)], torch.zeros(2))
    assert read_photo(tmp_path / "sheet.png").pixels.shape[-1] > 6 * CELL


@pytest.mark.parametrize(("moved", "expected"), [(0.0, 0.0), (3.0, 0.15), (15.0, np.inf)])
def test_landmark_errors_count_in_eye_distances(moved: float, expected: float):
    truth = np.array(EYES, np.float32)[None]
    near = Face((0, 0, 40, 40), 0.9, tuple((x + moved, y) for x, y in EYES))
    far = Face((0, 0, 40, 40), 1.0, tuple((x + 200, y) for x, y in EYES))
    found = FaceSet(((far, near),), (300, 300))
    assert landmark_error(LabelledImage(Path("a"), truth), found) == pytest.approx(expected)
    assert landmark_error(LabelledImage(Path("a"), truth), FaceSet(((),), (300, 300))) == np.inf


@pytest.mark.parametrize(("nose", "ahead"), [(50.0, True), (53.0, True), (56.0, False)])
def test_a_portrait_looks_ahead(nose: float, ahead: bool):
    truth = np.array([[[40.0, 50], [60, 50], [nose, 60], [42, 70], [58, 70]]])
    assert looks_ahead(LabelledImage(Path("a"), truth)) is ahead
