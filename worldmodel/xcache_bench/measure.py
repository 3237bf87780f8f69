"""A whole benchmark: contestants over scenarios, under both protocols, as plain data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..benchmarking import HELD_OUT_SEED
from ..model.world_model import WorldModel
from ..rig import Rig, load_rig
from .evidence import evidence
from .methods import FULL_COMPUTE, Contestant
from .race import PROTOCOLS, Course, Protocol, Run, race
from .scenes import Drive, record
from .scores import Standard, score
from .table import averages
from .work import skipped_work

MOTION_CHUNKS, QUICK_MOTION_CHUNKS = 8, 1


@dataclass(frozen=True)
class Settings:
    """How to race. `scenarios` are by group; `steps` is the race's own number of denoising steps; `rehearsed` as in `Course`."""

    scenarios: Mapping[str, Sequence[str]]
    chunks: int
    steps: int
    device: str = "cpu"
    protocols: Sequence[Protocol] = PROTOCOLS
    quick: bool = False
    seed: int = HELD_OUT_SEED
    rehearsed: int | None = 2

    @property
    def course(self) -> Course:
        """What the contestants of a race share."""
        return Course(self.device, self.steps, self.seed, self.rehearsed)


# Told how many of how many chunks are done.
Progress = Callable[[int, int], None]


def measure(
    model: WorldModel,
    contestants: Sequence[Contestant],
    settings: Settings,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Race over every scenario: `methods` by group, `scenarios`, `per_chunk`, and `evidence` by name and group.

    Full compute always takes part. A contestant whose committed chunks are exact has one rollout under both protocols;
    it is raced once, and its rows stand under both.
    """
    rig = model_rig(model)
    total = sum(
        len(entrants(model, contestants, protocol, settings)) * settings.chunks
        for names in settings.scenarios.values()
        for protocol in settings.protocols
        for _ in names
    )
    done = 0

    def tell(chunks: int) -> None:
        nonlocal done
        done += chunks
        progress(done, total)

    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    runs: dict[tuple[str, str], list[Run]] = {}
    for group, scenarios in settings.scenarios.items():
        for scenario in scenarios:
            drive = record(group, scenario, rig, settings.chunks, settings.device, settings.seed)
            for protocol in settings.protocols:
                field = entrants(model, contestants, protocol, settings)
                made = race(model, field, drive, settings.course, protocol, tell) if field else {}
                for one in field:
                    row, curve = _score(model, one, made, drive, settings)
                    label = _label(one, drive, protocol, settings)
                    rows.append({**label, **row})
                    curves += [{**label, **point} for point in curve]
                    if protocol == settings.protocols[0]:
                        runs.setdefault((one.name, group), []).append(made[one.name])
            if len(settings.protocols) > 1:
                rows, curves = (_under_both(table, drive) for table in (rows, curves))
    return {"methods": averages(rows), "scenarios": rows, "per_chunk": curves, "evidence": _evidence(runs)}


def entrants(
    model: WorldModel, contestants: Sequence[Contestant], protocol: Protocol, settings: Settings
) -> list[Contestant]:
    """Who has to be raced under a protocol, each after the full compute that it is compared with; nobody, perhaps."""
    everybody = protocol == settings.protocols[0] or model.config.cycle == 1
    chosen = [one for one in contestants if everybody or one.stands_apart(settings.steps)]
    field = [FULL_COMPUTE, *(every for one in chosen for every in (one.full, one))]
    return list({one.name: one for one in field}.values()) if chosen else []


def model_rig(model: WorldModel) -> Rig:
    """The cameras of a model at its resolution."""
    config = model.config
    rig = load_rig(config.rig)
    return (rig.subset(config.cameras) if config.cameras else rig).scaled(config.height, config.width)


def _score(
    model: WorldModel, one: Contestant, made: Mapping[str, Run], drive: Drive, settings: Settings
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    standard = Standard(made[one.full.name], made[FULL_COMPUTE.name], drive)
    work = skipped_work(made[one.name], model.config, len(drive.rig))
    return score(made[one.name], standard, QUICK_MOTION_CHUNKS if settings.quick else MOTION_CHUNKS, work)


def _label(one: Contestant, drive: Drive, protocol: Protocol, settings: Settings) -> dict[str, Any]:
    return {
        "name": one.name,
        "tier": one.tier,
        "group": drive.group,
        "protocol": protocol,
        "scenario": drive.scenario,
        "steps": one.steps or settings.steps,
        "about": one.about,
    }


def _under_both(rows: list[dict[str, Any]], drive: Drive) -> list[dict[str, Any]]:
    """Repeat rows of this drive that were raced under one protocol, because the other gives the same."""
    second = PROTOCOLS[1]
    here = [row for row in rows if (row["group"], row["scenario"]) == (drive.group, drive.scenario)]
    raced = {row["name"] for row in here if row["protocol"] == second}
    return rows + [{**row, "protocol": second} for row in here if row["name"] not in raced]


def _evidence(runs: Mapping[tuple[str, str], Sequence[Run]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for (name, group), members in runs.items():
        seen = evidence(members)
        if seen is not None:
            found.setdefault(name, {})[group] = seen
    return found
