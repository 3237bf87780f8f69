"""The commands that the server brings to `roadloop`: serve, play, token, replay, export. Heavy imports wait until one runs."""

import os
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

SERVE_HELP = """Serve worlds to driving policies and viewers over WebSocket.

Settings come from --config (YAML), then ROADLOOP_SERVER_* variables, then flags. Without tokens the server listens on
loopback addresses only. Exit codes: 0 stopped, 1 cannot serve any more, 2 wrong settings, 3 cannot listen.
"""


PLAY_HELP = """Start a server and a demo that drives by itself, and open the viewer, where T takes the wheel and gives it back.

Runs the world model where its weights are installed, else the reference engine; on a GPU where there is one. Exit codes:
0 stopped, 1 the server failed, 2 wrong settings, 3 the port is taken.
"""


def register(app: typer.Typer) -> None:
    """Add this part's commands to the `roadloop` application."""
    app.command("serve", help=SERVE_HELP)(serve)
    app.command("play", help=PLAY_HELP)(play)
    app.command("replay", help="Run a recording again and compare every chunk; exit code 1 if one differs.")(
        replay
    )
    app.command(
        "export",
        help="Run a recording again and write it as a video (MP4) or a log (MCAP); exit code 1 if it differs.",
    )(export)
    token = typer.Typer(help="Bearer tokens.", no_args_is_help=True)
    token.callback()(lambda: None)
    token.command(
        "create", help="Make a token; print it once, and the entry for the server's configuration."
    )(create_token)
    app.add_typer(token, name="token")


def register_benches(bench: typer.Typer) -> None:
    """Add this part's benchmarks to `roadloop bench`."""
    from .bench import server_bench
    from .bench_viewer import viewer_bench

    bench.command("server", help="What the server adds to a world that costs nothing.")(server_bench)
    bench.command("viewer", help="The page in headless Chromium: first paint, pictures, answers to keys.")(
        viewer_bench
    )


def serve(
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="reference, worldmodel, zero, or module:callable.")
    ] = None,
    workers: Annotated[
        list[str] | None,
        typer.Option(
            help="cpu:N, or cuda:I,J,... for one worker per device; ENGINE=cpu:N, repeated, for several engines."
        ),
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="local: processes of this machine; ray: actors of a Ray cluster.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    sessions_per_worker: Annotated[int | None, typer.Option(help="Slots of each worker.")] = None,
    snapshot_every: Annotated[
        int | None, typer.Option(help="Chunks between automatic snapshots; 0 is never.")
    ] = None,
    snapshot_dir: Annotated[
        Path | None, typer.Option(help="Folder for snapshots that memory has no room for.")
    ] = None,
    record_dir: Annotated[
        Path | None, typer.Option(help="Folder for recordings; allows clients to ask for one.")
    ] = None,
    json_logs: Annotated[bool | None, typer.Option(help="Log JSON lines.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting, as key=value.")
    ] = None,
    while_stdin: Annotated[
        bool, typer.Option("--while-stdin", help="Stop when standard input ends.")
    ] = False,
) -> None:
    """Serve until stopped."""
    from .config import ConfigError, load_config
    from .exit_codes import EXIT_BAD_CONFIG
    from .logs import configure_logs
    from .serve import serve as run
    from .weights import NoWeightsError, choose_model

    flags: dict[str, Any] = {"engine": engine, "workers": workers or None, "host": host, "port": port}
    flags |= {"sessions_per_worker": sessions_per_worker, "snapshot_every": snapshot_every}
    flags |= {"pool": pool, "snapshot_dir": snapshot_dir, "record_dir": record_dir, "json_logs": json_logs}
    try:
        settings = load_config(config, **(flags | _settings(setting or [])))
        for worker in settings.engines if settings.pool == "local" else []:
            if worker["name"] == "worldmodel":
                choose_model(worker["options"].get("model"))  # sooner and clearer than by a worker that dies
    except (ConfigError, NoWeightsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_BAD_CONFIG) from None
    configure_logs(settings.json_logs)
    if while_stdin:
        threading.Thread(target=_stop_with_stdin, daemon=True).start()
    raise typer.Exit(run(settings, lambda url: typer.echo(f"roadloop is listening on {url}")))


