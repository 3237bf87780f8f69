"""`roadloop bench ranking`: the same policies in the same worlds, in the reference engine and in the world model; do both rank them alike?

Every drive is a run of the evaluation harness and keeps its folder: killed at any moment, the same command goes on where it stopped.
"""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from ..benchmarking import envelope, write_json
from ..client import connect
from ..errors import RoadloopError
from ..local import local_server
from .entrants import POLICIES, QUICK, SUITE, entrants
from .judge import METRICS, REFERENCE, judge, shown
from .tournament import Simulator, Tournament


def ranking_bench(
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the results.")] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Where to write a page with plots.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two worlds of three seconds: shows the path, proves nothing.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(help="Begin no world that would end later than that.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Weights, shipped or a file; none: the shipped default.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu:N or cuda:I,J: as --workers of serve.")] = None,
    tiers: Annotated[str, typer.Option(help="X-Cache tiers, separated by commas.")] = "exact,balanced",
    suite: Annotated[Path | None, typer.Option(help="Another suite (YAML) of held-out worlds.")] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="Instead of the usual ones; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Keep the runs here, and go on with what is there.")
    ] = None,
    slots: Annotated[int, typer.Option(help="Drives at a time.")] = 8,
) -> None:
    """Rank policies by their scores in both engines: Spearman, Kendall, and who swaps."""
    worlds: Any = yaml.safe_load(suite.read_text(encoding="utf-8")) if suite else QUICK if quick else SUITE
    workers = ["--workers", device] if device else []
    weights = ["--set", f"engine_options={{model: {model}}}"] if model else []
    try:
        chosen, wanted = entrants(policy or POLICIES), [tier for tier in tiers.split(",") if tier]
        with ExitStack() as closing:
            folder = out or Path(closing.enter_context(tempfile.TemporaryDirectory()))
            truth = closing.enter_context(local_server(REFERENCE, *workers))
            url = closing.enter_context(local_server("worldmodel", *workers, *weights))
            with connect(url, sessions=0) as client:
                digest = client.server.model_digest
            simulators = [Simulator(REFERENCE, truth), *(Simulator(tier, url, tier) for tier in wanted)]
            tell = lambda text: typer.echo(text, err=True)  # noqa: E731
            tournament = Tournament(folder, worlds, simulators, chosen, slots, tell)
            results = judge(chosen, tournament.drive(minutes))
    except (RoadloopError, ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    config = {"suite": worlds, "metrics": METRICS, "tiers": wanted, "minutes": minutes, "quick": quick}
    document = envelope(results, config, digest)
    _print(results)
    if json_file is not None:
        write_json(document, json_file)
    if html_file is not None:
        from .page import write_page

        write_page(document, html_file)


def _print(results: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console, (metric, *_) = Console(), results["by_metric"]
    simulators = [name for name in results["policies"][0] if name not in ("name", "looks")]
    title = f"roadloop bench ranking: {metric}, {len(results['worlds'])} worlds"
    table = Table("policy", "looks", *simulators, title=title)
    for row in sorted(results["policies"], key=lambda row: -row[REFERENCE][metric]["mean"]):
        scores = (f"{row[name][metric]['mean']:.3f}" for name in simulators)
        table.add_row(row["name"], "yes" if row["looks"] else "", *scores)
    console.print(table)
    for name, by_tier in results["by_metric"].items():
        for tier, found in by_tier.items():
            console.print(f"{name}, {tier}: {_line(found['looking'])}; of all {_line(found['all'])}")
    for tier, found in results["by_metric"][metric].items():
        for swap in found["looking"]["swaps"]:
            kind = "beyond chance" if swap["sure"] else "within chance"
            console.print(
                f"{tier}: {swap['better']} is better than {swap['worse']} by {swap['reference_gap']:.3f}, here {swap['gap']:+.3f} ({kind})"
            )


def _line(found: Mapping[str, Any]) -> str:
    return f"{found['count']} policies Spearman {shown(found, 'spearman')} Kendall {shown(found, 'kendall')}"
