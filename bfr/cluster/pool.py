"""Work spread over a Ray cluster: the same calls as on one machine, on many.

Each item is a Ray task, and each of Ray's worker processes loads the networks once, when it gets
its first. Tasks and not actors: Ray gives the tasks of a dead worker or node to any other, and uses
nodes that join later, whereas the calls of a dead actor wait until a node has room for it again.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from ..errors import FaceRestorationError, InputError, MissingPackageError

Item = TypeVar("Item")
Result = TypeVar("Result")

LOCAL = "local"
"""The address that starts a cluster on this machine, for the length of the work."""

RETRIES = 3
"""How often Ray gives an item to another worker when its worker, or the worker's node, dies."""

_ROOT = Path(__file__).resolve().parents[2]
_SHIPPED = ("bfr", "weights")  # of the root, to every node
_MEMORY = 2 * 2**30  # bytes that a large photograph takes while it is worked on
_PATIENCE = 10.0  # seconds until a cluster must answer
_LOCAL_CONFIG = {
    "task_oom_retries": RETRIES,
    "worker_niceness": 0,  # Ray's 15 would leave the workers what other programs do not want
}
_AHEAD = 4  # items given to Ray for each that can be worked on at once


@contextmanager
def cluster(address: str) -> Iterator[None]:
    """Connects to a Ray cluster, which gets this program's code and embedded weights.

    Within such a block another one keeps its connection.

    Args:
        address: ``auto`` for the cluster that this machine belongs to, ``host:port`` or
            ``ray://host:port`` for another, `LOCAL` to start one.

    Raises:
        MissingPackageError: if Ray is not installed.
        InputError: if there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's announced default
    try:
        import ray
    except ImportError as error:
        raise MissingPackageError(
            "--ray needs the package ray. Install it: pip install ray universal-pathlib s3fs"
        ) from error
    if ray.is_initialized():  # within another such block
        yield
        return
    _check_reachable(address)
    others = (f"/{path.name}" for path in _ROOT.iterdir() if path.name not in _SHIPPED)
    left_out = ["__pycache__", *others]
    own: dict[str, Any] = {}
    if address == LOCAL:
        own = {"include_dashboard": False, "_system_config": _LOCAL_CONFIG}
    try:
        with _same_signals():
            ray.init(
                address=address,
                runtime_env={"working_dir": str(_ROOT), "excludes": left_out},
                log_to_driver=False,
                logging_level=logging.ERROR,
                **own,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"--ray must be auto, {LOCAL} or the address of a running cluster, got {address} "
            f"({error}). Start one with: ray start --head"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Refuses an address where nothing answers; Ray itself would wait for minutes."""
    host, colon, port = address.rpartition("/")[2].rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except OSError as error:
        raise InputError(
            f"--ray must be auto, {LOCAL} or the address of a running cluster, got {address} "
            f"({error}). Start one with: ray start --head"
        ) from error


@contextmanager
def _same_signals() -> Iterator[None]:
    """Keeps what SIGTERM does, which Ray would change: the command saves its work then."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def needs_of(device: str) -> dict[str, Any]:
    """The resources of a node of the connected cluster that one item takes.

    Args:
        device: "auto" is an accelerator for each item where the cluster has any.

    Raises:
        InputError: if no node has that.
    """
    import ray

    has_gpu = ray.cluster_resources().get("GPU", 0) >= 1
    gpu = device.startswith("cuda") or (device == "auto" and has_gpu)
    wanted = {"CPU": 1, "memory": _MEMORY, **({"GPU": 1} if gpu else {})}
    nodes: list[Mapping[str, Any]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= least for name, least in wanted.items()) for node in nodes):
        raise InputError(
            f"A node of the cluster must have {wanted} free for one photograph, got {nodes}. "
            "Start nodes that have, or choose another --device."
        )
    return {"num_cpus": 1, "memory": _MEMORY, "num_gpus": int(gpu)}


def spread(
    items: Iterable[Item],
    load: Callable[[], Callable[[Item], Result]],
    lost: Callable[[Item, str], Result],
    needs: Mapping[str, Any],
) -> Iterator[tuple[Item, Result]]:
    """Works on items all over the connected cluster.

    Args:
        items: what is worked on; taken as there is room for it.
        load: called once in each worker; returns what is done with an item, which may be done
            again after a worker died, and so must leave the same however often it is done.
        lost: the result of an item whose workers died time and again, and why.
        needs: of `needs_of`.

    Yields:
        Each item and its result, in the order of the items.

    Raises:
        FaceRestorationError: what ``load`` raises in a worker.
    """
    import ray
    from ray import cloudpickle
    from ray.exceptions import RayError, RayTaskError

    task: Any = ray.remote(**needs, max_retries=RETRIES, max_calls=0)  # 0: workers live on
    remote = task(_work)
    loader = cloudpickle.dumps(load)
    running: dict[Any, int] = {}
    given: dict[int, Item] = {}
    results: dict[int, Result] = {}
    due = 0

    def collect() -> None:
        (done, *_), _ = ray.wait(list(running), num_returns=1)
        number = running.pop(done)
        try:
            results[number] = ray.get(done)
        except RayTaskError as error:
            if isinstance(error.cause, FaceRestorationError):
                raise error.cause from error
            raise
        except RayError as error:  # the worker died, or had no memory
            results[number] = lost(given[number], str(error).splitlines()[0])

    try:
        for number, item in enumerate(items):
            given[number] = item
            running[remote.remote(loader, item)] = number
            while len(running) >= _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1))):
                collect()
            while due in results:
                yield given.pop(due), results.pop(due)
                due += 1
        while due in given:
            while due not in results:
                collect()
            yield given.pop(due), results.pop(due)
            due += 1
    finally:
        for reference in running:
            ray.cancel(reference)


def _work(loader: bytes, item: Any) -> Any:
    return _loaded(loader)(item)


@lru_cache(maxsize=1)
def _loaded(loader: bytes) -> Callable[[Any], Any]:
    """The function that a worker runs on items; it keeps its networks as long as it lives."""
    import torch
    from ray import cloudpickle

    torch.set_num_threads(1)  # as many workers as cores share the machine
    return cloudpickle.loads(loader)()
