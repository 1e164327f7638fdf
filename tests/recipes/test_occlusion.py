"""The recipe of what lies in front of faces: its things, its loss, and the way to a file."""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bfr.faces.occlusion import find_in_front, load_occlusion
from recipes import occlusion, worn
from recipes.occluder_sources import SIDE, Sources, load_sources, skins_of
from recipes.occluders import KINDS, SHARES, draw_occluder, put_on
from recipes.occlusion_evaluation import overlap


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of prepared things: forty patches of one level each, two skins."""
    folder = tmp_path_factory.mktemp("things")
    levels = np.arange(0, 240, 6).astype(np.uint8)
    patches = np.broadcast_to(levels[:, None, None, None], (40, SIDE, SIDE, 3))
    np.save(folder / "patches.npy", patches)
    np.save(folder / "skins.npy", np.array([[0.8, 0.6, 0.5], [0.4, 0.3, 0.2]], np.float32))
    np.save(folder / "old.npy", np.full((2, SIDE, SIDE, 3), 90, np.uint8))
    (folder / "patches.json").write_text(json.dumps([f"{number}.jpg" for number in range(40)]))
    return folder


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 256, 256, 4), np.uint8)
    np.save(folder / "faces.npy", pixels)
    names = ["train/wiki/0.jpg", "train/congress/1.jpg", "train/congress/2.jpg"]
    (folder / "faces.json").write_text(json.dumps({"names": names, "repeats": [1, 1, 1]}))
    return folder


def held_and_shown(things: Path) -> tuple[Sources, Sources]:
    return load_sources(things, held=True), load_sources(things, held=False)


def test_what_is_held_out_is_not_learned(things: Path):
    held, shown = held_and_shown(things)
    levels = [set(sources.patches[:, 0, 0, 0].tolist()) for sources in (held, shown)]
    assert levels[0] and not levels[0] & levels[1] and len(levels[0] | levels[1]) == 40
    assert held.fonts and not set(held.fonts) & set(shown.fonts)


def test_kinds_have_their_shares():
    assert len(KINDS) == len(SHARES) and sum(SHARES) == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
def test_things_cover_what_their_outlines_say(things: Path, kind: str):
    """Nothing changes outside of the outline, but for a shadow; a seed draws one thing."""
    _, sources = held_and_shown(things)
    face = np.full((SIDE, SIDE, 3), 0.5, np.float32)
    seen = 0.0
    for seed in range(6):
        once, again = (
            put_on(face, draw_occluder(kind, sources, rng), rng)
            for rng in (np.random.default_rng(seed), np.random.default_rng(seed))
        )
        assert np.array_equal(once[0], again[0]) and np.array_equal(once[1], again[1])
        covered, outline = once
        assert covered.shape == face.shape and covered.min() >= 0 and covered.max() <= 1
        assert outline.shape == face.shape[:2] and outline.min() >= 0 and outline.max() <= 1
        assert (covered[outline == 0] <= 0.5).all(), "a shadow only darkens"
        seen += outline.mean()
    assert 0.01 < seen / 6 < 0.7


@pytest.mark.parametrize("kind", worn.KINDS)
def test_hair_and_shadows_change_a_face_where_they_belong(kind: str):
    """They are no thing in front, so nothing else may tell them from one than how they look."""
    face = np.full((SIDE, SIDE, 3), 0.5, np.float32)
    rng, changed = np.random.default_rng(0), np.zeros((SIDE, SIDE), bool)
    for _ in range(20):
        grown = worn.KINDS[kind](face, rng)
        assert grown.shape == face.shape and grown.min() >= 0 and grown.max() <= 1
        changed |= np.abs(grown - face).max(2) > 0.05
    assert changed.mean() > 0.02 and (face == 0.5).all()
    if kind != "shade":
        assert not changed[: SIDE // 2].any(), "no hair above the nose"


def test_skins_are_those_of_the_cheeks():
    faces = np.zeros((2, 100, 100, 3), np.float32)
    faces[:, 50:70] = np.array([0.7, 0.5, 0.4], np.float32)
    np.testing.assert_allclose(skins_of(faces), [[0.7, 0.5, 0.4]] * 2, atol=1e-6)


def test_bare_and_covered_faces_are_drawn(faces: Path, things: Path):
    drawn = list(islice(occlusion.Covered(faces, things, 0), 40))
    bare = sum(not outline.any() for _, outline in drawn) / 40
    assert 0.1 < bare < 0.6
    assert {tuple(face.shape) for face, _ in drawn} == {(3, SIDE, SIDE)}


def test_the_face_counts_more_than_what_is_beside_it():
    nothing, beside, before = torch.zeros(3, 1, 1, SIDE, SIDE)
    beside[..., :16, :16] = before[..., 140:156, 120:136] = 1.0
    sure = torch.full_like(nothing, -6)
    none, missed, worse = (occlusion.outline_loss(sure, x) for x in (nothing, beside, before))
    assert none < missed < worse
    assert occlusion.outline_loss(12 * before - 6, before) < worse / 3


def test_overlap():
    found = torch.zeros(2, 1, SIDE, SIDE)
    found[..., 120:160, 120:160] = 1.0
    wanted = found.clone()
    wanted[1, :, 120:140] = 0.0
    assert overlap(found, wanted).tolist() == [1.0, 0.5]


def test_recipe(tmp_path: Path, faces: Path, things: Path):
    run, file = tmp_path / "run", tmp_path / "occlusion.safetensors"
    given = {"minutes": 1e9, "steps": 1, "batch": 2, "workers": 0, "lr": 1e-3}
    given |= {"bfloat16": False, "start": None}
    occlusion.train(faces, things, run, argparse.Namespace(**given))
    occlusion.train(faces, things, run, argparse.Namespace(**given | {"steps": 2}))
    assert torch.load(run / "state.pt", weights_only=True)["step"] == 2
    occlusion.export(run, file)
    assert file.stat().st_size < 3_000_000
    further = given | {"start": file, "steps": 1, "lr": 0.0}
    occlusion.train(faces, things, tmp_path / "further", argparse.Namespace(**further))
    state = torch.load(tmp_path / "further" / "state.pt", weights_only=True)["network"]
    assert torch.equal(state["head.weight"].half(), load_file(file)["head.weight"])
    crops = torch.rand(1, 3, SIDE, SIDE)
    exported = find_in_front(crops, load_occlusion(file))
    assert exported.shape == (1, 1, SIDE, SIDE)
