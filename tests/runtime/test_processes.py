"""Several processes that make one set."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from bfr.errors import InputError, LostProcessError, MissingPackageError
from bfr.pairs.folder import read_pairs
from bfr.runtime.processes import PATIENCE_VARIABLE, Share, launched_share
from tests.forks import CONTEXT, launch, together
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


WORKER = """
import sys, torch
from bfr.runtime.processes import launched_share
share = launched_share(cpu=True)
assert share.count == 2 and share.device.startswith("cpu"), share
means = [torch.tensor([1.0 + share.rank, 4.0]), torch.tensor(10.0 * share.rank)]
share.average(means)
assert means[0].tolist() == [1.5, 4] and float(means[1]) == 5
open(f"{sys.argv[1]}{share.rank}", "w").close()
"""


def test_processes_that_accelerate_launches_find_each_other(tmp_path: Path, root: Path):
    pytest.importorskip("accelerate")
    (tmp_path / "worker.py").write_text(WORKER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = "accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1".split()
    words += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *words, str(tmp_path / "worker.py"), str(tmp_path / "done")],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "done0").exists() and (tmp_path / "done1").exists()


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
