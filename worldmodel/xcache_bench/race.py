"""Every contestant drives its own session with the same actions. They take turns chunk by chunk.

Free-running, each stands on what it made itself. Context-synchronised, each begins every chunk where full compute
stands, and keeps nothing of its own but its cache.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from ..benchmarking import HELD_OUT_SEED
from ..diffusion import DiffusionEngine
from ..engine import ChunkResult, OpenRequest, SessionId, SessionOptions
from ..model.world_model import WorldModel
from .methods import Contestant
from .scenes import Drive

Protocol = Literal["free-running", "context-synchronised"]
PROTOCOLS: tuple[Protocol, ...] = ("free-running", "context-synchronised")


@dataclass(frozen=True)
class Course:
    """What all of a race share: the device, the denoising steps unless a contestant has its own, and the seed.

    `rehearsed` is how many chunks everybody drives before the clock runs; None is all. Two build what is only built once: the first
    commits and is computed; the second begins with the KV-update pass, and may reuse. Compiled networks need more: they
    are compiled anew while the rolling KV grows.
    """

    device: str
    steps: int
    seed: int = HELD_OUT_SEED
    rehearsed: int | None = 2


@dataclass
class Run:
    """What one contestant made of one drive."""

    frames: list[torch.Tensor]  # uint8 [V, F, H, W, 3], the opening frame first
    denoise_ms: list[float] = field(default_factory=list)  # of every chunk: the denoising passes
    dit_ms: list[float] = field(default_factory=list)  # the same and the KV-update pass
    chunk_ms: list[float] = field(default_factory=list)  # everything between action and frames
    caches: list[Mapping[str, Any] | None] = field(default_factory=list)

    @property
    def skip(self) -> float:
        """Share of decisions in the denoising passes that were skips."""
        shares = [0.0 if cache is None else cache["skip"] for cache in self.caches]
        return sum(shares) / len(shares)


def race(
    model: WorldModel,
    contestants: Sequence[Contestant],
    drive: Drive,
    course: Course,
    protocol: Protocol = "free-running",
    tell: Callable[[int], None] = lambda chunks: None,
) -> dict[str, Run]:
    """Let all repeat a drive; times are comparable because they take turns.

    Context-synchronised, the full compute of every contestant must take part. `tell` hears of the chunks that are done.
    """
    seats = [_Seat(model, one, drive, course) for one in contestants]
    by_name = {seat.contestant.name: seat for seat in seats}
    for chunk, action in enumerate(drive.actions):
        turn = chunk % len(seats)  # nobody is always the first
        for seat in (*seats[turn:], *seats[:turn]):
            seat.step(action)
        if protocol == "context-synchronised":
            for seat in seats:
                seat.follow(by_name[seat.contestant.full.name])
        tell(len(seats))
    return {name: seat.run for name, seat in by_name.items()}


class _Seat:
    """A contestant with its engine and session."""

    def __init__(self, model: WorldModel, contestant: Contestant, drive: Drive, course: Course) -> None:
        self.contestant = contestant
        self._engine = DiffusionEngine(
            model, course.device, cache=contestant.cache, noise_hold=contestant.noise_hold
        )
        options = SessionOptions(drive.rig.names, contestant.steps or course.steps, contestant.tier)
        opened = self._engine.open(OpenRequest(drive.scenario, model.config.rig, course.seed, options))
        self._session: SessionId = opened.session
        self.run = Run([torch.from_numpy(opened.frames)])
        self._rehearse(drive, course.rehearsed)

    def step(self, action: Any) -> None:
        """One chunk, timed."""
        start = time.perf_counter()
        result = self._engine.step({self._session: action})[self._session]
        if not isinstance(result, ChunkResult):
            raise result
        chunk_ms, times = (time.perf_counter() - start) * 1e3, result.timings_ms
        self.run.frames.append(torch.from_numpy(result.frames))
        self.run.denoise_ms.append(times["denoise"])
        self.run.dit_ms.append(times["denoise"] + times["kv_update"])
        self.run.chunk_ms.append(chunk_ms)
        self.run.caches.append(result.cache)

    def follow(self, leader: "_Seat") -> None:
        """Stand where full compute stands."""
        if leader is not self:
            self._engine.adopt(self._session, leader._engine, leader._session)

    def _rehearse(self, drive: Drive, chunks: int | None) -> None:
        """Some chunks of a copy that is thrown away."""
        (copy,) = self._engine.fork(self._session)
        for action in drive.actions[:chunks]:
            self._engine.step({copy: action})
        self._engine.close(copy)
