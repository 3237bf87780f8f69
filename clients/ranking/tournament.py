"""Everybody drives every world in every simulator: world by world, so that whatever is finished can be judged."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..eval import evaluate
from ..eval.suite import RolloutPlan, Suite, load_suite
from .entrants import Entrant

Scores = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]  # simulator -> policy -> world -> score


@dataclass(frozen=True)
class Simulator:
    """Where everybody drives; `name` is that of its results: `reference`, or an X-Cache tier."""

    name: str
    url: str
    tier: str | None = None


@dataclass(frozen=True)
class _Drive:
    plan: RolloutPlan
    simulator: Simulator
    entrant: Entrant


class Tournament:
    """Lets policies drive, several at a time; every drive is a run of the evaluation harness and keeps its folder.

    Args:
        folder: for the runs, `WORLD/SIMULATOR/POLICY`. What is finished there is not driven again.
        suite: of `clients.eval`.
        simulators: where.
        policies: who.
        slots: drives at a time, in all simulators together.
        tell: what is going on.
    """

    def __init__(
        self,
        folder: Path,
        suite: Mapping[str, Any] | Suite,
        simulators: Sequence[Simulator],
        policies: Sequence[Entrant],
        slots: int = 8,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder, self.suite, self.slots, self.tell = folder, load_suite(suite), slots, tell
        self.simulators, self.policies = simulators, policies
        # One world of each scenario before the second of any: a shorter run then is a smaller suite, not another one.
        self.worlds = sorted(self.suite.rollouts(), key=lambda plan: plan.repeat)
        self._scores: dict[str, dict[str, dict[str, Mapping[str, Any]]]] = {
            simulator.name: {entrant.name: {} for entrant in policies} for simulator in simulators
        }
        self._lock = threading.Lock()
        self._left: dict[str, int] = {}  # drives of each world that was begun

    def drive(self, minutes: float | None = None) -> Scores:
        """Drive all worlds, or for about so long: no world is begun that would end later; the first one always is.

        Returns:
            The scores of all drives that have any.

        Raises:
            SuiteError, ResultsError, RunError: see `evaluate`; what is finished is kept.
        """
        drives = self._drives(None if minutes is None else 60.0 * minutes)
        with ThreadPoolExecutor(self.slots, "drive") as pool:
            working = [pool.submit(self._work, drives) for _ in range(self.slots)]
            for each in working:
                each.result()
        return self._scores

    def _drives(self, limit_s: float | None) -> Iterator[_Drive]:
        began_s = time.monotonic()
        for begun, plan in enumerate(self.worlds):
            if limit_s is not None and begun and (time.monotonic() - began_s) * (begun + 1) / begun > limit_s:
                self.tell(f"{begun} of {len(self.worlds)} worlds: the next one would end too late")
                return
            self._left[plan.world] = len(self.simulators) * len(self.policies)
            for entrant in self.policies:
                for simulator in self.simulators:  # by turns, so that all servers have work
                    yield _Drive(plan, simulator, entrant)

    def _work(self, drives: Iterator[_Drive]) -> None:
        try:
            while (drive := self._next(drives)) is not None:
                self._run(drive)
        except BaseException:
            with self._lock:
                drives.close()  # type: ignore[attr-defined]  # a generator: the others find no more to do
            raise

    def _next(self, drives: Iterator[_Drive]) -> _Drive | None:
        with self._lock:
            return next(drives, None)

    def _run(self, drive: _Drive) -> None:
        plan, simulator, entrant = drive.plan, drive.simulator, drive.entrant
        place = self.folder / plan.world / simulator.name / entrant.folder
        run = evaluate(
            self._suite_of(drive),
            entrant.spec,
            place,
            url=simulator.url,
            resume=place.exists(),
            slots=1,
            clip=True,
        )
        with self._lock:
            for result in run.results:
                if result.scores is not None:
                    self._scores[simulator.name][entrant.name][result.key] = result.scores
                else:
                    self.tell(
                        f"{plan.world} {simulator.name} {entrant.name}: {result.status}: {result.error}"
                    )
            self._left[plan.world] -= 1
            if not self._left[plan.world]:
                self.tell(f"{plan.world}: all have driven")

    def _suite_of(self, drive: _Drive) -> Suite:
        """This world alone, seen by no more cameras than the policy looks with."""
        (entry,) = (each for each in self.suite.scenarios if each.scenario == drive.plan.scenario)
        options = self.suite.options
        changes: dict[str, Any] = {} if drive.simulator.tier is None else {"tier": drive.simulator.tier}
        if not drive.entrant.looks and options.cameras:
            changes["cameras"] = options.cameras[:1]
        return self.suite.model_copy(
            update={
                "scenarios": [entry.model_copy(update={"seeds": [drive.plan.seed]})],
                "options": options.model_copy(update=changes),
            }
        )
