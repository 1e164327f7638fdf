"""A run's folder: one state, whole at any moment, and a log that fits it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from bfr.errors import CorruptWeightsError, InputError, OutputError
from bfr.finetune.run_folder import RunFolder, State, check_same, pack, part_of, unpack


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    assert run.open({}, None, lambda: None) is None
    return run


def trained(steps: int) -> tuple[nn.Module, torch.optim.AdamW]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.ones(2, 3).cumsum(0)).square().sum().backward()
        optimizer.step()
    return network, optimizer


def test_a_state_is_read_as_it_was_saved(folder: RunFolder):
    assert folder.read() is None
    facts = {"step": 3, "gain": -1.5, "name": "é"}
    folder.save(State({"network a.b": torch.arange(3)}, facts))
    found = folder.read()
    assert found is not None and found.facts == facts
    assert torch.equal(found.tensors["network a.b"], torch.arange(3))
    assert json.loads((folder.folder / "state.json").read_text()) == facts


def test_networks_and_optimizers_go_on_as_if_nothing_had_been(folder: RunFolder):
    network, optimizer = trained(3)
    folder.save(State(pack({"network": network}, {"optimizer": optimizer}), {}))
    state = folder.read()
    assert state is not None
    other, its = trained(0)
    unpack(state.tensors, {"network": other}, {"optimizer": its})
    for some, one in ((network, optimizer), (other, its)):
        one.zero_grad()
        some(torch.ones(2, 3).cumsum(0)).square().sum().backward()
        one.step()
    wanted, found = network.state_dict(), other.state_dict()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_packing_copies(folder: RunFolder):
    network, optimizer = trained(1)
    packed = pack({"network": network}, {"optimizer": optimizer})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert packed["network 0.weight"].abs().sum() > 0
    assert part_of(packed, "network").keys() == network.state_dict().keys()
    assert len(part_of(packed, "optimizer")) == 3 * 4  # step and two means of each parameter


def test_nothing_is_left_of_a_state_that_does_not_fit_the_disk(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
):
    folder.save(State({"a": torch.zeros(2)}, {"step": 1}))

    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bfr.finetune.run_folder.save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        folder.save(State({"a": torch.ones(2)}, {"step": 2}))
    found = folder.read()
    assert found is not None and found.facts == {"step": 1}
    assert {path.name for path in folder.folder.iterdir()} == {
        "samples",
        "state.safetensors",
        "state.json",
    }


def test_a_damaged_state_is_named(folder: RunFolder):
    folder.save(State({"a": torch.zeros(100)}, {"step": 1}))
    path = folder.folder / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CorruptWeightsError, match="another folder"):
        folder.read()


def test_the_log_is_cut_back_to_the_state(folder: RunFolder):
    for step in range(5):
        folder.add({"step": step, "loss": 1.0})
        if step % 2 == 0:
            folder.add({"step": step, "gain": 0.0})
            folder.draw(f"samples/step_{step:06d}.png", torch.zeros(1, 3, 2, 2))
    with (folder.folder / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    folder.rewind(step=4, validated=2)
    assert [(line["step"], "gain" in line) for line in folder.lines()] == [
        (0, False),
        (0, True),
        (1, False),
        (2, False),
        (2, True),
        (3, False),
        (4, False),
    ]
    pictures = sorted(path.name for path in (folder.folder / "samples").iterdir())
    assert pictures == ["step_000000.png", "step_000002.png"]


def test_only_one_process_writes(tmp_path: Path):
    other = RunFolder(tmp_path / "run", writes=False)
    other.open({}, None, lambda: None)
    other.save(State({}, {}))
    other.add({"step": 1})
    other.draw("loss.png", torch.zeros(1, 3, 2, 2))
    other.rewind(0, 0)
    assert not (tmp_path / "run").exists() and list(other.lines()) == []


def test_clearing_leaves_what_is_not_the_runs(folder: RunFolder):
    folder.save(State({}, {}))
    folder.add({"step": 1})
    (folder.folder / "restorer.safetensors").write_bytes(b"mine")
    folder.clear()
    assert {path.name for path in folder.folder.iterdir()} == {"samples", "restorer.safetensors"}


def test_opening(folder: RunFolder):
    waited: list[int] = []

    def opened(resume: bool | None, identity: dict[str, int]) -> State | None:
        return folder.open(identity, resume, lambda: waited.append(1))

    with pytest.raises(InputError, match="no run to resume"):
        opened(True, {"a": 1})
    folder.add({"step": 0})
    assert opened(None, {"a": 1}) is None and not list(folder.lines()), "it was never saved"
    folder.save(State({}, {"run": {"a": 1}}))
    for resume in (None, True):
        assert opened(resume, {"a": 1}) is not None
        with pytest.raises(InputError, match="a was 1 and is 2"):
            opened(resume, {"a": 2})
    assert opened(False, {"a": 2}) is None and folder.read() is None
    assert len(waited) == 2 * 7, "all processes wait before and after the state is read"


def test_what_differs_is_named():
    stored = {"settings": {"lr": 0.1, "seed": 0}, "base": "abc" * 20, "clean": None}
    check_same(stored, {**stored, "settings": {"lr": 0.1, "seed": 0}}, Path("run"))
    with pytest.raises(InputError) as found:
        check_same(stored, {**stored, "settings": {"lr": 0.2, "seed": 0}, "clean": "x"}, Path("r"))
    assert "settings lr was 0.1 and is 0.2" in str(found.value)
    assert "clean was not given and is x" in str(found.value) and "seed" not in str(found.value)
