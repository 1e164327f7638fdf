"""The damage of a set of pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bfr.errors import InputError
from bfr.pairs.damage import compare_damage, damage_of
from bfr.pairs.folder import PairSet
from tests.finetune_sets import pairs_folder


def test_it_is_learned_from_targets_and_damaged_faces(tmp_path: Path):
    pairs = pairs_folder(tmp_path, 5, size=64)
    damage = damage_of(pairs)
    assert len(damage) == 5 and damage.size == 64
    assert float(damage.levels[..., 0].mean()) == pytest.approx(0.7, abs=0.03), "they are darker"
    assert damage.sha256 == damage_of(pairs).sha256
    assert len(damage_of(pairs, most=2)) == 2
    sheet, other = (compare_damage(pairs, damage, seed) for seed in (0, 1))
    third = (sheet.shape[3] + 2) // 3
    assert torch.equal(sheet[..., : 2 * third], other[..., : 2 * third]), "targets and real ones"
    assert not torch.equal(sheet[..., 2 * third :], other[..., 2 * third :]), "drawn by the seed"


def test_a_set_that_shows_no_damage_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="finished pairs"):
        damage_of(PairSet(tmp_path, ()))
    with pytest.raises(InputError, match="64 pixels"):
        damage_of(pairs_folder(tmp_path / "small", 2, size=32))
