"""The recipe of NIQE's statistics runs from faces to a file that loads."""

from __future__ import annotations

import json

import numpy as np
import torch

from bfr.quality.niqe import load_statistics, niqe, patch_features
from recipes import niqe as recipe


def test_recipe(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 256, 256, 4), np.uint8)
    pixels[1] = pixels[1] // 2 + 60
    pixels[2, :64] = 128
    (tmp_path / "faces").mkdir()
    np.save(tmp_path / "faces/faces.npy", pixels)
    names = ["train/wiki/0.jpg", "train/generated/1.jpg", "train/congress/2.jpg"]
    (tmp_path / "faces/faces.json").write_text(json.dumps({"names": names}))
    file = tmp_path / "niqe.safetensors"
    recipe.fit(tmp_path / "faces", file)
    found = load_statistics(file)
    images = torch.from_numpy(pixels[..., :3]).permute(0, 3, 1, 2) / 255
    features = patch_features(images, 256, found.patch)
    per_face = [f[f.isfinite().all(-1)] for f in features]
    sums = [w * f.sum(0) for w, f in zip((1, 0.4, 1), per_face, strict=True)]
    count = sum(w * len(f) for w, f in zip((1, 0.4, 1), per_face, strict=True))
    torch.testing.assert_close(found.mean, torch.stack(sums).sum(0) / count)
    assert niqe(images, found).max() < niqe(0.5 * images, found).min() + 10
    assert len(per_face[2]) < 64 == len(per_face[0])


def test_damage_changes_faces_as_named():
    faces = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    sets = dict(recipe.damaged_sets(faces))
    assert len(sets) == sum(map(len, recipe.DAMAGE.values()))
    assert all((images != faces).any() for images in sets.values())
