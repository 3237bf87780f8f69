"""`roadloop bench ranking`: the same policies in the same worlds, in the reference engine and in the world model; do both rank them alike?

Every run is one of the evaluation harness and keeps its folder: killed at any moment, the same command goes on where it stopped.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml

from ..benchmarking import envelope, write_json
from ..client import connect
from ..errors import RoadloopError
from ..local import local_server
from .correlation import compare
from .entrants import POLICIES, QUICK, SUITE, Entrant, entrants

METRIC = "pdms"
REFERENCE = "reference"
Scores = Mapping[str, Mapping[str, float]]  # policy -> rollout -> score


def ranking_bench(
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the results.")] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Where to write a page with plots.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two worlds of three seconds: shows the path, proves nothing.")
    ] = False,
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
    slots: Annotated[int, typer.Option(help="Sessions at a time.")] = 4,
    metric: Annotated[str, typer.Option(help="Score by which policies are ranked.")] = METRIC,
) -> None:
    """Rank policies by their scores in both engines: Spearman, Kendall, and who swaps."""
    worlds: Any = yaml.safe_load(suite.read_text(encoding="utf-8")) if suite else QUICK if quick else SUITE
    workers = ["--workers", device] if device else []
    weights = ["--set", f"engine_options={{model: {model}}}"] if model else []
    try:
        chosen, wanted = entrants(policy or POLICIES), [tier for tier in tiers.split(",") if tier]
        with tempfile.TemporaryDirectory() as spare:
            folder = out or Path(spare)
            tell = lambda text: typer.echo(text, err=True)  # noqa: E731
            scores = {
                REFERENCE: drive(
                    folder, chosen, worlds, REFERENCE, workers, {None: REFERENCE}, slots, metric, tell
                )[0][REFERENCE]
            }
            simulated, digest = drive(
                folder,
                chosen,
                worlds,
                "worldmodel",
                [*workers, *weights],
                {tier: tier for tier in wanted},
                slots,
                metric,
                tell,
            )
    except (RoadloopError, ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    results = judge(chosen, scores | simulated, worlds)
    document = envelope(results, {"suite": worlds, "metric": metric, "tiers": wanted, "quick": quick}, digest)
    _print(results)
    if json_file is not None:
        write_json(document, json_file)
    if html_file is not None:
        from .page import write_page

        write_page(document, html_file)


def drive(
    folder: Path,
    policies: Sequence[Entrant],
    suite: Mapping[str, Any],
    engine: str,
    arguments: Sequence[str],
    tiers: Mapping[str | None, str],
    slots: int,
    metric: str = METRIC,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, Scores], str]:
    """Let every policy drive every world on a server of our own, in each tier.

    Args:
        folder: for the runs: one folder per tier and policy.
        policies: who drives.
        suite: of `clients.eval`.
        engine: of the server.
        arguments: further ones of `roadloop serve`.
        tiers: of X-Cache, with the names under which their runs are kept; None asks for none.
        slots: sessions at a time.
        metric: which score.
        tell: what is going on.

    Returns:
        The scores of rollouts that were finished, by tier and policy; and the model's digest.
    """
    from ..eval import evaluate

    scores: dict[str, Scores] = {}
    with local_server(engine, *arguments) as url:
        with connect(url, sessions=0) as client:
            digest = client.server.model_digest
        for tier, name in tiers.items():
            options = {**suite.get("options", {})} | ({} if tier is None else {"tier": tier})
            found: dict[str, Mapping[str, float]] = {}
            for entrant in policies:
                place = folder / name / entrant.folder
                run = evaluate(
                    {**suite, "options": options},
                    entrant.spec,
                    place,
                    url=url,
                    resume=place.exists(),
                    slots=slots,
                    clip=True,
                )
                found[entrant.name] = {
                    r.key: float(r.scores[metric]) for r in run.results if r.scores is not None
                }
                mean = np.mean(list(found[entrant.name].values())) if found[entrant.name] else float("nan")
                tell(
                    f"{name:<12} {entrant.name:<24} {metric} {mean:.3f} over {len(found[entrant.name])} worlds, {len(run.failed)} failed"
                )
            scores[name] = found
    return scores, digest


def judge(
    policies: Sequence[Entrant], scores: Mapping[str, Scores], suite: Mapping[str, Any]
) -> dict[str, Any]:
    """The keys of `ranking`. Only worlds that every policy finished everywhere count; the others are counted apart.

    Raises:
        ValueError: there is none.
    """
    shared = set.intersection(*(set(found) for by_policy in scores.values() for found in by_policy.values()))
    known = set.union(*(set(found) for by_policy in scores.values() for found in by_policy.values()))
    worlds, names = sorted(shared), [entrant.name for entrant in policies]
    if not worlds:
        raise ValueError("expected a world that every policy finished in every simulator, got none")
    looks = {entrant.name: entrant.looks for entrant in policies}
    tables = {
        arm: np.array([[by[name][world] for world in worlds] for name in names]) for arm, by in scores.items()
    }
    reference = tables.pop(REFERENCE)
    by_tier = {tier: compare(names, looks, reference, table) for tier, table in tables.items()}
    first = next(iter(by_tier.values()))
    rows = [
        {
            "name": name,
            "looks": looks[name],
            REFERENCE: _mean(reference[k]),
            **{tier: _mean(table[k]) for tier, table in tables.items()},
        }
        for k, name in enumerate(names)
    ]
    top = {key: first[key] for key in ("spearman", "spearman_ci", "kendall", "kendall_ci", "swaps")}
    return {
        "policies": rows,
        **top,
        "by_tier": by_tier,
        "worlds": worlds,
        "worlds_left_out": len(known) - len(shared),
    }


def _mean(values: np.ndarray) -> dict[str, float]:
    from ..eval.stats import bootstrap

    return bootstrap(values).to_dict()


def _print(results: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console, tiers = Console(), list(results["by_tier"])
    table = Table(
        "policy", "looks", REFERENCE, *tiers, title=f"roadloop bench ranking: {len(results['worlds'])} worlds"
    )
    for row in sorted(results["policies"], key=lambda row: -row[REFERENCE]["mean"]):
        table.add_row(
            row["name"],
            "yes" if row["looks"] else "",
            *(f"{row[arm]['mean']:.3f}" for arm in (REFERENCE, *tiers)),
        )
    console.print(table)
    for tier, found in results["by_tier"].items():
        looking = found.get("looking", {})
        console.print(
            f"{tier}: Spearman {_shown(found, 'spearman')}, Kendall {_shown(found, 'kendall')}; of those that look: Spearman {_shown(looking, 'spearman')}"
        )
        for swap in found["swaps"]:
            kind = "beyond chance" if swap["sure"] else "within chance"
            console.print(
                f"  {swap['better']} is better than {swap['worse']} by {swap['reference_gap']:.3f}, here {swap['gap']:+.3f} ({kind})"
            )


def _shown(found: Mapping[str, Any], name: str) -> str:
    if found.get(name) is None or None in found[f"{name}_ci"]:
        return "none"
    low, high = found[f"{name}_ci"]
    return f"{found[name]:.2f} [{low:.2f}, {high:.2f}]"
