"""A session with everything around it: its worker, driver, viewers, last chunk, periodic snapshot, recording."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol

from clients.protocol import Camera, Frames, Notice, ProtocolError, Reset, SessionInfo, Started, Stepped
from clients.protocol.requests import Encoding

from .logbook import Logbook
from .messages import Chunk
from .pool import Worker
from .reward import chunk_reward
from .session import Session
from .snapshots import Snapshot
from .staging import Staged
from .viewers import Audience


class Driver(Protocol):
    """The socket that drives a session."""

    def notify(self, notice: Notice) -> None:
        """Send when possible; never waits."""

    def displace(self, session: str) -> None:
        """Another socket has taken the session over."""


@dataclass(eq=False)
class LiveSession:
    """Mutable; owned by the hub. `lock` is held by whatever operation runs."""

    state: Session
    owner: str
    worker: Worker
    audience: Audience
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    driver: Driver | None = None
    encoding: Encoding = "jpeg"
    setup: Reset | None = None  # the reset that made this world
    cameras: list[dict[str, Any]] = field(default_factory=list)
    observation: dict[str, Any] = field(default_factory=dict)  # fields of the last reply
    shown: tuple[int, Chunk] | None = None  # what a viewer sees who comes now
    progress_m: float = 0.0
    ended: bool = False
    snapshot_every: int = 0
    snapshot: Snapshot | None = None  # what a lost worker is recovered from
    recovered: asyncio.Event = field(default_factory=asyncio.Event)
    error: ProtocolError | None = None  # why it is gone
    active_s: float = 0.0  # when its driver last said something
    pacer: asyncio.Task[None] | None = None
    waiting: asyncio.Future[Stepped] | None = None  # real time: the driver's unanswered step
    recorder: Logbook | None = None

    @property
    def name(self) -> str:
        """Its id on the wire."""
        return self.state.name

    @property
    def engine(self) -> str:
        """What runs it."""
        return self.worker.engine_name

    @property
    def newest_frames(self) -> int | None:
        """How many of each camera's newest frames its driver wants; None is all."""
        return None if self.setup is None else self.setup.newest_frames

    def info(self) -> SessionInfo:
        """Where it stands."""
        return SessionInfo(
            session=self.name,
            resume_token=self.state.resume_token,
            state=self.state.phase,
            next_chunk=self.state.next_chunk,
        )

    def choose_tier(self, tier: str) -> None:
        """The cache tier was changed."""
        assert self.setup is not None
        options = self.setup.options.model_copy(update={"tier": tier})
        self.setup = self.setup.model_copy(update={"options": options})

    def notify(self, notice: Notice) -> None:
        """Tell driver and viewers."""
        if self.driver is not None:
            self.driver.notify(notice)
        self.audience.publish(notice)

    def fail_waiting(self, error: ProtocolError) -> None:
        """Answer the real-time step that waits, if one does."""
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(error)
            self.waiting.exception()  # retrieved, also when nobody waits any more

    def observe(self, chunk: Chunk) -> None:
        """Remember what the driver sees now."""
        self.observation = _world(chunk)
        if newest := self.newest_frames:  # more were encoded if a viewer watches
            frames = {name: images[-newest:] for name, images in chunk.frames.items()}
            self.observation["frames"] = frames
        self.progress_m = float(chunk.metrics["route_progress_m"][-1])

    def started(self, request_id: int, chunk: Chunk) -> Started:
        """The reply to a reset."""
        assert self.setup is not None
        return Started.model_construct(
            id=request_id,
            session=self.name,
            next_chunk=0,
            cameras=[Camera(**camera) for camera in self.cameras],
            mode=self.setup.mode,
            hold_policy=self.setup.hold_policy,
            encoding=self.encoding,
            timing=chunk.timing,
            **self.observation,
        )

    def stepped(self, staged: Staged, chunk: Chunk) -> Stepped:
        """The reply to a step, its request's id aside."""
        assert staged.item is not None
        reward = chunk_reward(chunk.metrics, self.progress_m)
        self.observe(chunk)
        return Stepped.model_construct(
            id=0,
            session=self.name,
            chunk=staged.item.chunk,
            reward=reward,
            terminated=chunk.outcome in ("success", "failure"),
            truncated=chunk.outcome == "timeout",
            outcome=chunk.outcome,
            reason=chunk.reason,
            cache=chunk.cache,  # type: ignore[arg-type]  # plain data is packed alike
            encoding=self.encoding,
            timing=chunk.timing,
            held_chunks=self.state.held_chunks,
            action_age_ms=staged.action_age_ms,
            **self.observation,
        )

    def frames(self, index: int, chunk: Chunk) -> Frames:
        """The same chunk for viewers."""
        return Frames.model_construct(
            session=self.name,
            chunk=index,
            cache=chunk.cache,  # type: ignore[arg-type]  # plain data is packed alike
            encoding=self.encoding,
            timing=chunk.timing,
            outcome=chunk.outcome,
            **_world(chunk),
        )


def _world(chunk: Chunk) -> dict[str, Any]:
    """The fields that every reply with a world has."""
    return {name: getattr(chunk, name) for name in ("frames", "ego", "agents", "agent_kinds", "metrics")}
