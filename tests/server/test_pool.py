import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from clients.protocol import ProtocolError
from server.config import load_config
from server.exit_codes import EXIT_BAD_CONFIG, EXIT_CANNOT_SERVE
from server.local_workers import LocalLauncher, LocalWorker
from server.messages import CloseWork, ForkWork, OpenWork, RestoreWork, SnapshotWork, StepWork
from server.pool import PoolConfig, Worker, WorkerLostError, WorkerPool
from server.ray_workers import RayLauncher, RayMissingError
from server.serve import serve

ACTIONS = np.zeros((4, 2), np.float32)
ZERO = {"name": "zero"}
START_S = 100.0  # a worker imports much: slow on a busy machine


def config(**values: Any) -> PoolConfig:
    return PoolConfig(**{"engines": (ZERO,), "ready_timeout_s": START_S, "breaker_losses": 10} | values)


async def started(**values: Any) -> WorkerPool:
    pool = WorkerPool(config(**values))
    await pool.start()
    async with asyncio.timeout(START_S):
        await pool.wait_ready()
    return pool


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    pool = await started(heartbeat_timeout_s=1.5)
    yield pool
    await pool.stop()


async def open_world(
    pool: WorkerPool, name: str, seed: int = 0, encoding: str = "jpeg", **options: Any
) -> Worker:
    worker = pool.place(name)
    values = {"scenario": "zero", "rig": "front1", "seed": seed, "options": options, "encoding": encoding}
    await pool.work(worker, OpenWork, session=name, **values)
    return worker


async def step(pool: WorkerPool, worker: Worker, name: str, accel: float = 0.0, **values: Any) -> Any:
    actions = np.tile(np.float32([0, accel]), (4, 1))
    values["sent_s"] = time.monotonic()
    return await pool.work(worker, StepWork, session=name, space="controls", actions=actions, **values)


