"""`roadloop bench env`: what the environments add to the server, in worlds that cost nothing.

The share is that of the bare client's rate: the same sessions on the same server through `step_many`, whose pictures nobody decodes. Both take
turns, a few steps each, so that whatever else runs on the machine hits both alike.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from .benchmarking import envelope, write_json
from .client import Client, connect
from .local import local_server

SCENARIO = "zero"
TURN = 4  # steps in a row
OBSERVED: dict[str, dict[str, Any]] = {  # what an environment may be asked for
    "surround7": {"rig": "surround7"},
    "front1": {"rig": "front1"},
    "front1, 64 x 112": {"rig": "front1", "image_size": (64, 112)},
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
        "own ms",
        title=f"roadloop bench env: {sessions} worlds",
    )
    for name, row in results["observed"].items():
        rates = (f"{row['steps_per_s']:.0f}", f"{row['bare_steps_per_s']:.0f}")
        table.add_row(name, *rates, f"{row['share_of_server_rate']:.2f}", f"{row['own_ms']:.2f}")
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


def rate(url: str, sessions: int, steps: int, choices: dict[str, Any]) -> dict[str, float]:
    """Session steps per second through the vector environment and through the bare client, medians."""
    from .gym import DriveVectorEnv

    envs = DriveVectorEnv(sessions, url=url, scenario=SCENARIO, **choices)
    with connect(url, sessions=sessions) as client:
        try:
            envs.reset(seed=0)
            for k, session in enumerate(client.sessions):
                session.reset(SCENARIO, k, rig=choices["rig"])
            waited, own = _waiting(envs._fleet.link.client), []
            still = np.zeros((sessions, 2), np.float32)
            times: dict[str, list[float]] = {"env": [], "bare": []}
            for turn in range(2 * max(1, steps // TURN)):
                name = "bare" if turn % 2 else "env"
                step: Callable[[], Any] = (
                    (lambda: client.step_many(dict.fromkeys(client.sessions, still[0])))
                    if turn % 2
                    else (lambda: envs.step(still))
                )
                for index in range(TURN):
                    waited.clear()
                    began_s = time.perf_counter()
                    step()
                    took_s = time.perf_counter() - began_s
                    if index:  # the first one of a turn finds cold caches
                        times[name].append(took_s)
                        own += [took_s - sum(waited)] if name == "env" else []
        finally:
            envs.close()
    env_s, bare_s = statistics.median(times["env"]), statistics.median(times["bare"])
    return {
        "steps_per_s": sessions / env_s,
        "bare_steps_per_s": sessions / bare_s,
        "share_of_server_rate": bare_s / env_s,
        "own_ms": statistics.median(own) * 1e3,
    }


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


def _waiting(client: Client) -> list[float]:
    """From now on, the seconds that each `step_many` of this client takes are appended here."""
    waited: list[float] = []
    bare = client.step_many

    def timed(*arguments: Any) -> Any:
        began_s = time.perf_counter()
        results = bare(*arguments)
        waited.append(time.perf_counter() - began_s)
        return results

    client.step_many = timed  # type: ignore[method-assign, assignment]
    return waited
