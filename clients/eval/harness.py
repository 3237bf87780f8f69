"""The harness from Python: run a suite, make its scores anew.

from clients.eval import evaluate

run = evaluate("smoke", "lane_keeper", "runs/first", slots=4)
print(run.summary["overall"]["driving_score"])
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..client import connect
from ..local import local_server
from ..policies import PolicySpec, load_policy
from ..protocol import Welcome
from .finish import Extra, Finisher, redo_scores
from .results import Result, ResultsError, RunFolder, about_run
from .runner import Busy, RunConfig, Runner
from .stats import summary
from .suite import SELF, Suite, SuiteError, load_suite
from .trace import write_whole


@dataclass(frozen=True)
class Evaluation:
    """A finished run."""

    folder: RunFolder
    results: list[Result]  # in the order of the suite
    busy: Busy
    cut_bytes: int = 0  # of a half-written last line that was dropped

    @property
    def summary(self) -> dict[str, Any]:
        """Counts, and means with intervals."""
        return summary(self.results)

    @property
    def failed(self) -> list[Result]:
        """Rollouts without scores, by whosever fault."""
        return [result for result in self.results if result.status.endswith("failed")]


def evaluate(
    suite: str | Path | Mapping[str, Any] | Suite,
    policy: str | PolicySpec,
    out: str | Path,
    *,
    url: str | None = None,
    token: str | None = None,
    engine: str = "reference",
    server_arguments: Sequence[str] = (),
    resume: bool = False,
    reference: str | Path | None = None,
    video: Extra | None = None,
    log: Extra | None = None,
    on_result: Callable[[Result], None] = lambda result: None,
    on_start: Callable[[int, int], None] = lambda total, finished: None,
    **config: Any,
) -> Evaluation:
    """Drive a suite with a policy and keep everything under `out`.

    Args:
        suite: shipped name, YAML file, or values.
        policy: a spec (`clients.policies.spec`).
        out: folder for the results.
        url: of a server; None starts one on this machine.
        token: bearer token, where the server wants one.
        engine: of the server that is started.
        server_arguments: further arguments of `roadloop serve` for it.
        resume: go on with the run that is in `out`; what is finished is not driven again.
        reference: folder of another run of the same suite, such as the expert's: progress is measured against it.
        video: writes a video of each rollout; `clients.eval.video.write_video`.
        log: writes a log of each rollout; `clients.eval.mcap_log.write_log`.
        on_result: told of every rollout that is finished.
        on_start: told how many rollouts there are, and how many are finished.
        config: fields of `RunConfig`: slots, retries, limits, clip, ...

    Raises:
        SuiteError, PolicySpecError, ResultsError, RunError: see there; what is finished is kept.
    """
    chosen, spec, folder = load_suite(suite), load_policy(policy), RunFolder(out)
    spec.check()
    _check_branches(chosen)
    base = _reference(reference, chosen)
    cut = folder.cut_bytes() if resume else 0
    with ExitStack() as closing:
        address = url or closing.enter_context(local_server(engine, *server_arguments))
        settings = RunConfig(address, token, keep_pictures=bool(video or log), **config)
        about = about_run(chosen, spec, _server(settings), clip=settings.clip)
        finished = folder.begin(about, resume)
        on_start(sum(len(plan.keys) for plan in chosen.rollouts()), sum(result.final for result in finished))
        finisher = Finisher(folder, base, video, log)
        runner = Runner(chosen, spec, folder, settings, finisher, on_result)
        try:
            runner.run(finished)
        finally:
            write_summary(folder)
    return Evaluation(folder, folder.ordered(), runner.busy, cut)


def rescore(out: str | Path, reference: str | Path | None = None) -> Evaluation:
    """Make the scores of a run anew from its traces, without driving.

    Raises:
        ResultsError, TraceError: the folder is none, or a trace is missing.
    """
    folder = RunFolder(out)
    finisher = Finisher(folder, _reference(reference, folder.suite()))
    folder.replace(redo_scores(finisher, folder.results()))
    write_summary(folder)
    return Evaluation(folder, folder.ordered(), Busy())


def write_summary(folder: RunFolder) -> None:
    """Write `summary.json`."""
    text = json.dumps(summary(folder.ordered()), indent=2) + "\n"
    write_whole(folder.path / "summary.json", text.encode())


def _server(config: RunConfig) -> Welcome:
    with connect(config.url, token=config.token, sessions=0, timeout_s=config.reply_timeout_s) as client:
        return client.server


def _reference(path: str | Path | None, suite: Suite) -> RunFolder | None:
    """The folder of the reference run, which must have driven every world, without branches."""
    if path is None:
        return None
    folder = RunFolder(path)
    folder.about()
    missing = [plan.world for plan in suite.rollouts() if not folder.trace_path(plan.world).is_file()]
    if missing:
        raise ResultsError(
            f"{path}: expected a reference run that drove every world, got none of {missing[0]}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        )
    return folder


def _check_branches(suite: Suite) -> None:
    for entry in suite.scenarios:
        for branch, spec in (entry.decision.branches if entry.decision else {}).items():
            try:
                if spec != SELF:
                    load_policy(spec).check()
            except ValueError as error:
                raise SuiteError(f"{suite.name}: {entry.scenario}.{branch}: {error}") from None
