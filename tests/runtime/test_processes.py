"""Several processes that make one set."""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from bfr.errors import InputError, LostProcessError, MissingPackageError
from bfr.pairs.folder import read_pairs
from bfr.runtime.processes import PATIENCE_VARIABLE, Share, launched_share
from tests.forks import CONTEXT, begin, launch, together, told_of
from tests.pair_sets import alike, build, files, photograph, stand_in


def test_one_process_does_all():
    share = launched_share()
    assert (share.rank, share.count, share.device) == (0, 1, None)
    assert share.of([1, 2, 3]) == [1, 2, 3]
    share.wait()
    values = torch.tensor([1.0, 3.0])
    share.average([values])
    assert values.tolist() == [1, 3]


def test_shares_are_disjoint_and_cover_all():
    items = list(range(11))
    parts = [Share(rank, 3).of(items) for rank in range(3)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_accelerate_is_needed_for_several_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert launched_share().count == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MissingPackageError, match="pip install accelerate"):
        launched_share()


# Does not load torch, which takes seconds.
WORKER = """
import json, os, sys
with open(sys.argv[1] + os.environ["RANK"], "w") as file:
    json.dump({name: os.environ.get(name) for name in sys.argv[2:]}, file)
"""


def accelerate_launch(words: list[str]) -> None:
    launcher = importlib.import_module("accelerate.commands.launch")
    sys.argv = ["accelerate-launch", *words]
    launcher.main()


def average(out: Path) -> None:
    share = launched_share(cpu=True)
    assert share.count == 2 and str(share.device).startswith("cpu"), share
    means = [torch.tensor([1.0 + share.rank, 4.0]), torch.tensor(10.0 * share.rank)]
    share.average(means)
    (out / f"mean{share.rank}").write_text(json.dumps([mean.tolist() for mean in means]))


def test_processes_that_accelerate_launches_find_each_other(tmp_path: Path):
    """It tells them what `tests.forks` tells those of the other tests."""
    pytest.importorskip("accelerate")
    (tmp_path / "worker.py").write_text(WORKER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no".split()
    words += ["--dynamo_backend", "no", "--main_process_port", str(port)]
    process = begin(
        accelerate_launch,
        [*words, str(tmp_path / "worker.py"), str(tmp_path / "told"), *told_of(0, 2, port)],
    )
    process.join()
    assert process.exitcode == 0
    for rank in range(2):
        told = json.loads((tmp_path / f"told{rank}").read_text())
        assert told == told_of(rank, 2, port)
    together(2, average, tmp_path)
    assert [(tmp_path / f"mean{rank}").read_text() for rank in range(2)] == [
        "[[1.5, 4.0], 5.0]"
    ] * 2


def build_together(photos: Path, out: Path) -> None:
    stand_in(pytest.MonkeyPatch())
    share = launched_share(cpu=True)
    report = build(photos, out, share=share)
    assert len(report.pairs.kept) == 6, "each knows the whole set"
    (out.parent / f"sampled{share.rank}").write_text(str(report.sampled))


def test_two_processes_make_the_set_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("accelerate")
    stand_in(monkeypatch)
    photos, out = tmp_path / "photos", tmp_path / "pairs"
    for name, faces in (("a.png", 3), ("b.png", 1), ("c.png", 1), ("d.png", 1), ("e.png", 0)):
        photograph(photos / name, faces)
    (photos / "copy.png").write_bytes((photos / "b.png").read_bytes())
    together(2, build_together, photos, out)
    assert [(tmp_path / f"sampled{rank}").read_text() for rank in (0, 1)] == ["3", "3"]
    build(photos, tmp_path / "alone")
    assert alike(files(out), files(tmp_path / "alone"))
    assert build(photos, out).sampled == 0 and len(read_pairs(out).kept) == 6


def lose(how: str, step: str, told: Connection) -> None:
    """The second of two processes ends or hangs; the first sends what it is told of that."""
    rank = int(os.environ["RANK"])
    share = launched_share(cpu=True, patience=3 / 60)
    share.wait()
    if rank == 1:
        os._exit(0) if how == "ends" else time.sleep(60)
    try:
        share.wait() if step == "wait" else share.average([torch.ones(3)])
    except LostProcessError as error:
        told.send(str(error))
    os._exit(0)  # the process group cannot be left in order


@pytest.mark.parametrize(("how", "step"), [("ends", "average"), ("hangs", "wait")])
def test_a_lost_process_is_named_to_the_others(how: str, step: str):
    pytest.importorskip("accelerate")
    ours, theirs = CONTEXT.Pipe(duplex=False)
    processes = launch(2, lose, how, step, theirs)
    theirs.close()
    try:
        assert ours.poll(120)
        told = ours.recv()
    finally:
        for process in processes:
            process.kill()
            process.join()
    assert "2 processes" in told and "1" in told.partition(": ")[2], told


def test_patience_is_a_number_of_minutes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for wrong in ("soon", "0", "-1"):
        monkeypatch.setenv(PATIENCE_VARIABLE, wrong)
        with pytest.raises(InputError, match=PATIENCE_VARIABLE):
            launched_share(cpu=True)
