"""`roadloop bench env`: what the environments add to the server, in worlds that cost nothing.

The share is that of the bare client's rate: the same sessions on the same server through `step_many`, which sends it the same pictures (the newest of each
camera), but nobody decodes them. A second bare client gets all frames, as who asks for nothing special does. All take turns, a few steps each, so that whatever
else runs on the machine hits all alike.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from .benchmarking import envelope, write_json
from .client import connect
from .local import local_server

SCENARIO = "zero"
TURN = 4  # steps in a row
OBSERVED: dict[str, dict[str, Any]] = {  # what an environment may be asked for
    "surround7": {"rig": "surround7"},
    "surround7, raw": {"rig": "surround7", "encoding": "raw"},
    "front1": {"rig": "front1"},
    "front1, 64 x 112": {"rig": "front1", "image_size": (64, 112)},
    "front1, raw": {"rig": "front1", "encoding": "raw"},
}


def env_bench(
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the results.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Within a minute on two cores.")] = False,
    sessions: Annotated[int, typer.Option(help="Worlds of the vector environment.")] = 8,
) -> None:
    """Measure the vector environment against the server's own rate, resets, and imports."""
    from rich.console import Console
    from rich.table import Table

    results = measure(sessions, 60 if quick else 400, 9 if quick else 25)
    table = Table(
        "observed",
        "steps/s",
        "bare steps/s",
        "share",
        "all frames",
        "share",
        "CPU ms",
        "bare CPU ms",
        title=f"roadloop bench env: {sessions} worlds",
    )
    for name, row in results["observed"].items():
        rates = (f"{row['steps_per_s']:.0f}", f"{row['bare_steps_per_s']:.0f}")
        costs = (f"{row['cpu_ms']:.1f}", f"{row['bare_cpu_ms']:.1f}")
        whole = (f"{row['all_frames_steps_per_s']:.0f}", f"{row['share_of_all_frames_rate']:.2f}")
        table.add_row(name, *rates, f"{row['share_of_server_rate']:.2f}", *whole, *costs)
    console = Console()
    console.print(table)
    console.print(
        f"reset {results['open_ms']:.1f} ms opened, {results['restore_ms']:.1f} ms restored; "
        f"imports {results['import_s']:.2f} s (client), {results['gym_import_s']:.2f} s (environments)"
    )
    if json_file is not None:
        write_json(envelope(results, {"sessions": sessions, "quick": quick, "engine": "zero"}), json_file)


def measure(sessions: int, steps: int, resets: int) -> dict[str, Any]:
    """All results: those of the default rig at the top, of every choice of pictures under `observed`."""
    with local_server("zero", "--set", "sessions_per_worker=64") as url:
        observed = {name: rate(url, sessions, steps, choices) for name, choices in OBSERVED.items()}
        default = next(iter(observed.values()))
        return {
            "steps_per_s": default["steps_per_s"],
            "share_of_server_rate": default["share_of_server_rate"],
            "observed": observed,
            **reset_times(url, resets),
            "import_s": import_time("clients"),
            "gym_import_s": import_time("clients.gym"),
        }


def rate(url: str, sessions: int, steps: int, choices: Mapping[str, Any]) -> dict[str, float]:
    """Session steps per second through the vector environment and through the bare client, medians; and what a step of all costs this process.

    Processor time tells more than rates where the server wants all cores: what the environments spend, the server cannot.
    """
    from .gym import DriveVectorEnv

    envs = DriveVectorEnv(sessions, url=url, scenario=SCENARIO, **choices)
    with ExitStack() as closing:
        closing.callback(envs.close)
        envs.reset(seed=0)
        still = np.zeros((sessions, 2), np.float32)
        ours = Clock(lambda: envs.step(still))
        bare, whole = (Clock(closing.enter_context(_bare(url, sessions, choices, n))) for n in (1, None))
        for _ in range(max(1, steps // TURN)):
            for clock in (ours, bare, whole):
                clock.turn()
    return {
        "steps_per_s": sessions / ours.median_s,
        "bare_steps_per_s": sessions / bare.median_s,
        "share_of_server_rate": bare.median_s / ours.median_s,
        "all_frames_steps_per_s": sessions / whole.median_s,
        "share_of_all_frames_rate": whole.median_s / ours.median_s,
        "cpu_ms": ours.cpu_ms,
        "bare_cpu_ms": bare.cpu_ms,
    }


@contextmanager
def _bare(
    url: str, sessions: int, choices: Mapping[str, Any], newest_frames: int | None
) -> Iterator[Callable[[], Any]]:
    """A step of all sessions of a client that decodes nothing."""
    with connect(url, sessions=sessions, encoding=choices.get("encoding", "jpeg")) as client:
        for k, session in enumerate(client.sessions):
            session.reset(SCENARIO, k, rig=choices["rig"], newest_frames=newest_frames)
        actions = dict.fromkeys(client.sessions, (0.0, 0.0))
        yield lambda: client.step_many(actions)


class Clock:
    """Times an operation, a few in a row; the first of a turn finds cold caches and does not count."""

    def __init__(self, operation: Callable[[], Any]) -> None:
        self._operation = operation
        self._times_s: list[float] = []
        self._cpu_s: list[float] = []

    def turn(self) -> None:
        """One turn."""
        self._operation()
        for _ in range(TURN):
            began_s, cpu_s = time.perf_counter(), time.process_time()
            self._operation()
            self._times_s.append(time.perf_counter() - began_s)
            self._cpu_s.append(time.process_time() - cpu_s)

    @property
    def median_s(self) -> float:
        """Of the time on the clock."""
        return statistics.median(self._times_s)

    @property
    def cpu_ms(self) -> float:
        """Median of this process's time on all its threads."""
        return statistics.median(self._cpu_s) * 1e3


def reset_times(url: str, count: int) -> dict[str, float]:
    """Milliseconds to begin an episode: opened anew, and restored from the snapshot of its beginning; medians."""
    from .gym import DriveEnv

    times = {}
    for name, restore in (("open_ms", False), ("restore_ms", True)):
        env = DriveEnv(url=url, scenario=SCENARIO, restore=restore)
        taken = []
        for _ in range(count + 2):  # begun twice, a world is kept
            began_s = time.perf_counter()
            env.reset(seed=1)
            taken.append((time.perf_counter() - began_s) * 1e3)
        env.close()
        times[name] = statistics.median(taken[2:])
    return times


def import_time(module: str) -> float:
    """Seconds to import a module in a new interpreter, the best of three."""
    script = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    command = [sys.executable, "-c", script]
    return min(
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3)
    )
