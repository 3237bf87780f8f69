"""`roadloop bench server`: what the server adds to a world that costs nothing. The load comes from this process, the server is another.

Every part is a function of a running server's URL; `measure` runs them all.
"""

import gc
import itertools
import json
import os
import signal
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from clients.benchmarking import envelope, write_json
from clients.client import Session, connect, watch
from clients.local import local_server
from worldmodel.allocator import keep_freed_memory
from worldmodel.engine import FRAMES_PER_CHUNK, ActionChunk, ChunkResult, OpenRequest

from .bench_load import Load
from .encode import encode_camera
from .zero_engine import SCENARIOS, ZeroEngine

SCENARIO, RIG = "zero", "surround7"
ACTION = (0.0, 0.1)


def server_bench(
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the results.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Within a minute on two cores.")] = False,
) -> None:
    """Measure and print."""
    document = envelope(measure(0.25 if quick else 1.0), {"rig": RIG, "quick": quick})
    typer.echo(json.dumps(document, indent=2))
    if json_file is not None:
        write_json(document, json_file)


def measure(scale: float) -> dict[str, Any]:
    """All results; `scale` 1 takes about two minutes."""
    results: dict[str, Any] = {}
    gc.freeze()  # what this command has imported is no part of the load
    if (
        not keep_freed_memory()
    ):  # to give 200 KB per step back and take them again costs more than to unpack them
        raise OSError("expected a libc that can be told to keep memory")
    with local_server("zero", "--set", "breaker_losses=100") as url:
        seconds = max(2.0, 8 * scale)
        results |= overhead(url, max(50, int(400 * scale)))
        before = encode_limit(seconds / 2)
        results["sessions"] = [many(url, count, seconds) for count in (1, 8, 64)]
        after = encode_limit(seconds / 2)
        results |= {name: statistics.mean([before[name], after[name]]) for name in before}
        rate = results["session_steps_per_s"] = results["sessions"][-1]["session_steps_per_s"]
        results["share_of_encode_limit"] = rate / results["encode_limit_steps_per_s"]
        results |= state_operations(url)
        results |= fan_out(url, viewers=50 if scale >= 1 else 20, seconds=max(3.0, 10 * scale))
        results |= recovery(url, sessions=16)
    return results


def overhead(url: str, steps: int) -> dict[str, float]:
    """One lockstep driver: milliseconds from request to reply, encoding of 7 x 4 frames included and apart."""
    with connect(url) as client:
        client.session.reset(SCENARIO, rig=RIG)
        total, encode = [], []
        for _ in range(steps):
            began_s = time.perf_counter()
            result = client.session.step(ACTION)
            total.append((time.perf_counter() - began_s) * 1e3)
            encode.append(result.timing["encode"])
    p50, p99 = np.percentile(total, [50, 99])
    return {
        "overhead_ms_p50": float(p50),
        "overhead_ms_p99": float(p99),
        "encode_ms_p50": statistics.median(encode),
    }


def many(url: str, sessions: int, seconds: float) -> dict[str, float]:
    """Lockstep sessions on one socket through step_many, each in a world of its own."""
    with connect(url, sessions=sessions) as client:
        for seed, session in enumerate(client.sessions):
            first = session.reset(SCENARIO, seed, rig=RIG)
        tokens = client.disconnect()
    actions = np.tile(np.array(ACTION, np.float32), (FRAMES_PER_CHUNK, 1))
    load = Load(url, tokens, 0, actions, len(first.cameras) * FRAMES_PER_CHUNK)
    load.round()
    took_ms: list[float] = []
    began_s, cpu_s = time.perf_counter(), _cpu_s()
    while (
        time.perf_counter() - began_s < seconds and len(took_ms) < SCENARIOS[SCENARIO] - 1
    ):  # until the world ends
        round_s = time.perf_counter()
        load.round()
        took_ms.append((time.perf_counter() - round_s) * 1e3)
    elapsed_s, cpu_s = time.perf_counter() - began_s, _cpu_s() - cpu_s
    load.close()
    p50, p99 = np.percentile(took_ms, [50, 99])
    steps = sessions * len(took_ms)
    return {
        "sessions": sessions,
        "session_steps_per_s": steps / elapsed_s,
        "step_ms_p50": float(p50),
        "step_ms_p99": float(p99),
        "cpu_ms_per_step": cpu_s * 1e3 / steps,
    }


def encode_limit(seconds: float) -> dict[str, float]:
    """Steps per second if all cores did nothing but encode the frames of `many`, with one thread each."""
    chunks = _chunks_of_many(sessions=64, steps=4)
    threads = len(os.sched_getaffinity(0))
    began_s, cpu_s = time.perf_counter(), time.process_time()

    def work(first: int) -> int:
        for done, frames in enumerate(itertools.islice(itertools.cycle(chunks), first, None)):
            if time.perf_counter() - began_s > seconds:
                return done
            for view in frames:
                encode_camera(view, "jpeg")
        raise AssertionError("a cycle has no end")

    with ThreadPoolExecutor(threads) as pool:
        steps = sum(pool.map(work, range(threads)))
    elapsed_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    return {
        "encode_limit_steps_per_s": steps / elapsed_s,
        "encode_limit_cpu_ms_per_step": cpu_s * 1e3 / steps,
    }


