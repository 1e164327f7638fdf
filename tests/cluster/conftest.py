"""A Ray cluster of two nodes on this machine."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

NODE = {"num_cpus": 1, "memory": 3 * 2**30, "object_store_memory": 100 * 2**20}


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The cluster; its head has no CPU to give, so that work is on the two others."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="ray is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # A node that is gone is noticed within seconds instead of half a minute.
    fast = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
    fast["worker_niceness"] = 0  # or other work on the machine would starve them
    head = {"num_cpus": 0, "object_store_memory": NODE["object_store_memory"]}
    head |= {"_system_config": {**fast, "health_check_failure_threshold": 3}}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    cluster.workers = [cluster.add_node(**NODE), cluster.add_node(**NODE)]  # type: ignore
    yield cluster
    cluster.shutdown()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of an object store on this machine, which nodes that start later know as well."""
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    running = server.ThreadedMotoServer(port=0)
    running.start()
    host, port = running.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = uuid.uuid4().hex  # what the server holds outlives it
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(bucket)
    yield f"s3://{bucket}"
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()
