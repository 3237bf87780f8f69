"""Churn: sessions opened, dropped, resumed, forked, watched. The long one, beside other work:

ROADLOOP_SOAK_S=1800 ROADLOOP_SOAK_ROUNDS_PER_S=4 pytest -s --timeout 2400 tests/server/test_soak.py
"""

import os
import random
import threading
import time
from pathlib import Path
from typing import Any

from clients.client import connect, watch
from clients.errors import RoadloopError
from clients.protocol import ProtocolError

SECONDS = float(os.environ.get("ROADLOOP_SOAK_S", "6"))
ROUNDS_PER_S = float(os.environ.get("ROADLOOP_SOAK_ROUNDS_PER_S", "inf"))  # of all drivers together, at most
DRIVERS = 4
LEASE_S = 0.3 if SECONDS < 60 else 5.0  # a resume must come in time, also on a busy machine
GROWTH_BYTES = 12 << 20  # of caches and allocator arenas; a leak of one chunk per session would be far more


def churn(url: str, seed: int, end_s: float, failures: list[BaseException], rounds: list[int]) -> None:
    rng = random.Random(seed)
    try:
        while (began_s := time.monotonic()) < end_s:
            one_round(url, rng)
            rounds.append(seed)
            time.sleep(max(0.0, began_s + DRIVERS / ROUNDS_PER_S - time.monotonic()))
    except BaseException as error:
        failures.append(error)


def one_round(url: str, rng: random.Random) -> None:
    client = connect(url, sessions=rng.randint(1, 3))
    act = {session: [0.0, 0.2] for session in client.sessions}
    for session in client.sessions:
        newest = rng.choice([None, 1])
        session.reset("zero", seed=rng.randrange(100), rig="front1", newest_frames=newest)
    for _ in range(rng.randint(1, 10)):
        client.step_many(act)
    client.session.restore(client.session.snapshot().handle)
    client.session.fork(rng.randint(1, 2))
    next(watch(url, client.session.name, timeout_s=60))
    match rng.randrange(3):
        case 0:
            client.close()
        case 1:
            client.disconnect()
        case _:
            with connect(url, resume=client.disconnect()) as again:
                again.session.step([0.0, 0.0])


def usage(pid: int) -> tuple[int, int]:
    """Resident bytes and open files."""
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resident, len(os.listdir(f"/proc/{pid}/fd"))


def run(url: str, seconds: float) -> int:
    failures: list[BaseException] = []
    rounds: list[int] = []
    end_s = time.monotonic() + seconds
    threads = [threading.Thread(target=churn, args=(url, k, end_s, failures, rounds)) for k in range(DRIVERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 60)
    assert not [f for f in failures if not isinstance(f, ProtocolError | RoadloopError)], failures
    assert not failures, failures
    return len(rounds)


def test_churn_leaves_no_session_no_file_and_no_memory_behind(run_server: Any, http: Any) -> None:
    with run_server(
        "--set", f"lease_s={LEASE_S}", "--set", "snapshot_bytes=1000000", "--sessions-per-worker", "256"
    ) as server:
        pids = [server.process.pid, *server.workers]

        def churned() -> list[tuple[int, int]]:
            rounds = run(server.url, SECONDS / 2)
            assert rounds > 0
            time.sleep(LEASE_S + 1.0)
            assert http(server.url, "/v1/sessions").body == []
            used = [usage(pid) for pid in pids]
            print(f"{rounds} rounds; resident bytes, open files of front end, worker: {used}")  # noqa: T201
            return used

        for (memory_then, files_then), (memory, files) in zip(churned(), churned(), strict=True):
            assert files <= files_then + 2
            assert memory <= memory_then + GROWTH_BYTES
