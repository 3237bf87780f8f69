"""The pool over a Ray cluster of two nodes, which are processes of this machine."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from clients.client import connect
from clients.observation import StepResult
from clients.protocol import ErrorCode, ProtocolError
from server.messages import OpenWork, RestoreWork, SnapshotWork, StepWork
from server.pool import PoolConfig, Worker, WorkerLostError, WorkerPool
from server.ray_workers import RayLauncher

ray = pytest.importorskip("ray", reason="needs ray: pip install 'roadloop[ray]'")
cluster_utils = pytest.importorskip("ray.cluster_utils", reason="needs ray: pip install 'roadloop[ray]'")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
]  # a cluster is some ten processes: slow to start on a busy machine

STORE_BYTES = 80 << 20
ZERO = {"name": "zero"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster whose two nodes have room for one worker each."""
    head = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_worker_niceness", "0")  # Ray's own choice is 15: any other work would starve its actors
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    yield cluster.address
    cluster.shutdown()
    patch.undo()


async def open_world(pool: WorkerPool, worker: Worker, name: str) -> None:
    values = {"scenario": "zero", "rig": "front3", "seed": 5, "options": {}, "encoding": "raw"}
    await pool.work(worker, OpenWork, session=name, **values)


async def step(pool: WorkerPool, worker: Worker, name: str, accel: float, **values: Any) -> Any:
    actions = np.tile(np.float32([0, accel]), (4, 1))
    values["sent_s"] = time.monotonic()
    return await pool.work(worker, StepWork, session=name, space="controls", actions=actions, **values)


async def test_workers_on_two_nodes_run_the_same_sessions_and_replace_each_other(address: str) -> None:
    launcher = RayLauncher(address)
    pool = WorkerPool(PoolConfig(engines=(ZERO, ZERO), ready_timeout_s=200.0, breaker_losses=9), launcher)
    lost: list[str] = []
    pool.on_lost = lambda worker, cause: lost.append(cause)
    await pool.start()
    try:
        async with asyncio.timeout(200):
            await pool.wait_ready()
            left, right = pool.workers
            for worker in (left, right):
                await open_world(pool, worker, "a")
            chunks = [await step(pool, worker, "a", 0.5) for worker in (left, right)]
            assert chunks[0].frames == chunks[1].frames

            # A snapshot of one node goes on in the other.
            state = (await pool.work(left, SnapshotWork, session="a")).state
            cameras = list(chunks[0].frames)
            values = {"state": state, "encoding": "raw", "cameras": cameras}
            await pool.work(right, RestoreWork, session="copy", **values)
            assert (await step(pool, right, "copy", 1.0)).frames == (await step(pool, left, "a", 1.0)).frames

            # The wait of a step is measured on the worker's clock.
            assert (await step(pool, left, "a", 1.0, wait_ms=5000.0)).timing["queue"] < 5000.0
            nowhere = {"scenario": "no", "rig": "front3", "seed": 0, "options": {}, "encoding": "raw"}
            with pytest.raises(ProtocolError, match="BAD_REQUEST: expected a scenario of zero"):
                await pool.work(left, OpenWork, session="b", **nowhere)

            assert {actor["name"] for actor in named_actors()} == {"w0.0", "w1.1"}
            assert left.info is not None
            os.kill(left.info.pid, signal.SIGKILL)
            began_s = time.monotonic()
            with pytest.raises(WorkerLostError):
                await step(pool, left, "a", 0.0)
            assert time.monotonic() - began_s < 2.0
            assert [cause.split()[0] for cause in lost] == ["actor"]
            await step(pool, right, "copy", 0.0)  # the other one goes on
            await pool.wait_ready()
            await open_world(pool, left, "b")
    finally:
        await pool.stop()
    assert not ray.is_initialized()


def named_actors() -> list[dict[str, str]]:
    return ray.util.list_named_actors(all_namespaces=True)


def test_a_server_over_a_cluster_speaks_the_same_protocol_also_when_an_actor_is_killed(
    run_server: Any, http: Any, address: str
) -> None:
    settings = ["--pool", "ray", "--set", f"ray_address={address}", "--set", "drain_s=0.2"]
    with run_server(*settings) as server:
        assert server.workers == []  # none of its own
        with connect(server.url, sessions=2, encoding="raw") as client:
            for session in client.sessions:
                session.reset("zero", rig="front1", snapshot_every=2)
            act = {session: [0.0, 0.3] for session in client.sessions}
            seen = [client.step_many(act) for _ in range(3)]
            kill_actors(address)
            answers = [client.step_many(act) for _ in range(3)]  # those that run wait for the recovery
            codes = {getattr(answer, "code", None) for many in answers for answer in many.values()}
            assert ErrorCode.WORKER_LOST in codes | {notice.code for notice in client.notices}
            again = [many for many in answers if all(isinstance(a, StepResult) for a in many.values())]
            for session in client.sessions:
                assert again[0][session].chunk == 2  # type: ignore[union-attr]
                assert again[0][session].frames == seen[2][session].frames  # type: ignore[union-attr]
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0


def kill_actors(address: str) -> None:
    ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    try:
        for actor in named_actors():
            ray.kill(ray.get_actor(actor["name"], actor["namespace"]))
    finally:
        ray.shutdown()