async def until(condition: Any, timeout_s: float = START_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_chunk_comes_back_as_pictures_with_their_states(pool: WorkerPool) -> None:
    worker = await open_world(pool, "a")
    chunk = await step(pool, worker, "a")
    (images,) = chunk.frames.values()
    assert [cv2.imdecode(np.frombuffer(i, np.uint8), cv2.IMREAD_COLOR).shape for i in images] == [
        (128, 224, 3)
    ] * 4
    assert chunk.ego.shape == (4, 7)
    assert chunk.agents.shape == (1, 8)
    assert chunk.outcome == "running"
    assert {"queue", "engine", "encode"} <= chunk.timing.keys()


@pytest.mark.parametrize("encoding", ["png", "raw"])
async def test_lossless_encodings_agree(pool: WorkerPool, encoding: str) -> None:
    worker = await open_world(pool, "a", encoding=encoding)
    (images,) = (await step(pool, worker, "a")).frames.values()
    if encoding == "png":
        images = [
            cv2.cvtColor(cv2.imdecode(np.frombuffer(i, np.uint8), 1), cv2.COLOR_BGR2RGB).tobytes()
            for i in images
        ]
    other = await open_world(pool, "b", encoding="raw")
    (raw,) = (await step(pool, other, "b")).frames.values()
    assert images == raw
    assert len(raw[0]) == 128 * 224 * 3


async def test_refusals_name_what_was_expected(pool: WorkerPool) -> None:
    worker = await open_world(pool, "a")
    with pytest.raises(ProtocolError, match="BAD_REQUEST: expected a scenario of zero"):
        await pool.work(
            worker, OpenWork, session="b", scenario="no", rig="front1", seed=0, options={}, encoding="raw"
        )
    with pytest.raises(ProtocolError, match=r"BAD_ACTION: expected accel in .* got 1e\+06"):
        await step(pool, worker, "a", accel=1e6)
    with pytest.raises(ProtocolError, match="UNKNOWN_SESSION"):
        await step(pool, worker, "nobody")


async def test_ready_sessions_run_as_one_batch(pool: WorkerPool) -> None:
    names = [f"s{k}" for k in range(6)]
    workers = [await open_world(pool, name) for name in names]
    for _ in range(3):
        chunks = await asyncio.gather(*(step(pool, w, n) for w, n in zip(workers, names, strict=True)))
    assert max(chunk.batch for chunk in chunks) == 6


async def test_alone_in_a_batch_restored_and_forked_give_the_same_frames(pool: WorkerPool) -> None:
    worker = await open_world(pool, "a", seed=3)
    await step(pool, worker, "a", 0.5)
    state = (await pool.work(worker, SnapshotWork, session="a")).state
    await pool.work(worker, ForkWork, session="a", copies=["f1", "f2"])
    assert worker.info is not None
    cameras = [camera["name"] for camera in worker.info.rigs["front1"]]
    await pool.work(worker, RestoreWork, session="r", state=state, encoding="jpeg", cameras=cameras)
    names = ["a", "f1", "f2", "r"]
    chunks = await asyncio.gather(*(step(pool, worker, name, 1.0) for name in names))
    for chunk in chunks[1:]:
        assert chunk.frames == chunks[0].frames
        np.testing.assert_array_equal(chunk.ego, chunks[0].ego)


async def test_a_chunk_that_cannot_begin_in_time_is_not_run() -> None:
    pool = await started(engines=({"name": "zero", "options": {"step_ms": 200}},), batch_wait_ms=0.0)
    try:
        worker = await open_world(pool, "a")
        await open_world(pool, "b")
        first = asyncio.create_task(step(pool, worker, "a"))
        await asyncio.sleep(0.05)
        with pytest.raises(ProtocolError, match="DEADLINE_EXCEEDED"):
            await step(pool, worker, "b", wait_ms=50.0)
        before = (await first).ego
        np.testing.assert_array_equal((await step(pool, worker, "b")).ego, before)
    finally:
        await pool.stop()


async def test_closing_frees_and_unknown_sessions_may_be_closed(pool: WorkerPool) -> None:
    worker = await open_world(pool, "a")
    await pool.work(worker, CloseWork, session="a")
    await pool.work(worker, CloseWork, session="a")
    with pytest.raises(ProtocolError, match="UNKNOWN_SESSION"):
        await step(pool, worker, "a")


async def test_a_full_pool_says_when_to_come_back() -> None:
    pool = WorkerPool(config(sessions_per_worker=1))
    pool.workers[0].state = "ready"
    pool.place("a")
    with pytest.raises(ProtocolError, match="CAPACITY") as raised:
        pool.place("b")
    assert raised.value.details["retry_after_s"] > 0
    assert raised.value.retryable


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_a_dead_or_silent_worker_fails_its_work_and_is_replaced(
    pool: WorkerPool, how: signal.Signals
) -> None:
    lost: list[set[str]] = []
    pool.on_lost = lambda worker, cause: lost.append(set(worker.sessions))
    worker = await open_world(pool, "a")
    assert worker.info is not None
    old = worker.info.pid
    os.kill(old, how)
    began_s = time.monotonic()
    with pytest.raises(WorkerLostError):
        await step(pool, worker, "a")
    assert time.monotonic() - began_s < 2.5
    assert lost == [{"a"}]
    assert not pool.ready_workers
    await until(lambda: pool.ready_workers)
    assert worker.info.pid != old
    await open_world(pool, "b")


async def test_a_worker_that_lives_but_makes_no_progress_is_replaced() -> None:
    pool = await started(
        engines=({"name": "zero", "options": {"step_ms": 60_000}},), step_timeout_s=0.5, control_timeout_s=3.0
    )  # of which opening the world must take less
    try:
        worker = await open_world(pool, "a")
        with pytest.raises(WorkerLostError):
            await asyncio.wait_for(step(pool, worker, "a"), 30.0)
    finally:
        await pool.stop()


async def test_a_worker_that_never_starts_opens_the_breaker() -> None:
    pool = WorkerPool(config(engines=({"name": "no-such-engine"},), breaker_losses=2))
    await pool.start()
    async with asyncio.timeout(START_S):
        await pool.wait_ready()
    assert pool.broken.is_set()
    await pool.stop()


async def test_messages_of_another_installation_are_logged_and_ignored(
    pool: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    pool._receive(b"\x81\xa4kind\xa5Other")
    assert "expected a worker message" in caplog.text
    await open_world(pool, "a")


class Unreachable(LocalLauncher):
    async def open(self, receive: Any) -> None:
        raise ConnectionError("expected a cluster")


def test_a_pool_that_cannot_even_open_ends_the_server_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.state.launcher", lambda config: Unreachable())
    assert serve(load_config(None, {}, engine="zero", port=0)) == EXIT_CANNOT_SERVE


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    with pytest.raises(RayMissingError, match=r"pip install 'roadloop\[ray\]'"):
        RayLauncher()
    assert serve(load_config(None, {}, pool="ray", port=0)) == EXIT_BAD_CONFIG


async def test_stopping_leaves_no_process_and_no_folder(pool: WorkerPool) -> None:
    assert isinstance(pool.launcher, LocalLauncher)
    handle = pool.workers[0].handle
    assert isinstance(handle, LocalWorker)
    folder = Path(pool.launcher.address.removeprefix("ipc://")).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    await pool.stop()
    assert handle.process.returncode == 0
    assert not folder.exists()
