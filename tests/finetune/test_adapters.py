"""Low-rank adapters: the base at first, merged in every file, resumed to the bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bfr.errors import CancelledError, InputError
from bfr.finetune.adapters import LowRank, add_adapters, load_plain, matrix_shape, plain_state
from bfr.finetune.loop import finetune
from bfr.restore.load import load_restorer
from bfr.restore.restorer import Restorer
from tests.finetune.test_loop import judge_by_distance
from tests.finetune_sets import QUICK, pairs_folder, tiny_restorer
from tests.trainable import gfpgan, nafnet, restoreformer, swinir

ADAPTED = replace(QUICK, adapter_rank=1, perceptual=0.0)


@pytest.mark.parametrize("make", [nafnet, swinir, gfpgan, restoreformer])
def test_a_network_with_adapters_begins_as_the_base_and_trains_less(make):
    base: Restorer = make()
    before, network = plain_state(base.network), base.copy().network
    count = sum(parameter.numel() for parameter in network.parameters())
    assert add_adapters(network, 1) > 0
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trained < count / 2
    after = plain_state(network)
    assert after.keys() == before.keys() == base.network.state_dict().keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_no_rank_adds_none_and_frozen_weights_get_none():
    network = nafnet().network
    assert add_adapters(network, 0) == 0
    network.requires_grad_(False)
    assert add_adapters(network, 1) == 0


def test_merging_is_what_the_network_computes_with():
    base, faces = nafnet(), torch.rand(1, 3, 16, 16)
    tuned, plain = base.copy(), base.copy()
    add_adapters(tuned.network, 1)
    for module in tuned.network.modules():
        if isinstance(module, LowRank):
            module.up.data.normal_(0, 0.1)
    plain.network.load_state_dict(plain_state(tuned.network))
    with torch.no_grad():
        assert torch.equal(tuned(faces), plain(faces))
        assert not torch.equal(base(faces), plain(faces))
        load_plain(tuned.network, plain_state(base.network))
        assert torch.equal(tuned(faces), base(faces))


@pytest.mark.parametrize(
    ("shape", "expected"), [((4, 3, 3, 3), (4, 27)), ((1, 4, 3, 3, 3), (4, 27)), ((5,), (5, 1))]
)
def test_weights_as_matrices(shape, expected):
    assert matrix_shape(torch.zeros(shape)) == expected


def test_a_run_writes_stock_files_and_resumes_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    judge_by_distance(monkeypatch)
    pairs, base = pairs_folder(tmp_path / "pairs"), tiny_restorer()

    def tune(run: str, stop: int = -1):
        def on_step(done: int, total: int, preview: object) -> None:
            if done == stop:
                raise CancelledError("enough")

        place = tmp_path / run
        return finetune(base, pairs, place, ADAPTED, keep_worse=True, on_step=on_step)

    whole = tune("whole")
    assert not tune("parts", stop=2).finished
    parts = tune("parts")
    names = base.network.state_dict().keys()
    found, again = whole.restorer.network.state_dict(), parts.restorer.network.state_dict()
    assert found.keys() == names
    assert all(torch.equal(found[name], again[name]) for name in names)
    assert whole.restorer.sha256 != base.sha256
    for path in tmp_path.glob("*/best.safetensors"):
        assert load_restorer(path).network.state_dict().keys() == names
    assert json.loads((tmp_path / "whole/state.json").read_text())["step"] == ADAPTED.steps
    with pytest.raises(InputError, match="adapter_rank"):
        finetune(base, pairs, tmp_path / "whole", replace(ADAPTED, adapter_rank=0))
