"""`roadloop play`: a server, a driver that never stops, and the viewer, with one command."""

import contextlib
import os
import signal
import sys
import tempfile
import time
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from clients.demo import Demo, DemoPlan
from clients.errors import RoadloopError
from clients.local import ServerExitError, local_server
from clients.policies import PolicySpecError, load_policy
from clients.protocol import ProtocolError
from clients.rest import call

from .exit_codes import EXIT_BAD_CONFIG, EXIT_CANNOT_LISTEN, EXIT_CANNOT_SERVE, EXIT_OK
from .preset import Preset, choose_preset

READY_TIMEOUT_S = 600.0
SCENARIOS = (
    "left_turn_lights",
    "highway_cut_in",
    "roundabout_straight",
    "urban_cruise",
    "rural_bends",
    "urban_rain_night",
    "merge_ramp",
)
EXPERT = "expert"  # sees the scene, so it drives where there is one and nobody else has driven,
SPARE = "lane_keeper"  # which goes by what every reply says
TIER = "balanced"  # of X-Cache, where the engine has one


@dataclass(frozen=True)
class PlayChoices:
    """What `roadloop play` was asked for; None leaves it to this machine and to the server."""

    engine: str | None = None
    device: str | None = None  # cpu or cuda
    port: int = 8600  # 0: any free one
    config: Path | None = None  # further settings of the server: a file,
    settings: Sequence[str] = ()  # and key=value
    scenarios: Sequence[str] = ()  # "all" is every one
    seed: int = 1
    rig: str | None = None
    tier: str | None = None
    policy: str | None = None
    browser: bool = True


def play(choices: PlayChoices) -> int:
    """Serve and drive until stopped. Returns the exit code; every way to end is said in words."""
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell has started it in the background
        signal.signal(number, signal.default_int_handler)
    try:
        _play(choices)
    except KeyboardInterrupt:
        say("stopped")
    except ServerExitError as end:
        if end.exit_code == EXIT_CANNOT_LISTEN:
            taken = f"port {choices.port} is taken{by_whom(choices.port)}"
            complain(f"{taken}; choose another with --port, or --port 0 for any")
        return end.exit_code
    except (PolicySpecError, ProtocolError, ValueError) as error:
        complain(str(error))
        return EXIT_BAD_CONFIG
    except RoadloopError as error:
        complain(str(error))
        return EXIT_CANNOT_SERVE
    return EXIT_OK


def _play(choices: PlayChoices) -> None:
    began_s = time.monotonic()
    asked = None if choices.policy is None else load_policy(choices.policy).make()
    preset = choose_preset(choices.engine, choices.device)
    say(f"starting the server: {preset.words}")
    with contextlib.ExitStack() as running:
        log = Path(running.enter_context(tempfile.TemporaryDirectory())) / "server.log"
        with Console(stderr=True).status("loading"):
            url = running.enter_context(server_of(preset, choices, log))
        say(f"ready after {time.monotonic() - began_s:.0f} s")
        show(url, choices.browser)
        policy = asked or load_policy(EXPERT if has_scenes(url) else SPARE).make()
        spare = load_policy(SPARE).make() if choices.policy in (None, EXPERT) else policy
        Demo(url, plan_of(choices, call(url, "/v1/server")), policy, spare, say).run_forever()


@contextlib.contextmanager
def server_of(preset: Preset, choices: PlayChoices, log: Path) -> Iterator[str]:
    """A server on this machine; its last messages are shown if it fails."""
    arguments = ["--port", str(choices.port)]
    arguments += [part for workers in preset.workers for part in ("--workers", workers)]
    arguments += [] if choices.config is None else ["--config", str(choices.config)]
    arguments += [part for setting in choices.settings for part in ("--set", setting)]
    try:
        with local_server(preset.engine, *arguments, ready_timeout_s=READY_TIMEOUT_S, log=log) as url:
            yield url
    except RoadloopError as error:
        if not isinstance(error, ServerExitError) or error.exit_code != EXIT_CANNOT_LISTEN:
            complain("\n".join(log.read_text().splitlines()[-12:]))
        raise


def by_whom(port: int) -> str:
    """Who answers there, if it is one of us."""
    with contextlib.suppress(ProtocolError, RoadloopError, ValueError):
        answer = call(f"http://127.0.0.1:{port}", "/version", timeout_s=2.0)
        return f" by roadloop {answer['server']}, at http://127.0.0.1:{port}"
    return ""


def plan_of(choices: PlayChoices, server: Mapping[str, Any]) -> DemoPlan:
    """What to drive, of what the server offers.

    Raises:
        ValueError: a scenario that it does not offer.
    """
    offered: list[str] = server["scenarios"]
    if unknown := [name for name in choices.scenarios if name not in (*offered, "all")]:
        raise ValueError(f"expected scenarios of {', '.join(offered)}, or all, got {', '.join(unknown)}")
    chosen = choices.scenarios or [name for name in SCENARIOS if name in offered]
    tier = choices.tier or (TIER if TIER in server["tiers"] else server["tiers"][0])
    rig = {} if choices.rig is None else {"rig": choices.rig}
    everything = "all" in chosen or not chosen
    return DemoPlan(offered if everything else chosen, choices.seed, {"options": {"tier": tier}, **rig})


def has_scenes(url: str) -> bool:
    """Whether the engine's worlds are scenes with a map."""
    return any(scenario["map"] for scenario in call(url, "/v1/scenarios"))


def show(url: str, browser: bool) -> None:
    """Open the viewer where somebody can see it; say where it is in any case."""
    opened = browser and has_display() and webbrowser.open(url)
    say(f"the viewer: {url}{' (opened)' if opened else ''}")
    if "SSH_CONNECTION" in os.environ:
        port = url.rpartition(":")[2]
        say(f"from your own machine: ssh -L {port}:127.0.0.1:{port} ..., then open that address there")


def has_display() -> bool:
    """Whether a browser would be seen."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return "SSH_CONNECTION" not in os.environ


def say(text: str) -> None:
    """One line of progress."""
    typer.echo(f"==> {text}")


def complain(text: str) -> None:
    """What went wrong."""
    typer.echo(f"error: {text}", err=True)
