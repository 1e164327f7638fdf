"""The commands on a cluster of two nodes with an object store: whatever dies, the same results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import pytest
from PIL import Image

from bfr.cli.main import main
from bfr.files.places import files_below, to_path
from bfr.files.whole import copy_file
from bfr.finetune.batches import TrainingSet
from bfr.finetune.settings import PRESETS
from bfr.pairs.folder import read_pairs
from bfr.prior.load import save_prior
from tests.pair_sets import alike, files
from tests.priors import tiny_prior

pytestmark = pytest.mark.cluster
pytest.importorskip("ray", reason="ray is not installed")
pytest.importorskip("upath", reason="universal-pathlib is not installed")

COUNT = 12


@pytest.fixture
def photos(tmp_path: Path, root: Path) -> Path:
    """Photographs with a face each, a damaged file, and a picture without a face."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    with Image.open(root / "samples" / "grace_hopper.jpg") as image:
        portrait = image.convert("RGB").resize((320, 400))
    for number in range(COUNT - 2):
        place = folder / "more" if number % 3 == 0 else folder
        turned = np.asarray(portrait).astype(int) + number
        Image.fromarray(turned.clip(0, 255).astype(np.uint8)).save(place / f"{number}.jpg")
    (folder / "5b.jpg").write_bytes((folder / "5.jpg").read_bytes()[:2000])
    Image.fromarray(np.full((80, 100, 3), 90, np.uint8)).save(folder / "none.png")
    return folder


