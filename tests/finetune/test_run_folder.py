"""A run's folder: one state, whole at any moment, and a log that fits it."""

from __future__ import annotations

import errno
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from bfr.errors import CorruptWeightsError, InputError, OutputError
from bfr.finetune.identity import check_same
from bfr.finetune.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    assert run.open({}, None, lambda: None) is None
    return run


def a_state(**facts: Any) -> dict[str, Any]:
    nothing = {
        "run": {"base": "0", "settings": {}},
        "step": 0,
        "validations": [],
        "modules": {},
        "best": {},
    }
    return {**nothing, "diverged": "", **facts}


def test_a_state_is_read_as_it_was_saved(folder: RunFolder):
    assert folder.read() is None
    told = {"step": 3, "validations": [{"step": 0, "gain": None, "name": "é"}]}
    folder.save(a_state(**told, modules={"network": {"a.b": torch.arange(3)}}))
    found = folder.read()
    assert found is not None and found["validations"] == told["validations"]
    assert torch.equal(found["modules"]["network"]["a.b"], torch.arange(3))
    facts = json.loads((folder.folder / "state.json").read_text())
    assert facts == {"run": {"base": "0", "settings": {}}, "step": 3, "diverged": ""}


def test_nothing_is_left_of_a_state_that_does_not_fit_the_disk(folder: RunFolder):
    resource = pytest.importorskip("resource")  # a limit on files fails as a full disk does
    folder.save(a_state(step=1))
    before = {path.name for path in folder.folder.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError, match=os.strerror(errno.EFBIG)):
            folder.save(a_state(step=2, best={"a": torch.zeros(1000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    found = folder.read()
    assert found is not None and found["step"] == 1
    assert {path.name for path in folder.folder.iterdir()} == before


def test_a_damaged_state_is_named(folder: RunFolder):
    folder.save(a_state(best={"a": torch.zeros(1000)}))
    path = folder.folder / "state.pt"
    whole = path.read_bytes()
    for damaged in (whole[:-10], whole[:100], b"", b"nonsense", pickle.dumps({"a": print})):
        path.write_bytes(damaged)
        with pytest.raises(CorruptWeightsError, match=r"state\.pt"):
            folder.read()
        assert path.read_bytes() == damaged
    odd = ({"step": "3"}, {"run": {}}, {"run": []}, {"best": [1]}, {"diverged": None})
    for other in ([1, 2], {"network": {}, "step": 3}, *(a_state(**facts) for facts in odd)):
        torch.save(other, path)
        with pytest.raises((CorruptWeightsError, InputError), match=r"state\.pt"):
            folder.open({}, False, lambda: None)
        assert path.exists()


def test_a_changed_bit_of_the_state_is_noticed(folder: RunFolder):
    folder.save(a_state(best={"a": torch.rand(1000)}))
    path = folder.folder / "state.pt"
    data = bytearray(path.read_bytes())
    data[data.index(b"PK", 1500) - 1500] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptWeightsError, match=r"state\.pt.*changed"):
        folder.read()


@pytest.mark.parametrize(
    "text", ["3", "[]", '{"step": "x"}', '{"no": 1}', "\xff\x00", '{"step": 5, "lo']
)
def test_a_damaged_line_of_the_log_is_ignored(folder: RunFolder, text: str):
    folder.add({"step": 1, "loss": 1.0})
    with (folder.folder / "log.jsonl").open("ab") as file:
        file.write(text.encode("latin-1"))
    assert list(folder.lines()) == [{"step": 1, "loss": 1.0}]


def test_pictures_of_other_names_stay(folder: RunFolder):
    other = folder.folder / "samples" / "step_abc.png"
    other.write_bytes(b"mine")
    folder.rewind(0, -1)
    folder.clear()
    assert other.read_bytes() == b"mine"


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
    other.save(a_state())
    other.add({"step": 1})
    other.draw("loss.png", torch.zeros(1, 3, 2, 2))
    other.rewind(0, 0)
    assert not (tmp_path / "run").exists() and list(other.lines()) == []


def test_clearing_leaves_what_is_not_the_runs(folder: RunFolder):
    folder.save(a_state())
    folder.add({"step": 1})
    (folder.folder / "notes.txt").write_bytes(b"mine")
    folder.clear()
    assert {path.name for path in folder.folder.iterdir()} == {"samples", "notes.txt"}


def test_opening(folder: RunFolder):
    waited: list[int] = []

    def opened(resume: bool | None, **identity: int | str) -> Any:
        return folder.open(
            {"base": "0", "settings": {}, **identity}, resume, lambda: waited.append(1)
        )

    with pytest.raises(InputError, match="run to resume"):
        opened(True, a=1)
    folder.save(a_state(run={"base": "0", "settings": {}, "a": 1}))
    for resume in (None, True):
        assert opened(resume, a=1) is not None
        with pytest.raises(InputError, match="a was 1 and is 2"):
            opened(resume, a=2)
    assert opened(False, a=2) is None and folder.read() is None
    assert len(waited) == 6, "all processes wait until the state is read"


def test_what_differs_is_named():
    stored = {"settings": {"lr": 0.1, "seed": 0}, "base": "abc" * 20, "clean": None}
    check_same(stored, {**stored, "settings": {"lr": 0.1, "seed": 0}}, Path("run"))
    with pytest.raises(InputError) as found:
        check_same(stored, {**stored, "settings": {"lr": 0.2, "seed": 0}, "clean": "x"}, Path("r"))
    assert "settings lr was 0.1 and is 0.2" in str(found.value)
    assert "clean was not given and is x" in str(found.value) and "seed" not in str(found.value)
