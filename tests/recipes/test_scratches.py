"""The recipe of the network that finds scratches runs from photographs to a file that loads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bfr.restore.scratches import find_scratches, load_scratch_finder
from recipes import scratches
from recipes.scene_lines import THINGS, put_lines
from recipes.scratch_samples import FOLDERS
from recipes.scratch_shapes import KINDS, SEEN, put_scratches


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a picture of noise in each folder."""
    rng = np.random.default_rng(0)
    for folder in (*FOLDERS, "eval/hq"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        picture = Image.fromarray(rng.integers(100, 110, (150, 160, 3), np.uint8))
        picture.save(tmp_path / "data" / folder / "0.png")
    return tmp_path / "data"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_to_be_found_can_be_seen(kind: str):
    rng, areas = np.random.default_rng(3), []
    picture = np.full((96, 128, 3), 0.5, np.float32)
    for _ in range(12):
        scratched, found, unsure = put_scratches(picture, rng, only=kind)
        changed = np.abs(scratched - picture).max(2)
        assert (changed[found] > SEEN).all() and not (found & unsure).any()
        if kind != "fold":  # which has a shadow
            assert not changed[~found & ~unsure].max() > SEEN
        areas.append(found.mean())
    assert 0 < np.mean(areas) < 0.4
    assert (picture == 0.5).all(), "the picture was written to"


def test_things_of_a_scene_are_drawn_into_it():
    rng, picture = np.random.default_rng(4), np.full((96, 128, 3), 0.5, np.float32)
    for thing in THINGS:
        areas = [(thing(96, 128, rng) > 0).mean() for _ in range(12)]
        assert 0 < np.mean(areas) < 0.9
    drawn = [put_lines(picture, rng) for _ in range(20)]
    assert all(each.min() >= 0 and each.max() <= 1 for each in drawn)
    assert np.mean([each.std() for each in drawn]) > 0.01
    assert (picture == 0.5).all(), "the picture was written to"


def test_from_photographs_to_a_file(data: Path, tmp_path: Path):
    run, file = tmp_path / "run", tmp_path / "scratches.safetensors"
    words = ["train", str(data), str(run), "--batch", "2", "--patch", "32", "--workers", "0"]
    scratches.main([*words, "--steps", "1"])
    first = torch.load(run / "state.pt", weights_only=True)
    scratches.main([*words, "--steps", "2"])
    second = torch.load(run / "state.pt", weights_only=True)
    assert (first["step"], second["step"]) == (1, 2)
    assert not torch.equal(first["network"]["head.weight"], second["network"]["head.weight"])
    scratches.main(["evaluate", str(data), str(run), "--grid", str(tmp_path)])
    assert (tmp_path / "scratches.png").exists()
    scratches.main(["export", str(run), str(file)])
    assert file.stat().st_size < 2_000_000
    found = find_scratches(torch.rand(1, 3, 40, 30), load_scratch_finder(file))
    assert found.shape == (1, 1, 40, 30)