def command(root: Path, *words: object, at: Callable[[int, Any], None] | None = None) -> int:
    """Runs a command in a process of its own; ``at`` is called as photographs are told of."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bfr", *map(str, words)],
        cwd=root,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    done = 0
    for line in process.stderr:
        if line.startswith("["):
            done += 1
            if at is not None:
                at(done, process)
    return process.wait()


def images(report: Path, start: str) -> list[dict[str, Any]]:
    """The entries of a report, without what differs from run to run."""
    entries = json.loads(report.read_bytes())["images"]
    for entry in entries:
        del entry["seconds"]
        entry["path"] = entry["path"].removeprefix(start)
        entry["error"] = entry["error"] and entry["error"].replace(start, "")
    return entries


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path).removeprefix(str(folder)): path.read_bytes() for path in files_below(folder)}


def fresh(place: str) -> Path:
    """The path, past what this process remembers of the store."""
    path = to_path(place)
    cast(Any, path).fs.invalidate_cache()
    return path


def test_restore_survives_its_driver_a_worker_and_a_node(
    store: str, nodes: Any, photos: Path, tmp_path: Path, root: Path
):
    alone, report = tmp_path / "alone", tmp_path / "report.json"
    assert main(["restore", str(photos), "-o", str(alone), "--report", str(report)]) == 1
    for path in files_below(photos):
        copy_file(path, to_path(f"{store}/in").joinpath(*path.relative_to(photos).parts))
    words = ["restore", f"{store}/in", "-o", f"{store}/out", "--report", f"{store}/report.json"]
    words += ["--ray", nodes.address]

    def kill_the_driver(done: int, process: Any) -> None:
        if done == 3:
            process.kill()

    assert command(root, *words, at=kill_the_driver) == -signal.SIGKILL
    before = contents(fresh(f"{store}/out"))
    assert 2 <= len(before) < COUNT - 1
    killed: list[int] = []

    def kill_a_worker_and_a_node(done: int, _: Any) -> None:
        if done == 1:
            working = [p for p in psutil.process_iter() if p.name().startswith("ray::_work")]
            killed.append(working[0].pid)
            os.kill(working[0].pid, signal.SIGKILL)
        if done == 3:
            nodes.remove_node(nodes.workers[1], allow_graceful=False)

    words += ["--existing", "skip"]
    assert command(root, *words, at=kill_a_worker_and_a_node) == 1, "one photograph is damaged"
    assert killed and len(before) < len(contents(alone)) == COUNT - 1
    assert sum(bool(entry["faces"]) for entry in images(report, str(photos))) >= COUNT - 3
    out = fresh(f"{store}/out")
    assert contents(out) == contents(alone), "the same files, byte for byte"
    assert images(to_path(f"{store}/report.json"), f"{store}/in") == images(report, str(photos))
    assert not files_below(to_path(f"{store}/report.json.parts"))

    missing = next(path for path in files_below(out) if path.name == "3.jpg")
    kept = {str(path): cast(Any, path).stat().st_mtime for path in files_below(out)}
    missing.unlink()
    told: list[int] = []
    assert command(root, *words, at=lambda done, _: told.append(done)) == 1
    assert told == [1, 2], "the missing one and the damaged one"
    out = fresh(f"{store}/out")
    assert contents(out) == contents(alone)
    after = {str(path): cast(Any, path).stat().st_mtime for path in files_below(out)}
    assert {name for name in kept if after[name] == kept[name]} >= {*kept} - {str(missing)}
    assert images(to_path(f"{store}/report.json"), f"{store}/in") == images(report, str(photos))


def test_detect_reports_the_same_and_takes_up_where_it_was_stopped(
    nodes: Any, photos: Path, tmp_path: Path, root: Path
):
    report, spread = tmp_path / "alone.json", tmp_path / "spread.json"
    assert main(["detect", str(photos), "--report", str(report)]) == 1

    def kill_the_driver(done: int, process: Any) -> None:
        if done == 4:
            process.kill()

    words = ["detect", photos, "--report", spread, "--ray", nodes.address]
    assert command(root, *words, at=kill_the_driver) == -signal.SIGKILL
    assert files_below(tmp_path / "spread.json.parts")
    told: list[int] = []
    assert command(root, *words, at=lambda done, _: told.append(done)) == 1
    assert len(told) <= COUNT - 3, "what is known is not done again"
    assert images(spread, "") == images(report, "")
    assert not (tmp_path / "spread.json.parts").exists()


def test_targets_survive_their_driver_and_a_worker(
    store: str, nodes: Any, photos: Path, tmp_path: Path, root: Path
):
    """The set in the object store is that of one machine, and one can be tuned with it."""
    prior = tmp_path / "prior.safetensors"
    save_prior(prior, tiny_prior(64), {"licence": "none", "provenance": "by rule"})
    made = f"--prior {prior} --size 64 --start 3 --stop 1 --steps 20 --factor 4 --no-suit-prior "
    made += "--precision float32 --device cpu"
    alone, out = tmp_path / "alone", tmp_path / "out"
    assert main(["targets", str(photos), "-o", str(alone), *made.split()]) == 1
    for path in files_below(photos):
        copy_file(path, to_path(f"{store}/in").joinpath(*path.relative_to(photos).parts))
    words = ["targets", f"{store}/in", "-o", f"{store}/pairs", *made.split()]
    words += ["--ray", nodes.address]

    def kill_the_driver(done: int, process: Any) -> None:
        if done == 3:
            process.kill()

    assert command(root, *words, at=kill_the_driver) == -signal.SIGKILL
    before = contents(fresh(f"{store}/pairs/target"))
    assert 2 <= len(before) < COUNT - 2
    told: list[int] = []

    def kill_a_worker(done: int, _: Any) -> None:
        told.append(done)
        if done == 1:
            working = [p for p in psutil.process_iter() if p.name().startswith("ray::_work")]
            os.kill(working[0].pid, signal.SIGKILL)

    assert command(root, *words, at=kill_a_worker) == 1, "one photograph is damaged"
    assert len(told) <= COUNT - 2, "what was finished is not done again"
    for name, content in contents(fresh(f"{store}/pairs")).items():
        target = out / name.strip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.replace(f"{store}/in".encode(), str(photos).encode()))
    ours, theirs = files(out), files(alone)
    assert ours.keys() == theirs.keys(), "no parts are left"
    for lists in (ours, theirs):
        del lists["sources.jsonl"]  # which has the times of files
    assert alike(theirs, ours)
    assert [pair.target["seed"] for pair in read_pairs(out).kept] == [
        pair.target["seed"] for pair in read_pairs(alone).kept
    ]
    batch = TrainingSet(read_pairs(out), PRESETS["quick"]).micro(0, 0)
    assert batch.target.shape == (2, 3, 64, 64), "what finetune reads"

    to_path(f"{store}/pairs/target").joinpath(next(iter(before)).strip("/")).unlink()
    told.clear()
    assert command(root, *words, at=lambda done, _: told.append(done)) == 1
    assert told == [1, 2], "the missing one and the damaged one"
    assert contents(fresh(f"{store}/pairs/target")).keys() == contents(alone / "target").keys()
