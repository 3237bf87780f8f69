"""The worker's loop around an engine that tells when it is asked for what."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

import server.engines
from server.channel import WorkerConfig
from server.messages import OpenWork, Ready, StepWork, StopWork, from_bytes, to_bytes
from server.worker import Worker
from server.zero_engine import ZeroEngine

DEADLINE_S = 20.0


class LeavesWork(ZeroEngine):
    """Leaves something for later after every open and step; `flush` waits until the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.left: set[int] = set()
        self.calls: list[str] = []
        self.may_flush, self.flushing = threading.Event(), threading.Event()
        self.broken = False

    def open(self, request: Any) -> Any:
        result = super().open(request)
        self.left.add(result.session)
        return result

    def step(self, actions: Any) -> Any:
        self.calls.append("step")
        self.left.update(actions)
        return super().step(actions)

    def flush(self) -> int:
        self.flushing.set()
        assert self.may_flush.wait(DEADLINE_S)
        self.calls.append("flush")
        if self.broken:
            raise RuntimeError("broken")
        count, self.left = len(self.left), set()
        time.sleep(0.005 * count)
        return count


class Bench:
    """A worker in a thread, and the front end's end of its socket."""

    def __init__(self, engine: LeavesWork, address: str) -> None:
        self.engine, self.context = engine, zmq.Context()
        self.router = self.context.socket(zmq.ROUTER)
        self.router.bind(address)
        self.worker = Worker(WorkerConfig("w", address, encode_threads=1), self.context)
        self.thread = threading.Thread(target=self.worker.run_forever, daemon=True)
        self.thread.start()
        assert isinstance(self.receive(), Ready)

    def send(self, message: Any) -> None:
        self.router.send_multipart([b"w", to_bytes(message)])

    def receive(self) -> Any:
        assert self.router.poll(DEADLINE_S * 1e3), "expected an answer in time"
        return from_bytes(self.router.recv_multipart()[1])

    def open(self, name: str = "a") -> Any:
        self.send(OpenWork(1, name, "zero", "front1", 0, {}, "jpeg"))
        return self.receive()

    def step(self, name: str = "a") -> Any:
        self.send(StepWork(2, name, "controls", np.zeros((4, 2), np.float32), time.monotonic()))
        return self.receive()

    def stop(self) -> None:
        self.engine.may_flush.set()
        self.send(StopWork(0))
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive()
        self.router.close(0)
        self.context.term()


@pytest.fixture
def engine() -> LeavesWork:
    return LeavesWork()


@pytest.fixture
def bench(engine: LeavesWork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(server.engines, "build_engine", lambda choice: engine)
    bench = Bench(engine, f"ipc://{tmp_path}/w")
    yield bench
    bench.stop()


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_work_left_for_later_is_done_after_the_reply(bench: Bench, engine: LeavesWork) -> None:
    bench.open()  # answered although flush still waits
    assert engine.calls == []
    engine.may_flush.set()
    bench.step()
    until(lambda: not engine.left)
    assert engine.calls[-2:] == ["step", "flush"]


def test_the_time_of_a_flush_is_in_the_next_chunks_timing(bench: Bench, engine: LeavesWork) -> None:
    engine.may_flush.set()
    bench.open()
    until(lambda: not engine.left)
    timing = bench.step().timing
    assert 5.0 <= timing["flush"] < 1000.0
    until(lambda: not engine.left)


def test_requests_that_are_here_go_before_the_next_flush(bench: Bench, engine: LeavesWork) -> None:
    engine.may_flush.set()
    bench.open()
    until(lambda: not engine.left)
    engine.calls.clear()
    engine.may_flush.clear()
    engine.flushing.clear()
    bench.step()
    assert engine.flushing.wait(DEADLINE_S)  # its flush holds the loop while two more requests arrive
    bench.send(OpenWork(3, "b", "zero", "front1", 0, {}, "jpeg"))
    bench.send(StepWork(4, "a", "controls", np.zeros((4, 2), np.float32), time.monotonic()))
    engine.may_flush.set()
    assert {bench.receive().req, bench.receive().req} == {3, 4}
    until(lambda: not engine.left)
    assert engine.calls == ["step", "flush", "step", "flush"]


def test_a_flush_that_fails_loses_nothing(bench: Bench, engine: LeavesWork) -> None:
    engine.broken = True
    engine.may_flush.set()
    bench.open()
    until(lambda: engine.calls == ["flush"])
    assert "flush" not in bench.step().timing
    until(lambda: engine.calls == ["flush", "step", "flush"])
    assert bench.step().outcome == "running"
