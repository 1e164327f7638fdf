"""Work on a real cluster of two nodes, of which some die."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bfr.cluster.pool import RETRIES, cluster, needs_of, spread
from bfr.errors import InputError, MissingWeightsError

pytestmark = pytest.mark.cluster
pytest.importorskip("ray", reason="ray is not installed")

ITEMS = 16


def worker(folder: Path, seconds: float, deadly: int | None = None) -> Callable[[], Any]:
    """Work that logs what begins and ends, and where; an item can kill its worker."""

    def load() -> Callable[[int], int]:
        import ray

        node = ray.get_runtime_context().get_node_id()
        (folder / f"loaded-{os.getpid()}").touch()

        def work(item: int) -> int:
            (folder / f"begun-{item}-{os.getpid()}-{node}-{time.time_ns()}").touch()
            if item == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(seconds)
            (folder / f"done-{item}-{os.getpid()}").touch()
            return item * item

        return work

    return load


def begun(folder: Path) -> list[list[str]]:
    return [path.name.split("-")[1:] for path in folder.glob("begun-*")]


def run(nodes: Any, folder: Path, disturb: Callable[[int], None], **options: Any) -> list[Any]:
    """All results; ``disturb`` is called as each comes."""
    results = []
    with cluster(nodes.address):
        loader = worker(folder, 0.4, **options)
        lost = partial(lambda item, why: f"lost {item}: {why}")
        for _, result in spread(range(ITEMS), loader, lost, needs_of("cpu")):
            results.append(result)
            disturb(len(results))
    return results


def test_both_nodes_work_and_load_once(nodes: Any, tmp_path: Path):
    assert run(nodes, tmp_path, lambda count: None) == [item * item for item in range(ITEMS)]
    started = begun(tmp_path)
    assert len(started) == ITEMS, "each item once"
    assert len({node for _, _, node, _ in started}) == 2
    assert len(list(tmp_path.glob("loaded-*"))) == len({process for _, process, *_ in started})
    assert len(list(tmp_path.glob("loaded-*"))) <= 4, "not once per item"


def test_a_killed_worker_costs_its_unfinished_item(nodes: Any, tmp_path: Path):
    killed: list[str] = []

    def kill(count: int) -> None:
        if count == 4:
            item, process, *_ = max(begun(tmp_path), key=lambda words: int(words[-1]))
            killed.append(item)
            os.kill(int(process), signal.SIGKILL)

    assert run(nodes, tmp_path, kill) == [item * item for item in range(ITEMS)]
    times = Counter(item for item, *_ in begun(tmp_path))
    assert len(killed) == 1 and set(times) == {str(item) for item in range(ITEMS)}
    assert {item for item, count in times.items() if count > 1} <= set(killed)
    assert sum(times.values()) <= ITEMS + 1


def test_a_killed_node_costs_its_unfinished_items(nodes: Any, tmp_path: Path):
    finished: set[str] = set()
    lost_node: list[str] = []

    def kill(count: int) -> None:
        if count == 4:
            finished.update(path.name.split("-")[1] for path in tmp_path.glob("done-*"))
            node = nodes.workers[1]
            lost_node.append(node.node_id)
            nodes.remove_node(node, allow_graceful=False)

    assert run(nodes, tmp_path, kill) == [item * item for item in range(ITEMS)]
    starts = begun(tmp_path)
    times = Counter(item for item, *_ in starts)
    assert lost_node[0] in {node for _, _, node, _ in starts}, "it had worked"
    assert set(times) == {str(item) for item in range(ITEMS)}
    assert all(times[item] == 1 for item in finished), "nothing finished is done again"
    assert sum(times.values()) <= ITEMS + 1, "one worker was there"


def test_an_item_that_kills_every_worker_is_given_up(nodes: Any, tmp_path: Path):
    results = run(nodes, tmp_path, lambda count: None, deadly=5)
    assert [r for i, r in enumerate(results) if i != 5] == [i * i for i in range(ITEMS) if i != 5]
    assert str(results[5]).startswith("lost 5: ")
    assert Counter(item for item, *_ in begun(tmp_path))["5"] == RETRIES + 1


def test_networks_that_cannot_be_loaded_end_the_work(nodes: Any):
    def load() -> Callable[[int], int]:
        raise MissingWeightsError("no such restorer")

    with cluster(nodes.address), pytest.raises(MissingWeightsError, match="no such restorer"):
        list(spread(range(3), load, lambda item, why: 0, needs_of("cpu")))


def test_a_cluster_that_is_none_or_cannot_do_it_is_named(nodes: Any):
    with pytest.raises(InputError, match="--ray"), cluster("127.0.0.1:1"):
        pytest.fail("there is none")
    with cluster(nodes.address), pytest.raises(InputError, match="GPU"):
        needs_of("cuda")
