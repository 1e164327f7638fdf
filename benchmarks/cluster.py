"""Photographs per second on a Ray cluster with one and with two workers, in one run.

Each worker is a node of its own with one core, one torch thread, and the embedded networks, and
competes with other programs like any process (Ray's default niceness is 15). The same with plain
processes says how much of the second core the machine really has. Run it on a quiet machine:
``python -m benchmarks.cluster [PHOTOGRAPHS]``.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from ray.cluster_utils import Cluster

from bfr.cli.attempts import Job, Work, attempt
from bfr.cli.main import build_parser
from bfr.cli.restore import load_restoring
from bfr.cluster.pool import cluster, needs_of, spread
from bfr.files.sources import Source

SAMPLE = Path(__file__).parent.parent / "samples" / "grace_hopper.jpg"
SIZE = (1200, 1600)  # of the photographs: 2 megapixels with one face
HEAD: dict[str, Any] = {"num_cpus": 0, "_system_config": {"worker_niceness": 0}}
NODE: dict[str, Any] = {"num_cpus": 1, "memory": 3 * 2**30, "object_store_memory": 100 * 2**20}


def make_jobs(folder: Path, count: int) -> list[Job]:
    """Photographs with one face each, and where their results go."""
    with Image.open(SAMPLE) as image:
        portrait = image.convert("RGB").resize(SIZE)
    jobs = []
    for number in range(count):
        path = folder / f"{number}.jpg"
        portrait.save(path, quality=95)
        jobs.append(Job(Source(path, Path(path.name)), folder / "out" / path.name))
    (folder / "out").mkdir()
    return jobs


def restored(job: Job, work: Work) -> float:
    """The seconds that a photograph took."""
    done = attempt(job, work)
    assert done.entry["error"] is None and done.entry["faces"], done.outcome
    return done.entry["seconds"]


def plain_rate(count: int, jobs: list[Job], words: list[str]) -> float:
    """Photographs per second of so many processes without a cluster, their networks loaded."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, _load_here, (words,)) as pool:
        list(pool.map(_restored_here, jobs[: 4 * count]))
        start = time.monotonic()
        list(pool.map(_restored_here, jobs))
        return len(jobs) / (time.monotonic() - start)


def _load_here(words: list[str]) -> None:
    global _here
    torch.set_num_threads(1)
    _here = _load(words)


def _restored_here(job: Job) -> float:
    return _here(job)


_here: Callable[[Job], float]


def spread_rate(nodes: Cluster, jobs: list[Job], words: list[str]) -> float:
    """Photographs per second on all the cluster's nodes, their networks loaded."""
    workers = len(nodes.worker_nodes)
    loader = partial(_load, words)
    with cluster(str(nodes.address)):
        needs = needs_of("cpu")
        for _ in spread(jobs[: 4 * workers], loader, _lost, needs):
            pass  # every worker has loaded its networks
        start = time.monotonic()
        for _ in spread(jobs, loader, _lost, needs):
            pass
        return len(jobs) / (time.monotonic() - start)


def _load(words: list[str]) -> partial[float]:
    return partial(restored, work=load_restoring(build_parser().parse_args(words)))


def _lost(job: Job, why: str) -> float:
    raise RuntimeError(f"{job.source.path}: {why}")


def tell(what: str, rates: list[float]) -> None:
    """Prints the seconds a photograph of one and of two, and the gain."""
    for number, rate in enumerate(rates, 1):
        print(f"{number} {what}: {1 / rate:.3f} s a photograph")
    print(f"two are {rates[1] / rates[0]:.2f} times as fast as one", flush=True)


def main(count: int) -> None:
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        jobs = make_jobs(Path(name), count)
        words = ["restore", name, "-o", f"{name}/out", "--device", "cpu"]
        plain = [plain_rate(count, jobs, words) for count in (1, 2)]
        tell("plain process(es)", plain)
        nodes = Cluster(initialize_head=True, head_node_args={**NODE, **HEAD})
        rates = []
        for _ in range(2):
            nodes.add_node(**NODE)
            rates.append(spread_rate(nodes, jobs, words))
        tell("Ray worker(s)", rates)
        nodes.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 24)
