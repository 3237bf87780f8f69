"""`roadloop scenarios`: list and check scenario files, publish their schema, score the expert on them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .explain import explained

if TYPE_CHECKING:
    from ..scene.trial import Trial

_COLUMNS = ("NC", "DAC", "TTC", "EP", "C", "PDMS", "DS", "done")


def register(app: typer.Typer) -> None:
    """Add `roadloop scenarios list|validate|schema|expert`."""
    scenarios = typer.Typer(no_args_is_help=True, help="List, check and try scenarios.")
    scenarios.command("list")(list_command)
    scenarios.command("validate")(validate_command)
    scenarios.command("schema")(schema_command)
    scenarios.command("expert")(expert_command)
    app.add_typer(scenarios, name="scenarios")


def list_command() -> None:
    """Show the catalogue."""
    from rich.console import Console
    from rich.table import Column, Table

    from ..scene.scenario import load_scenario, scenario_names

    table = Table(
        Column("name", no_wrap=True), "title", "group", "split", "map", "route", "conditions", "events"
    )
    for name in scenario_names():
        s = load_scenario(name)
        weather = "/".join(s.randomise.weather or (s.weather,))
        light = "/".join(s.randomise.time_of_day or (s.time_of_day,))
        events = ", ".join(event.kind for event in s.events)
        table.add_row(name, s.title, s.group, s.split, s.map.kind, s.route, f"{weather}, {light}", events)
    Console().print(table)


def validate_command(
    names: Annotated[list[str] | None, typer.Argument(help="Names or files; all presets by default.")] = None,
    seeds: Annotated[int, typer.Option(help="Build each with so many seeds.")] = 1,
) -> None:
    """Read scenarios and build their scenes; exit code 2 if one is refused, with the reason."""
    from ..scene.scenario import load_scenario, scenario_names
    from ..scene.scene import Scene

    refused = 0
    for name in names or scenario_names():
        try:
            for seed in range(seeds):
                Scene(load_scenario(name), seed)
        except ValueError as error:
            refused += 1
            typer.echo(f"error: {error}", err=True)
        else:
            typer.echo(f"{name}: fine")
    if refused:
        raise typer.Exit(2)


def schema_command(
    out: Annotated[
        Path | None, typer.Argument(help="Where to write it; to standard output by default.")
    ] = None,
) -> None:
    """Write the JSON Schema of scenario files."""
    from ..scene.scenario import scenario_json_schema

    if out is None:
        typer.echo(scenario_json_schema(), nl=False)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(scenario_json_schema(), encoding="utf-8")


def expert_command(
    names: Annotated[list[str] | None, typer.Argument(help="Names or files; all presets by default.")] = None,
    seeds: Annotated[int, typer.Option(help="Drives per scenario, with seeds 0, 1, ...")] = 3,
    processes: Annotated[int, typer.Option(help="Drive so many at the same time.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Write the table as a Markdown page.")] = None,
) -> None:
    """Let the expert drive scenarios and show its scores, means over the seeds."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Column, Table

    from ..scene.scenario import scenario_names

    with explained():
        trials = run_trials(names or list(scenario_names()), seeds, processes)
    names_column = Column("scenario", no_wrap=True)
    table = Table(
        names_column, "group", "split", *_COLUMNS, "violations", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for row in rows(trials):
        table.add_row(*row)
    Console().print(table)
    typer.echo(summary(trials))
    if out is not None:
        out.write_text(markdown(trials, seeds), encoding="utf-8")


def run_trials(names: Sequence[str], seeds: int, processes: int) -> "list[Trial]":
    """Drive every scenario with every seed; results in the order of names and seeds."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from rich.progress import track

    from ..scene.trial import run_trial

    jobs = [(name, seed) for name in names for seed in range(seeds)]
    if processes == 1:
        return [run_trial(*job) for job in track(jobs, "driving", transient=True)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(run_trial, *job) for job in jobs]
        return [future.result() for future in track(futures, "driving", transient=True)]


def rows(trials: "Sequence[Trial]") -> Iterator[tuple[str, ...]]:
    """One row of text per scenario: means over its seeds, and what went wrong with which seed."""
    from ..scene.scenario import load_scenario

    by_scenario: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        by_scenario[trial.scenario].append(trial)
    for name, group in by_scenario.items():
        s = [trial.scores for trial in group]
        values = (
            [x.no_collision for x in s],
            [x.drivable_area for x in s],
            [x.time_to_collision for x in s],
            [x.ego_progress for x in s],
            [x.comfort for x in s],
            [x.pdms for x in s],
            [x.driving_score for x in s],
            [x.route_completion for x in s],
        )
        wrong = "; ".join(f"{', '.join(t.violations)} (seed {t.seed})" for t in group if t.violations)
        scenario = load_scenario(name)
        means = (f"{sum(column) / len(column):.2f}" for column in values)
        yield (name, scenario.group, scenario.split, *means, wrong or "none")


def summary(trials: "Sequence[Trial]") -> str:
    """One sentence."""
    clean = sum(not trial.violations for trial in trials)
    pdms = sum(trial.scores.pdms for trial in trials) / len(trials)
    return f"{clean} of {len(trials)} drives ({clean / len(trials):.1%}) without a violation, mean PDMS {pdms:.3f}"


def markdown(trials: "Sequence[Trial]", seeds: int) -> str:
    """The page docs/scenarios.md."""
    head = ("scenario", "group", "split", *_COLUMNS, "violations")
    lines = [
        "# The expert on the catalogue of scenarios",
        "",
        f"Made by `roadloop scenarios expert --seeds {seeds} --out docs/scenarios.md`. Do not edit.",
        "",
        f"{summary(trials)}. Means over {seeds} seeds; NC to PDMS and DS, the driving",
        "score, are explained in metrics.md; done is the share of the route. EP is measured against an empty",
        "road with green lights, so that waiting for others costs the expert, too; TTC and C fail on one bad frame of a drive.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows(trials)),
    ]
    return "\n".join(lines) + "\n"
