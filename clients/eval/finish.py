"""From what was driven to a line of results: trace, scores, and pictures if asked for. The same for a run and for scoring again."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..policies import PolicyError
from .drive import digest_of
from .results import Result, RunFolder, Status
from .runner import Finished
from .scores import VERSION, score
from .suite import RolloutPlan
from .trace import Trace, TraceRecorder

Extra = Callable[[Path, TraceRecorder, Trace], None]  # writes a file of one rollout


@dataclass(frozen=True)
class Finisher:
    """Makes results.

    Args:
        folder: of the run.
        reference: of another run on the same suite, to measure progress and distance against.
        video: writes the MP4 of a rollout, where one is wanted.
        log: writes the MCAP of a rollout, where one is wanted.
    """

    folder: RunFolder
    reference: RunFolder | None = None
    video: Extra | None = None
    log: Extra | None = None

    def __call__(self, item: Finished) -> Result:
        """The result of one branch; its files are on disk."""
        plan, driven = item.plan, item.driven
        if driven.recorder is None:
            return _result(plan, item.key, driven.branch, *_why(driven.error), item.attempts)
        trace = driven.recorder.trace()
        trace.save(self.folder.trace_path(item.key))
        for write, path in ((self.video, self.folder.video_path), (self.log, self.folder.log_path)):
            if write is not None:
                path(item.key).parent.mkdir(parents=True, exist_ok=True)
                write(path(item.key), driven.recorder, trace)
        blank = _result(plan, item.key, driven.branch, "done", "", item.attempts)
        return self.scored(replace(blank, timing={"wall_s": item.wall_s}), trace)

    def scored(self, result: Result, trace: Trace) -> Result:
        """The result with the scores of its trace."""
        reference = None if self.reference is None else self.reference.trace(result.world)
        return replace(
            result,
            scores={**score(trace, reference).to_dict(), "version": VERSION},
            outcome=trace.about["outcome"],
            reason=trace.about["reason"],
            digest=digest_of(trace),
            timing={**result.timing, **timing_of(trace)},
        )


def redo_scores(finisher: Finisher, results: Iterable[Result]) -> list[Result]:
    """The same results with scores made anew from the stored traces; nothing is driven. Raises TraceError."""
    return [
        finisher.scored(result, finisher.folder.trace(result.key)) if result.status == "done" else result
        for result in results
    ]


def timing_of(trace: Trace) -> dict[str, float]:
    """How fast it went: medians and 95th percentiles [ms], chunks, and the cache's mean share of skips."""
    values: dict[str, float] = {"chunks": len(trace.step_ms)}
    for name in ("policy_ms", "step_ms"):
        if len(ms := getattr(trace, name)):
            values |= {f"{name}_p50": float(np.median(ms)), f"{name}_p95": float(np.percentile(ms, 95))}
    if np.isfinite(trace.skip).any():
        values["cache_skip"] = float(np.nanmean(trace.skip))
    return values


def _why(error: Exception | None) -> tuple[Status, str]:
    if error is None:
        return "not_reached", "the episode was over before the moment of decision"
    status: Status = "policy_failed" if isinstance(error, PolicyError) else "infrastructure_failed"
    return status, f"{type(error).__name__}: {error}"


def _result(plan: RolloutPlan, key: str, branch: str, status: Status, error: str, attempts: int) -> Result:
    about: dict[str, Any] = {name: getattr(plan, name) for name in ("scenario", "group", "seed", "repeat")}
    return Result(key=key, status=status, branch=branch, error=error, attempts=attempts, **about)
