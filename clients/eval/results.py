"""The folder of a run.

| file | |
|---|---|
| `run.json` | what was run: suite, policy, server, versions. A run is resumed only by the same |
| `results.jsonl` | one line per finished rollout, appended and synced; a half-written last line is dropped on resume |
| `traces/KEY.npz` | what was driven (`clients.eval.trace`) |
| `videos/KEY.mp4`, `logs/KEY.mcap` | if asked for |
| `report.html`, `summary.json` | made of the above |
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import RoadloopError
from ..policies import PolicySpec
from ..protocol import Welcome
from .suite import Suite, load_suite
from .trace import Trace, write_whole

FORMAT = 1
Status = Literal["done", "policy_failed", "infrastructure_failed", "not_reached"]


class ResultsError(RoadloopError, ValueError):
    """A results folder that cannot be used. The message says what to do."""


@dataclass(frozen=True)
class Result:
    """One line: a rollout that was finished, one way or another.

    Only `done` has scores. `policy_failed` is the policy's own fault and final; `infrastructure_failed` is driven again on resume; `not_reached` is a
    branch whose moment of decision never came.
    """

    key: str
    status: Status
    scenario: str
    group: str
    seed: int
    repeat: int
    branch: str = ""
    scores: dict[str, Any] | None = None
    outcome: str = ""
    reason: str = ""
    error: str = ""
    attempts: int = 1
    digest: str = ""  # of everything that decides the scores
    timing: dict[str, float] = field(default_factory=dict)  # seconds and milliseconds; differ from run to run

    @property
    def final(self) -> bool:
        """Whether a resumed run leaves it alone."""
        return self.status != "infrastructure_failed"

    @property
    def world(self) -> str:
        """The key without the branch: rollouts of one world."""
        return self.key.removesuffix(f".{self.branch}") if self.branch else self.key


class RunFolder:
    """Reads and writes the folder of a run. One process at a time."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    # Where things are -------------------------------------------------------------------------------------------

    @property
    def results_path(self) -> Path:
        """The lines."""
        return self.path / "results.jsonl"

    def trace_path(self, key: str) -> Path:
        """Of one rollout."""
        return self.path / "traces" / f"{key}.npz"

    def video_path(self, key: str) -> Path:
        """Of one rollout."""
        return self.path / "videos" / f"{key}.mp4"

    def log_path(self, key: str) -> Path:
        """Of one rollout."""
        return self.path / "logs" / f"{key}.mcap"

    # What was run -----------------------------------------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        """`run.json`. Raises ResultsError where there is none."""
        try:
            values: dict[str, Any] = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ResultsError(
                f"expected the folder of a run with run.json, got {self.path}: {error}"
            ) from None
        if values.get("format") != FORMAT:
            raise ResultsError(f"{self.path}: expected format {FORMAT}, got {values.get('format')!r}")
        return values

    def suite(self) -> Suite:
        """The suite that was run."""
        return load_suite(self.about()["suite"])

    def begin(self, about: Mapping[str, Any], resume: bool) -> list[Result]:
        """Start or resume a run; returns what is finished.

        Raises:
            ResultsError: a run is there and `resume` is off, or it is another one; the message says which parts differ.
        """
        values = {"format": FORMAT, **about}
        if not (self.path / "run.json").exists():
            if self.results_path.exists():
                raise ResultsError(f"{self.path}: expected run.json beside results.jsonl, got none")
            self.path.mkdir(parents=True, exist_ok=True)
            write_whole(self.path / "run.json", (json.dumps(values, indent=2) + "\n").encode())
            return []
        if not resume:
            raise ResultsError(
                f"{self.path} holds a run: expected --resume to go on with it, or another --out"
            )
        here = self.about()
        if differ := sorted(
            name for name in values.keys() | here.keys() if values.get(name) != here.get(name)
        ):
            raise ResultsError(
                f"{self.path}: expected the run that is there, got another "
                + "; ".join(
                    f"{name} ({_short(here.get(name))} there, {_short(values.get(name))} now)"
                    for name in differ
                )
            )
        self._drop_cut_line()
        return self.results()

    # The lines --------------------------------------------------------------------------------------------------

    def append(self, result: Result) -> None:
        """Add a line; on disk when this returns."""
        with self.results_path.open("ab") as file:
            file.write(_line(result))
            file.flush()
            os.fsync(file.fileno())

    def replace(self, results: Iterable[Result]) -> None:
        """Write all lines anew, as a whole or not at all."""
        write_whole(self.results_path, b"".join(_line(result) for result in results))

    def results(self) -> list[Result]:
        """The lines, of several with one key the last; a half-written last one is left out.

        Raises:
            ResultsError: a line that is none, anywhere but at the end.
        """
        return list({result.key: result for result in self._lines()[0]}.values())

    def ordered(self) -> list[Result]:
        """The lines in the order of the suite, whatever order they were finished in."""
        found = {result.key: result for result in self.results()}
        keys = [key for plan in self.suite().rollouts() for key in plan.keys.values()]
        return [found[key] for key in keys if key in found]

    def cut_bytes(self) -> int:
        """Length of a half-written last line; 0 where there is none."""
        return self._lines()[1]

    def trace(self, key: str) -> Trace:
        """Raises TraceError."""
        return Trace.load(self.trace_path(key))

    def _lines(self) -> tuple[list[Result], int]:
        data = self.results_path.read_bytes() if self.results_path.exists() else b""
        whole, _, rest = data.rpartition(b"\n")
        found = []
        for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
            try:
                found.append(Result(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise ResultsError(f"{self.results_path}:{number}: expected a result, got {error}") from None
        return found, len(rest)

    def _drop_cut_line(self) -> None:
        if cut := self.cut_bytes():
            with self.results_path.open("rb+") as file:
                file.truncate(self.results_path.stat().st_size - cut)


def about_run(suite: Suite, policy: PolicySpec, server: Welcome, **settings: Any) -> dict[str, Any]:
    """What decides every score of a run; two runs with the same have the same scores."""
    names = ("engine", "model", "model_digest", "determinism", "frames_per_chunk", "dt_us")
    return {
        "suite": suite.model_dump(mode="json", exclude_none=True),
        "policy": policy.to_dict()
        | {"files": {name: _digest(path) for name, path in policy.files().items()}},
        "server": {name: getattr(server, name) for name in names},
        "settings": settings,
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _line(result: Result) -> bytes:
    return json.dumps(asdict(result), allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
