"""`roadloop eval`: run a suite, score it again, compare two runs, report, export. Exit codes: 0 done; 1 some rollouts failed or the run ended early; 2 wrong input."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import print_differences, progress, show

if TYPE_CHECKING:
    from collections.abc import Iterator

EXIT_FAILED, EXIT_BAD_INPUT = 1, 2
Folder = Annotated[Path, typer.Argument(help="Folder of a run.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the `roadloop` application."""
    evaluation = typer.Typer(
        help="Evaluate driving policies: run a suite of worlds, score, compare, report.",
        invoke_without_command=True,
    )
    evaluation.callback()(run)
    evaluation.command("compare", help="Differences of two runs on the worlds that both drove.")(compare)
    evaluation.command("report", help="Write the HTML page of a run.")(report)
    evaluation.command("export", help="Write a run as Parquet tables or as a LeRobot dataset.")(export)
    evaluation.command("suites", help="The shipped suites.")(suites)
    app.add_typer(evaluation, name="eval")


def run(
    context: typer.Context,
    suite: Annotated[str | None, typer.Option(help="Shipped suite, or a YAML file.")] = None,
    policy: Annotated[
        str | None, typer.Option(help="Policy spec: `roadloop policy list`, module:Class, file, ws://.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results; by default runs/eval/SUITE-POLICY.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Server; by default one is started here.")] = None,
    token: Annotated[str | None, typer.Option(help="Bearer token.", envvar="ROADLOOP_TOKEN")] = None,
    engine: Annotated[str, typer.Option(help="Engine of the server that is started.")] = "reference",
    slots: Annotated[int, typer.Option(min=1, max=256, help="Worlds driven at once.")] = 4,
    rig: Annotated[str | None, typer.Option(help="Instead of the suite's.")] = None,
    camera: Annotated[list[str] | None, typer.Option(help="Only these cameras; may be repeated.")] = None,
    tier: Annotated[str | None, typer.Option(help="X-Cache tier, instead of the suite's.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps, instead of the suite's.")] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Worlds per scenario, instead of the suite's.")
    ] = None,
    clip: Annotated[
        bool, typer.Option(help="Move actions out of bounds to them instead of failing.")
    ] = False,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out.")] = False,
    redo_scores: Annotated[bool, typer.Option(help="Score the run in --out again, without driving.")] = False,
    reference: Annotated[
        Path | None, typer.Option(help="Run to measure progress and distance against.")
    ] = None,
    video: Annotated[bool, typer.Option(help="Write an MP4 of every rollout.")] = False,
    mcap: Annotated[
        bool, typer.Option(help="Write an MCAP of every rollout, with Foxglove's schemas.")
    ] = False,
    retries: Annotated[int, typer.Option(min=0, help="After failures of the infrastructure.")] = 2,
    rollout_timeout: Annotated[float, typer.Option(min=1, help="Longest rollout [s].")] = 900.0,
    policy_timeout: Annotated[float, typer.Option(min=0.1, help="Longest wait for a policy [s].")] = 60.0,
) -> None:
    """Run a suite."""
    if context.invoked_subcommand is not None:
        return
    with _explained():
        if redo_scores:
            _redo(out, reference)
            raise typer.Exit
        from .drive import Limits
        from .harness import evaluate

        if suite is None or policy is None:
            raise ValueError("expected --suite and --policy; see --help")
        changes = {"rig": rig, "repeats": repeats, "cameras": camera, "tier": tier, "steps": steps}
        chosen = _changed(suite, {name: value for name, value in changes.items() if value is not None})
        folder = out or Path("runs/eval") / f"{chosen.name}-{_file_name(policy)}"
        with progress() as (on_start, on_result):
            finished = evaluate(
                chosen,
                policy,
                folder,
                url=url,
                token=token,
                engine=engine,
                resume=resume,
                reference=reference,
                video=_video() if video else None,
                log=_log() if mcap else None,
                on_start=on_start,
                on_result=on_result,
                slots=slots,
                retries=retries,
                limits=Limits(rollout_timeout, policy_timeout),
                clip=clip,
            )
        show(finished)
        if finished.failed:
            raise typer.Exit(EXIT_FAILED)


