"""A run as Parquet tables: one row per rollout, and one per frame."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..extras import need
from ..protocol.replies import EGO_COLUMNS
from .results import Result, RunFolder
from .stats import scored
from .trace import Trace


def write_parquet(folder: RunFolder, out: Path) -> list[Path]:
    """Write `rollouts.parquet` (with those without scores) and `steps.parquet`; returns their paths.

    Raises:
        MissingExtraError: without the extra `eval`. ResultsError, TraceError: the folder is none, a trace is missing.
    """
    pyarrow = need("pyarrow", "eval", "Parquet tables")
    parquet = need("pyarrow.parquet", "eval", "Parquet tables")
    policy = folder.about()["policy"]["name"]
    results = folder.ordered()
    out.mkdir(parents=True, exist_ok=True)
    rollouts, steps = out / "rollouts.parquet", out / "steps.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(list(_rollouts(results, policy))), rollouts)
    writer = None
    for result in scored(results):
        table = pyarrow.table(frame_columns(result.key, folder.trace(result.key)))
        writer = writer or parquet.ParquetWriter(steps, table.schema)
        writer.write_table(table)
    if writer is None:
        return [rollouts]
    writer.close()
    return [rollouts, steps]


def frame_columns(key: str, trace: Trace) -> dict[str, np.ndarray]:
    """One row per frame: what was driven, judged, and commanded on the way to the next frame (NaN at the last)."""
    count = len(trace.ego)
    rows = trace.actions.reshape(-1, trace.actions.shape[2])[: count - 1]
    width = max(3, rows.shape[1])
    actions = np.full((count, width), np.nan, np.float32)
    actions[: len(rows), : rows.shape[1]] = rows
    return (
        {"key": np.full(count, key), "frame": np.arange(count)}
        | {name: trace.ego[:, k] for k, name in enumerate(EGO_COLUMNS)}
        | dict(trace.frames)
        | {"collision_with": trace.collision_with}
        | {f"action_{k}": actions[:, k] for k in range(3)}
    )


def _rollouts(results: Iterable[Result], policy: str) -> Iterable[dict[str, Any]]:
    names = (
        "key",
        "status",
        "scenario",
        "group",
        "seed",
        "repeat",
        "branch",
        "outcome",
        "reason",
        "error",
        "digest",
    )
    scores = next((r.scores for r in results if r.scores), None) or {}
    for result in results:
        values = {name: getattr(result, name) for name in names} | {"policy": policy}
        yield values | {name: (result.scores or {}).get(name) for name in scores}
