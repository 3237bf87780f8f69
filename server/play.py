"""`roadloop play`: a server, a driver that never stops, and the viewer, with one command."""

import contextlib
import os
import sys
import tempfile
import time
import webbrowser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from clients.demo import Demo, DemoPlan
from clients.errors import RoadloopError
from clients.local import EXIT_CANNOT_LISTEN, ServerExitError, local_server
from clients.policies import PolicySpecError, load_policy
from clients.protocol import ProtocolError
from clients.rest import call

from .preset import Preset, choose_preset

EXIT_OK, EXIT_FAILED, EXIT_BAD_CONFIG = 0, 1, 2
READY_TIMEOUT_S = 600.0
# What the bundled lane keeper can do: it sees neither the bend ahead nor the lights.
SCENARIOS = ("highway_cruise", "country_road", "urban_empty", "highway_cut_in", "highway_rain", "merge_ramp")


def play(
    engine: Annotated[
        str | None, typer.Option(help="worldmodel, reference, ...; without it the best that is here.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; without it what is here.")] = None,
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8600,
    scenario: Annotated[
        list[str] | None, typer.Option(help="What the demo drives; may be repeated. all: every one.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first round.")] = 1,
    rig: Annotated[str | None, typer.Option(help="Cameras; without it the server's default.")] = None,
    tier: Annotated[str, typer.Option(help="X-Cache tier of the demo.")] = "exact",
    policy: Annotated[
        str, typer.Option(help="What drives: a name, module:Class, or a file.")
    ] = "lane_keeper",
    browser: Annotated[bool, typer.Option(help="Open a browser where there is a display.")] = True,
    config: Annotated[
        Path | None, typer.Option(help="Settings of the server, as of `roadloop serve`.")
    ] = None,
) -> None:
    """Start a server and a demo that drives by itself; open the viewer. T takes the wheel there, and gives it back.

    Exit codes: 0 stopped, 1 the server failed, 2 wrong settings, 3 the port is taken.
    """
    began_s = time.monotonic()
    with explained(port), tempfile.TemporaryDirectory() as folder:
        drives = load_policy(policy).make()
        preset = choose_preset(engine, device)
        say(f"starting the server: {preset.words}")
        with contextlib.ExitStack() as running:
            with Console(stderr=True).status("loading"):
                server = server_of(preset, port, config, Path(folder) / "server.log")
                url = running.enter_context(server)
            say(f"ready after {time.monotonic() - began_s:.0f} s")
            show(url, browser)
            choices = {"options": {"tier": tier}} | ({} if rig is None else {"rig": rig})
            plan = DemoPlan(scenarios_of(url, scenario), seed, choices)
            Demo(url, plan, drives, say).run_forever()


@contextlib.contextmanager
def server_of(preset: Preset, port: int, config: Path | None, log: Path) -> Iterator[str]:
    """A server on this machine; its last messages are shown if it fails."""
    settings = () if config is None else ("--config", str(config))
    arguments = ("--port", str(port), "--workers", preset.workers, *settings)
    try:
        with local_server(preset.engine, *arguments, ready_timeout_s=READY_TIMEOUT_S, log=log) as url:
            yield url
    except RoadloopError as error:
        if not isinstance(error, ServerExitError) or error.exit_code != EXIT_CANNOT_LISTEN:
            complain("\n".join(log.read_text().splitlines()[-12:]))
        raise


@contextlib.contextmanager
def explained(port: int) -> Iterator[None]:
    """Every way in which playing can end, as a sentence and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        say("stopped")
        raise typer.Exit(EXIT_OK) from None
    except ServerExitError as end:
        if end.exit_code == EXIT_CANNOT_LISTEN:
            complain(f"port {port} is taken{by_whom(port)}; choose another with --port, or --port 0")
        raise typer.Exit(end.exit_code) from None
    except (PolicySpecError, ProtocolError, ValueError) as error:
        complain(str(error))
        raise typer.Exit(EXIT_BAD_CONFIG) from None
    except RoadloopError as error:
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from None


def by_whom(port: int) -> str:
    """Who answers there, if it is one of us."""
    with contextlib.suppress(ProtocolError, RoadloopError, ValueError):
        answer = call(f"http://127.0.0.1:{port}", "/version", timeout_s=2.0)
        return f" by roadloop {answer['server']}, at http://127.0.0.1:{port}"
    return ""


def scenarios_of(url: str, asked: Sequence[str] | None) -> list[str]:
    """What to drive, of what the server offers.

    Raises:
        ValueError: a scenario that it does not offer.
    """
    offered: list[str] = call(url, "/v1/server")["scenarios"]
    if asked and list(asked) != ["all"]:
        if unknown := [name for name in asked if name not in offered]:
            raise ValueError(f"expected scenarios of {', '.join(offered)}, got {', '.join(unknown)}")
        return list(asked)
    suited = [name for name in SCENARIOS if name in offered]
    return offered if asked or not suited else suited


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
