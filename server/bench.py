"""`roadloop bench server`: what the server adds to a world that costs nothing. The load comes from this process, the server is another.

Every part is a function of a running server's URL; `measure` runs them all.
"""

import json
import os
import platform
import signal
import statistics
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from clients.client import Session, connect, watch
from clients.local import local_server

from .encode import encode_camera

SCENARIO, RIG = "zero", "surround7"


def server_bench(
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the results.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Within a minute on two cores.")] = False,
) -> None:
    """Measure and print."""
    results = measure(0.25 if quick else 1.0)
    report = {
        "hardware": _hardware(),
        "commit": _commit(),
        "model_digest": "",
        "config": {"rig": RIG, "quick": quick},
    }
    text = json.dumps(report | {"results": results}, indent=2)
    typer.echo(text)
    if json_file is not None:
        json_file.write_text(text + "\n", encoding="utf-8")


def measure(scale: float) -> dict[str, Any]:
    """All results; `scale` 1 takes about two minutes."""
    results: dict[str, Any] = {}
    with local_server("zero", "--set", "breaker_losses=100") as url:
        results |= overhead(url, max(50, int(400 * scale)))
        results["sessions"] = [many(url, count, max(3, int(200 * scale / count))) for count in (1, 8, 64)]
        limit = encode_limit(max(1.0, 4 * scale))
        results["session_steps_per_s"] = results["sessions"][-1]["session_steps_per_s"]
        results["encode_limit_steps_per_s"] = limit
        results["share_of_encode_limit"] = results["session_steps_per_s"] / limit
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
            result = client.session.step([0.0, 0.1])
            total.append((time.perf_counter() - began_s) * 1e3)
            encode.append(result.timing["encode"])
    p50, p99 = np.percentile(total, [50, 99])
    return {
        "overhead_ms_p50": float(p50),
        "overhead_ms_p99": float(p99),
        "encode_ms_p50": statistics.median(encode),
    }


def many(url: str, sessions: int, rounds: int) -> dict[str, float]:
    """Lockstep sessions on one socket through step_many."""
    with connect(url, sessions=sessions) as client:
        for session in client.sessions:
            session.reset(SCENARIO, rig=RIG)
        act = {session: [0.0, 0.1] for session in client.sessions}
        client.step_many(act)
        took_ms = []
        began_s = time.perf_counter()
        for _ in range(rounds):
            round_s = time.perf_counter()
            client.step_many(act)
            took_ms.append((time.perf_counter() - round_s) * 1e3)
        seconds = time.perf_counter() - began_s
    p50, p99 = np.percentile(took_ms, [50, 99])
    rate = sessions * rounds / seconds
    return {
        "sessions": sessions,
        "session_steps_per_s": rate,
        "step_ms_p50": float(p50),
        "step_ms_p99": float(p99),
    }


def encode_limit(seconds: float) -> float:
    """Steps per second if all cores did nothing but encode the same frames."""
    from worldmodel.engine import OpenRequest

    from .zero_engine import ZeroEngine

    opened = ZeroEngine().open(OpenRequest(SCENARIO, RIG))
    frames = np.repeat(opened.frames, 4, axis=1)
    threads, end_s = os.cpu_count() or 1, time.perf_counter() + seconds

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() < end_s:
            for view in frames:
                encode_camera(view, "jpeg")
            done += 1
        return done

    began_s = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(work, range(threads)))
    return done / (time.perf_counter() - began_s)


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
        act = {session: [0.0, 0.1] for session in client.sessions}
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


def _memory_bytes(_: str) -> int:
    """Resident memory of the front end."""
    return int(Path(f"/proc/{_front_end_pid()}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _hardware() -> dict[str, Any]:
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpu": None,
        "load": os.getloadavg(),
    }


def _commit() -> str:
    ran = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return ran.stdout.strip()
