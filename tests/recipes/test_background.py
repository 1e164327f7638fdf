"""The recipe of the network for whole pictures, from photographs to a file that loads."""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bfr.restore.background import load_background
from bfr.restore.load import load_restorer
from recipes import background
from recipes import squares as cut
from recipes.background import KINDS, Pairs, damage
from recipes.squares import FOLDERS, SQUARE, held_out_squares, squares_of


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with one portrait of noise in each folder."""
    rng = np.random.default_rng(0)
    for folder in (*FOLDERS, "eval/hq"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        noise = rng.integers(0, 256, (300, 290, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "data" / folder / "0.png")
    return tmp_path / "data"


def options(**given) -> argparse.Namespace:
    defaults = {"minutes": 1e9, "steps": 1, "batch": 1, "workers": 0, "lr": 1e-3, "patch": 32}
    return argparse.Namespace(**(defaults | {"bfloat16": False} | given))


def test_from_photographs_to_a_file_that_goes_on(data, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(cut, "SHIPPED", ("chelsea",))
    squares, run = tmp_path / "squares", tmp_path / "run"
    background.prepare(data, squares, None)
    about = json.loads((squares / "squares.json").read_text())
    pixels = np.load(squares / "squares.npy")
    assert pixels.shape[1:] == (SQUARE, SQUARE, 3) and 0 < about["varied"] < len(pixels)
    for steps in (1, 2):
        background.train(squares, run, options(steps=steps))
        assert torch.load(run / "state.pt", weights_only=True)["step"] == steps
    background.export(run, tmp_path / "background.safetensors")
    loaded = load_background(tmp_path / "background.safetensors")
    means = [p for n, p in loaded.network.named_parameters() if n.endswith("sca.1.weight")]
    assert means and not any(weight.any() for weight in means), "it stays local"
    load_restorer(tmp_path / "background.safetensors")  # a plain NAFNet to others


def test_held_out_photographs_are_others(data, monkeypatch):
    assert not set(cut.SHIPPED) & set(cut.HELD)
    monkeypatch.setattr(cut, "HELD", ("astronaut",))
    found = held_out_squares(data, None)
    assert found["portraits"].shape == (1, 3, SQUARE, SQUARE) and len(found["scikit-image"]) > 1


def test_squares_cover_a_picture():
    picture = torch.arange(200 * 330).float().view(1, 1, 200, 330).expand(-1, 3, -1, -1)
    squares = list(squares_of(picture))
    assert all(square.shape == (3, SQUARE, SQUARE) for square in squares)
    assert len(torch.cat(squares).unique()) == 200 * 330
    assert not list(squares_of(picture[..., : SQUARE - 1]))


def test_damage_keeps_the_mean_tone_and_leaves_some_alone():
    rng, clean = np.random.default_rng(2), torch.full((1, 3, 64, 64), 0.5)
    pairs = [damage(clean, rng) for _ in range(60)]
    left = sum(torch.equal(damaged, wanted) for damaged, wanted in pairs)
    assert 1 <= left <= 25
    for damaged, wanted in pairs:
        assert damaged.shape == wanted.shape == clean.shape
        assert abs(float(damaged.mean() - wanted.mean())) < 0.03
    assert sum(kind.share for kind in KINDS.values()) == pytest.approx(1)


def test_pairs_are_patches_that_differ(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "squares.npy", rng.integers(0, 256, (3, SQUARE, SQUARE, 3), np.uint8))
    (tmp_path / "squares.json").write_text('{"varied": 1}')
    found = list(islice(Pairs(tmp_path, 32, seed=0), 8))
    assert all(a.shape == b.shape == (3, 32, 32) for a, b in found)
    assert any(not torch.equal(a, b) for a, b in found)
