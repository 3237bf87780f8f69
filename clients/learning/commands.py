"""`roadloop learn`: clone the expert, then drive better by driving. torch and the rest are imported only when one of them runs."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from ..errors import RoadloopError
from ..local import local_server
from .network import Learns

NEEDS = "pip install 'roadloop[learn]'"


def register(app: typer.Typer) -> None:
    """Add `roadloop learn clone`, `look` and `ppo`."""
    learn = typer.Typer(no_args_is_help=True, help="Make a vision policy: clone the expert, then PPO.")
    learn.command("clone")(clone_command)
    learn.command("look")(look_command)
    learn.command("ppo")(ppo_command)
    app.add_typer(learn, name="learn")


def clone_command(
    lessons: Annotated[list[Path], typer.Argument(help="Files that `roadloop data lessons` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights.")],
    start: Annotated[Path | None, typer.Option(help="Weights to begin with; none: random ones.")] = None,
    epochs: Annotated[float, typer.Option(help="How often each lesson is learnt from.")] = 12.0,
    seed: int = 0,
    threads: Annotated[int, typer.Option(help="Of torch; 0 leaves it alone.")] = 0,
) -> None:
    """Learn to answer as the expert does. Checkpoints of early stages are kept: they are worse drivers."""
    try:
        from .clone import CloneConfig, Progress, clone
        from .lessons import Lessons
        from .network import VisionNetwork

        _use(threads)

        def tell(progress: Progress) -> None:
            typer.echo(
                f"{progress.share:4.0%}  loss {progress.loss:.3f}  error across {progress.across_mps2:.3f} along "
                f"{progress.along_mps2:.3f} m/s^2  {progress.seconds:.0f} s"
            )

        taken = Lessons.load(*lessons)
        typer.echo(f"{len(taken)} lessons of {len(set(taken.episode.tolist()))} episodes")
        clone(taken, out, CloneConfig(epochs=epochs, seed=seed), start, tell)
        digest = VisionNetwork.load(out / "vision.safetensors").digest
    except (RoadloopError, OSError, ImportError) as error:
        _fail(error)
    typer.echo(f"{out / 'vision.safetensors'}: digest {digest}")


def look_command(
    drives: Annotated[Path, typer.Argument(help="Folder of `roadloop data build`.")],
    lessons: Annotated[Path, typer.Argument(help="What `roadloop data lessons` made of it.")],
    out: Annotated[Path, typer.Option(help="NumPy file (.npz) to write.")],
    url: Annotated[str | None, typer.Option(help="Server; by default one is started here.")] = None,
    token: Annotated[str | None, typer.Option(help="Bearer token.", envvar="ROADLOOP_TOKEN")] = None,
    engine: Annotated[str, typer.Option(help="Engine of the server that is started.")] = "worldmodel",
    slots: Annotated[int, typer.Option(min=1, help="Drives at a time.")] = 4,
) -> None:
    """Drive the recorded drives again on a server: the same lessons, seen through its engine."""
    try:
        from .look import look

        with ExitStack() as closing:
            address = url or closing.enter_context(local_server(engine))
            count = look(drives, lessons, out, address, token, slots, _tell_drives)
    except (RoadloopError, OSError, ImportError) as error:
        _fail(error)
    typer.echo(f"{out}: {count} lessons")


def _tell_drives(done: int, total: int) -> None:
    typer.echo(f"{done} of {total} drives", err=True)


def ppo_command(
    out: Annotated[Path, typer.Option(help="Folder for weights and state.")],
    start: Annotated[Path | None, typer.Option(help="Weights to begin with; none: random ones.")] = None,
    steps: Annotated[int, typer.Option(help="Chunks, of all worlds together.")] = 100_000,
    worlds: Annotated[int, typer.Option(help="Sessions at a time.")] = 8,
    rollout: Annotated[int, typer.Option(help="Chunks of each world between updates.")] = 128,
    warmup: Annotated[int, typer.Option(help="First updates, which teach the critic alone.")] = 2,
    learns: Annotated[
        Learns, typer.Option(help="The last layer, all that does not read pictures, or everything.")
    ] = "last",
    learning_rate: Annotated[float, typer.Option(help="Less where more than the last layer learns.")] = 1e-3,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what OUT has.")] = False,
    seed: int = 0,
    threads: Annotated[int, typer.Option(help="Of torch; 0 leaves it alone.")] = 0,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Of the environment, as key=value: url=..., scenario=[a, b]."),
    ] = None,
) -> None:
    """Learn by driving, through the vector environment: of the server at url, or one of its own."""
    try:
        environment = dict(_setting(each) for each in setting or [])
        from .ppo import PpoConfig, fine_tune

        _use(threads)
        config = PpoConfig(
            steps=steps,
            worlds=worlds,
            rollout=rollout,
            warmup=warmup,
            learns=learns,
            learning_rate=learning_rate,
            seed=seed,
            environment=environment,
        )
        weights = fine_tune(out, config, start, resume)
    except (RoadloopError, ValueError, OSError, ImportError) as error:
        _fail(error)
    typer.echo(str(weights))


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set: expected key=value, got {text!r}")
    return key, yaml.safe_load(value)


def _use(threads: int) -> None:
    import torch

    if threads:
        torch.set_num_threads(threads)


def _fail(error: Exception) -> None:
    missing = f": {NEEDS}" if isinstance(error, ModuleNotFoundError) else ""
    typer.echo(f"error: {error}{missing}", err=True)
    raise typer.Exit(2)