def _chunks_of_many(sessions: int, steps: int) -> list[np.ndarray]:
    """What the server encodes in `many`, in its order: uint8 [V, F, H, W, 3] each."""
    engine = ZeroEngine()
    opened = [engine.open(OpenRequest(SCENARIO, RIG, seed)).session for seed in range(sessions)]
    action = ActionChunk("controls", np.tile(np.array(ACTION, np.float32), (FRAMES_PER_CHUNK, 1)))
    frames = []
    for _ in range(steps):
        results = engine.step(dict.fromkeys(opened, action)).values()
        frames += [result.frames for result in results if isinstance(result, ChunkResult)]
    return frames


def state_operations(url: str) -> dict[str, float]:
    """Snapshot and fork of one session, medians."""
    with connect(url) as client:
        client.session.reset(SCENARIO, rig=RIG)
        return {
            "snapshot_ms": _median_ms(client.session.snapshot, 20),
            "fork_ms": _median_ms(client.session.fork, 10),
        }


def fan_out(url: str, viewers: int, seconds: float) -> dict[str, float]:
    """Viewers of one real-time session, one of which never reads: rate of the slowest other one against the full rate."""
    with connect(url) as client:
        client.session.reset(SCENARIO, rig=RIG, mode="realtime", hold_policy="hold")
        name, counts, stop = client.session.name, [0] * viewers, threading.Event()
        before = _memory_bytes(url)

        def look(index: int) -> None:
            for _ in watch(url, name, cameras=["front_wide"] if index else None):
                counts[index] += 1
                if stop.is_set():
                    return

        threads = [threading.Thread(target=look, args=(k,), daemon=True) for k in range(viewers)]
        for thread in threads:
            thread.start()
        with _Stalled(url, name):
            time.sleep(1.0)
            start, first = list(counts), _drive(client.session, seconds / 2)
            after_half = _memory_bytes(url)
            second = _drive(client.session, seconds / 2)
            seen = [now - then for now, then in zip(counts, start, strict=True)]
            grown = _memory_bytes(url) - after_half
        stop.set()
        _drive(client.session, 1.0)
        for thread in threads:
            thread.join(5)
    share = min(seen) / max(1, first + second)
    return {
        "viewers": viewers,
        "viewer_rate_min": share,
        "stalled_viewer_bytes": max(0, grown),
        "fan_out_bytes": max(0, after_half - before),
    }


def recovery(url: str, sessions: int) -> dict[str, float]:
    """Kill the worker under sessions with a snapshot policy: time to the first typed answer, and until all go on."""
    with connect(url, sessions=sessions) as client:
        for session in client.sessions:
            session.reset(SCENARIO, rig=RIG, snapshot_every=4)
        act = dict.fromkeys(client.sessions, ACTION)
        for _ in range(10):
            client.step_many(act)
        before = client.sessions[0].next_chunk
        os.kill(_worker_pid(), signal.SIGKILL)
        began_s = time.perf_counter()
        client.step_many(act)
        answered_s = time.perf_counter() - began_s
        lost = max(before - session.next_chunk for session in client.sessions)
        while any(isinstance(result, Exception) for result in client.step_many(act).values()):
            time.sleep(0.01)
        return {"answer_s": answered_s, "recovery_s": time.perf_counter() - began_s, "lost_chunks": lost}


class _Stalled:
    """A viewer that asks and never reads."""

    def __init__(self, url: str, session: str) -> None:
        self._url, self._session = url, session

    def __enter__(self) -> None:
        from clients.handshake import open_socket
        from clients.protocol import Watch, pack

        socket, self._closing = open_socket(self._url, "/v1/view", {}, queue=1)
        socket.send(pack(Watch(id=1, session=self._session)))

    def __exit__(self, *_: object) -> None:
        self._closing.close()


def _drive(session: Session, seconds: float) -> int:
    """Drive in real time; how many chunks ran."""
    end_s, first = time.perf_counter() + seconds, session.next_chunk
    while time.perf_counter() < end_s and not session.done:
        session.step([0.0, 0.0])
    return session.next_chunk - first


def _median_ms(operation: Any, count: int) -> float:
    times = []
    for _ in range(count):
        began_s = time.perf_counter()
        operation()
        times.append((time.perf_counter() - began_s) * 1e3)
    return statistics.median(times)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _front_end_pid() -> int:
    return _children(os.getpid())[-1]


def _worker_pid() -> int:
    return _children(_front_end_pid())[-1]


def _cpu_s() -> float:
    """Processor time that server and load have used so far."""
    ticks = 0
    for pid in (os.getpid(), _front_end_pid(), _worker_pid()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime, stime
    return ticks / os.sysconf("SC_CLK_TCK")


def _memory_bytes(_: str) -> int:
    """Resident memory of the front end."""
    return int(Path(f"/proc/{_front_end_pid()}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