def play(
    engine: Annotated[
        str | None, typer.Option(help="worldmodel, reference, ...; else the best that is here.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; else what is here.")] = None,
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8600,
    scenario: Annotated[
        list[str] | None, typer.Option(help="What the demo drives; may be repeated; all is every one.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first round.")] = 1,
    rig: Annotated[str | None, typer.Option(help="Cameras; else the server's default.")] = None,
    tier: Annotated[str | None, typer.Option(help="X-Cache tier of the demo; else balanced.")] = None,
    policy: Annotated[
        str | None, typer.Option(help="What drives: a name, module:Class, or a file; else the expert.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser where there is a display.")] = True,
    config: Annotated[Path | None, typer.Option(help="Further settings of the server, as of serve.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting of the server, as key=value.")
    ] = None,
) -> None:
    """Serve and drive."""
    from .play import PlayChoices
    from .play import play as run

    choices = PlayChoices(
        engine=engine,
        device=device,
        port=port,
        config=config,
        settings=setting or (),
        scenarios=scenario or (),
        seed=seed,
        rig=rig,
        tier=tier,
        policy=policy,
        browser=browser,
    )
    raise typer.Exit(run(choices))


def create_token(
    name: Annotated[str, typer.Argument(help="Whose token it is; appears in logs and session lists.")],
    scope: Annotated[list[str] | None, typer.Option(help="drive, view or admin; may be repeated.")] = None,
) -> None:
    """Print a token and its configuration entry."""
    from pydantic import ValidationError

    from .auth import new_token
    from .config import TokenConfig

    token, digest = new_token()
    try:
        entry = TokenConfig(name=name, sha256=digest, scopes=scope or ["drive", "view"])
    except ValidationError as error:
        typer.echo(f"error: {error.errors()[0]['msg']}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"token (shown only now): {token}")
    typer.echo(yaml.safe_dump({"tokens": [entry.model_dump(exclude_none=True)]}, sort_keys=False), nl=False)


def replay(
    file: Annotated[Path, typer.Argument(help="A .rlrec file.")],
    device: Annotated[str | None, typer.Option(help="Instead of the recorded one: cpu, cuda:0, ...")] = None,
) -> None:
    """Run a recording again."""
    from .recording import RecordingError
    from .replay import replay as run

    try:
        report = run(file, device=device)
    except (RecordingError, OSError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(str(report))
    raise typer.Exit(0 if report.same else 1)


def export(
    file: Annotated[Path, typer.Argument(help="A .rlrec file.")],
    to: Annotated[str, typer.Option(help="mp4 or mcap.")] = "mp4",
    out: Annotated[Path | None, typer.Option(help="File to write; default is beside the recording.")] = None,
    camera: Annotated[str | None, typer.Option(help="Video of this camera alone.")] = None,
    device: Annotated[str | None, typer.Option(help="Instead of the recorded one: cpu, cuda:0, ...")] = None,
) -> None:
    """Write a recording as a video or a log."""
    from clients.errors import RoadloopError

    from .export import export as run
    from .recording import RecordingError

    target = out or file.with_suffix(f".{to}")
    try:
        made = run(file, target, to, camera, device=device)
    except (RecordingError, RoadloopError, OSError, ValueError, RuntimeError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{target}: {made.frames} frames")
    if made.difference is not None:
        typer.echo(f"not as recorded: {made.difference}", err=True)
        raise typer.Exit(1)


def _settings(pairs: list[str]) -> dict[str, Any]:
    from .config import ConfigError

    values = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set: expected key=value, got {pair!r}")
        values[key] = yaml.safe_load(text)
    return values


def _stop_with_stdin() -> None:
    """Whoever started us is gone: drain is pointless, but the workers must end."""
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
