"""What a run will take, before it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bfr.errors import OutOfMemoryError
from bfr.finetune import plan
from bfr.finetune.plan import (
    Pace,
    check_memory,
    device_bytes,
    make_plan,
    time_steps,
    training_bytes,
)
from bfr.finetune.settings import PRESETS
from tests.finetune_sets import PLAIN, pairs_folder, tiny_restorer

CPU = torch.device("cpu")


def test_memory_grows_with_what_is_trained():
    restorer, settings = tiny_restorer(), replace(PRESETS["quick"], patch=64)
    whole = training_bytes(restorer, settings)
    weights = sum(parameter.numel() for parameter in restorer.network.parameters())
    twice = replace(settings, batch=4, micro_batch=4)
    assert training_bytes(restorer, twice) - 20 * weights == 2 * (whole - 20 * weights) > 0
    for less in ({"adversarial": 0}, {"perceptual": 0}, {"checkpointing": True}, {"patch": 32}):
        assert training_bytes(restorer, replace(settings, **less)) < whole
    assert all(parameter.device.type == "cpu" for parameter in restorer.network.parameters())


def test_a_run_that_cannot_fit_is_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plan, "device_bytes", lambda device: 10**9)
    assert "0.5 GB" in check_memory(5 * 10**8, CPU) and "1.0 GB" in check_memory(1, CPU)
    with pytest.raises(OutOfMemoryError, match=r"2\.0 GB.*micro_batch"):
        check_memory(2 * 10**9, CPU)
    monkeypatch.setattr(plan, "device_bytes", lambda device: None)
    assert "2.0 GB" in check_memory(2 * 10**9, CPU), "where the total is not known, none is refused"


def test_the_memory_of_this_machine():
    total = device_bytes(CPU)
    assert total is not None and 10**8 < total < 10**15
    assert device_bytes(torch.device("meta")) is None


def test_steps_follow_from_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With a clock that goes on a second at every look, a step takes one second."""
    now = iter(range(1000))
    monkeypatch.setattr(plan.time, "perf_counter", lambda: next(now))
    pairs, base = pairs_folder(tmp_path), tiny_restorer()
    before = base.sha256
    pace = time_steps(base, pairs, PLAIN, validate_every=48)
    assert pace == Pace(1 + 48 / 48, 2 * 48)
    assert pace.steps(10) == (600 - 2 * 48) / 2 and pace.steps(0.001) == 1
    assert pace.seconds(pace.steps(10)) == 600
    assert base.sha256 == before


def test_the_plan_says_steps_memory_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pairs, base = pairs_folder(tmp_path), tiny_restorer()
    monkeypatch.setattr(plan, "time_steps", lambda *_, **__: Pace(2.0, 60.0))
    settings, words = make_plan(base, pairs, PLAIN, minutes=11)
    assert settings.steps == 300 and "300 steps" in words and "GB" in words and "11" in words
    assert make_plan(base, pairs, PLAIN)[0] == PLAIN
    begun = {"step": 7, "run": {"settings": {"steps": 21}}}
    settings, words = make_plan(base, pairs, PLAIN, minutes=11, state=begun)
    assert settings.steps == 21 and "7" in words
    monkeypatch.setattr(plan, "device_bytes", lambda device: 1)
    with pytest.raises(OutOfMemoryError):
        make_plan(base, pairs, PLAIN, minutes=11)


def test_adapters_need_less_memory():
    restorer = tiny_restorer()
    less = training_bytes(restorer, replace(PLAIN, adapter_rank=1))
    assert 0 < less < training_bytes(restorer, PLAIN)