def compare(
    a: Folder,
    b: Annotated[Path, typer.Argument(help="Folder of another run.")],
    html: Annotated[Path | None, typer.Option(help="Also write a page.")] = None,
) -> None:
    """B less A, with paired 95 % intervals."""
    with _explained():
        from .comparison import compare as run_comparison
        from .results import RunFolder

        found = run_comparison(RunFolder(a), RunFolder(b))
        print_differences(found, str(a), str(b))
        if html is not None:
            from .comparison_page import write_comparison

            write_comparison(html, found, str(a), str(b))
            typer.echo(f"wrote {html}")


def report(
    folder: Folder,
    out: Annotated[Path | None, typer.Option(help="File; by default report.html there.")] = None,
) -> None:
    """Write the HTML page of a run."""
    with _explained():
        from .report import write_report
        from .results import RunFolder

        run_folder = RunFolder(folder)
        typer.echo(f"wrote {write_report(run_folder, run_folder.ordered(), out)}")


def export(
    folder: Folder,
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    form: Annotated[
        str, typer.Option("--format", help="parquet, or lerobot (needs a run with --mcap).")
    ] = "parquet",
) -> None:
    """Write a run in another format."""
    with _explained():
        from .results import RunFolder

        if form == "parquet":
            from .parquet import write_parquet

            for path in write_parquet(RunFolder(folder), out):
                typer.echo(f"wrote {path}")
        elif form == "lerobot":
            from .lerobot import write_dataset

            typer.echo(f"wrote {write_dataset(RunFolder(folder), out)} episodes to {out}")
        else:
            raise ValueError(f"expected the format parquet or lerobot, got {form!r}")


def suites() -> None:
    """One line per suite."""
    from .suite import load_suite, suite_names

    for name in suite_names():
        suite = load_suite(name)
        typer.echo(f"{name:16} {sum(len(plan.keys) for plan in suite.rollouts()):4} rollouts  {suite.title}")


def _redo(out: Path | None, reference: Path | None) -> None:
    from .harness import rescore

    if out is None:
        raise ValueError("expected --out with --redo-scores: the folder of the run")
    show(rescore(out, reference))


def _changed(suite: str, changes: dict[str, Any]) -> Any:
    """The suite with what the command line says instead."""
    from .suite import load_suite

    values = load_suite(suite).model_dump(exclude_none=True)
    for name, value in changes.items():
        (values["options"] if name in ("cameras", "tier", "steps") else values)[name] = value
    if "repeats" in changes:
        for entry in values["scenarios"]:
            entry.pop("repeats", None)
    return load_suite(values)


@contextmanager
def _explained() -> "Iterator[None]":
    """Errors in one line, with the exit code that says whose they are."""
    from ..errors import ConnectionLostError, ReplyTimeoutError, RoadloopError
    from ..protocol import ProtocolError
    from .runner import RunError

    try:
        yield
    except (RunError, ConnectionLostError, ReplyTimeoutError, ProtocolError) as error:
        typer.echo(f"error: {error}", err=True)
        refused = getattr(error, "refused", isinstance(error, ProtocolError) and not error.retryable)
        raise typer.Exit(EXIT_BAD_INPUT if refused else EXIT_FAILED) from None
    except (RoadloopError, ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_BAD_INPUT) from None
    except KeyboardInterrupt:
        typer.echo("stopped; go on with --resume", err=True)
        raise typer.Exit(EXIT_FAILED) from None


def _video() -> Any:
    from .video import write_video

    return write_video


def _log() -> Any:
    from .mcap_log import write_log

    return write_log


def _file_name(policy: str) -> str:
    """A policy spec as part of a file name."""
    stem = Path(policy).stem if policy.endswith((".yaml", ".yml", ".csv", ".parquet")) else policy
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in stem)[:60]
