"""A world that costs nothing: prepared pictures, real ego motion, the true shapes. For load tests and for the server's own.

Deterministic like every engine: the pictures are picked by (seed, all actions so far).
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache

import numpy as np

from worldmodel.engine import (
    FRAME_DT_S,
    FRAMES_PER_CHUNK,
    ActionChunk,
    ChunkResult,
    EngineError,
    OpenRequest,
    Outcome,
    SessionId,
    UnknownSessionError,
    WorldEngine,
)
from worldmodel.preset_files import PresetError
from worldmodel.rig import Rig, load_rig
from worldmodel.scene.actions import follow, validate
from worldmodel.scene.checks import FrameChecks
from worldmodel.scene.state import AgentState, EgoState, SceneFrame
from worldmodel.snapshot import SnapshotError, pack, unpack

SCENARIOS = {"zero": 3600, "zero-short": 3}  # name -> chunks until the goal
PICTURES = 8
ROUTE_M = 1000.0
LIMIT_MPS = 13.9


@dataclass
class _World:
    """Everything that a step changes, and what it never does."""

    scenario: str
    rig: Rig
    cameras: tuple[str, ...]
    digest: bytes
    chunk: int = 0
    ego: EgoState = field(default_factory=lambda: EgoState(0.0, 0.0, 0.0, 8.0))


class ZeroEngine(WorldEngine):
    """Sessions that all show the same prepared pictures in their own order.

    Args:
        step_ms: how long a batch takes; 0 measures the server alone.
    """

    def __init__(self, step_ms: float = 0.0) -> None:
        self._step_s = step_ms / 1e3
        self._worlds: dict[SessionId, _World] = {}
        self._next_id = 0

    @property
    def name(self) -> str:
        """`zero`."""
        return "zero"

    def open(self, request: OpenRequest) -> ChunkResult:
        """See `WorldEngine.open`; the scenarios are `zero` and `zero-short`."""
        if request.scenario not in SCENARIOS:
            raise EngineError(f"expected a scenario of {', '.join(SCENARIOS)}, got {request.scenario!r}")
        if request.options.weather is not None or request.options.time_of_day is not None:
            raise EngineError("expected no weather and no time of day with the zero engine, got one")
        rig = _load(request.rig, request.options.cameras)
        world = _World(request.scenario, rig, rig.names, request.seed.to_bytes(8, "little"))
        return self._result(self._admit(world), -1, [world.ego])

    def step(self, actions: Mapping[SessionId, ActionChunk]) -> dict[SessionId, ChunkResult | EngineError]:
        """See `WorldEngine.step`."""
        if self._step_s:
            time.sleep(self._step_s)
        return {session: self._step_one(session, action) for session, action in actions.items()}

    def snapshot(self, session: SessionId) -> bytes:
        """See `WorldEngine.snapshot`."""
        world = self._world(session)
        state = {
            "scenario": world.scenario,
            "rig": world.rig.name,
            "cameras": world.cameras,
            "digest": world.digest,
        }
        return pack(state | {"engine": self.name, "chunk": world.chunk, "ego": asdict(world.ego)})

    def restore(self, snapshot: bytes) -> SessionId:
        """See `WorldEngine.restore`."""
        try:
            state = unpack(snapshot)
        except SnapshotError as error:
            raise EngineError(str(error)) from None
        if state.get("engine") != self.name:
            raise EngineError(f"expected a snapshot of the zero engine, got {state.get('engine')!r}")
        rig = _load(state["rig"], tuple(state["cameras"]))
        ego = EgoState(**state["ego"])
        return self._admit(_World(state["scenario"], rig, rig.names, state["digest"], state["chunk"], ego))

    def fork(self, session: SessionId, count: int = 1) -> list[SessionId]:
        """See `WorldEngine.fork`."""
        return [self._admit(replace(self._world(session))) for _ in range(count)]

    def close(self, session: SessionId) -> None:
        """See `WorldEngine.close`."""
        self._world(session)
        del self._worlds[session]

    @property
    def sessions(self) -> Sequence[SessionId]:
        """Ids of the open sessions, oldest first."""
        return list(self._worlds)

    def _admit(self, world: _World) -> SessionId:
        session, self._next_id = self._next_id, self._next_id + 1
        self._worlds[session] = world
        return session

    def _world(self, session: SessionId) -> _World:
        if session not in self._worlds:
            raise UnknownSessionError(f"expected an open session, got {session}")
        return self._worlds[session]

    def _step_one(self, session: SessionId, action: ActionChunk) -> ChunkResult | EngineError:
        try:
            world = self._world(session)
            validate(action)
        except EngineError as error:
            return error
        states = follow(world.ego, action)
        world.digest = hashlib.blake2b(world.digest + action.values.tobytes(), digest_size=8).digest()
        world.chunk, world.ego = world.chunk + 1, states[-1]
        return self._result(session, world.chunk - 1, states)

    def _result(self, session: SessionId, chunk: int, egos: Sequence[EgoState]) -> ChunkResult:
        world = self._worlds[session]
        pick = int.from_bytes(world.digest[:4], "little") % PICTURES
        frames = _pictures(len(world.rig), world.rig.height, world.rig.width)[pick][:, : len(egos)]
        first = 0 if chunk < 0 else chunk * FRAMES_PER_CHUNK + 1
        states = tuple(_frame(first + k, ego) for k, ego in enumerate(egos))
        done = world.chunk >= SCENARIOS[world.scenario]
        outcome: Outcome = "success" if done else "running"
        checks = tuple(_checks(ego) for ego in egos)
        free = tuple(LIMIT_MPS * FRAME_DT_S * k for k in range(2)) if chunk < 0 else ()
        return ChunkResult(
            session, chunk, frames, states, checks, outcome, "goal" if done else "", free_drive_m=free
        )


def _load(name: str, cameras: tuple[str, ...] | None) -> Rig:
    try:
        rig = load_rig(name)
        return rig if cameras is None else rig.subset(cameras)
    except (PresetError, KeyError) as error:
        raise EngineError(str(error.args[0])) from None


def _frame(index: int, ego: EgoState) -> SceneFrame:
    lead = AgentState(1, "car", ego.x_m + 30.0, 0.0, 0.0, 8.0, 4.5, 1.9, 1.5, (200, 40, 40))
    return SceneFrame(index, index * FRAME_DT_S, ego, (lead,), ())


def _checks(ego: EgoState) -> FrameChecks:
    return FrameChecks(
        collision_with=None,
        collision_at_fault=False,
        off_road=abs(ego.y_m) > 20.0,
        wrong_way=False,
        red_light=False,
        ttc_s=float("inf"),
        lane_offset_m=ego.y_m,
        heading_error_rad=ego.yaw_rad,
        route_progress_m=ego.x_m,
        route_completion=min(1.0, max(0.0, ego.x_m / ROUTE_M)),
        speed_limit_mps=LIMIT_MPS,
    )


@lru_cache(maxsize=8)
def _pictures(views: int, height: int, width: int) -> np.ndarray:
    """Street-like pictures with about the detail of rendered ones: uint8 [PICTURES, V, F, H, W, 3], read-only."""
    rng = np.random.default_rng(0)
    v, u = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None]
    out = np.empty((PICTURES, views, FRAMES_PER_CHUNK, height, width, 3), np.uint8)
    for index in np.ndindex(out.shape[:3]):
        picture = np.where(v[..., None] < 0.45, [150 - 60 * 0.3, 180.0, 215.0], [105.0, 108.0, 110.0])
        picture = picture + 25 * np.sin(40 * u + rng.uniform(0, 6))[..., None] * (v < 0.45)[..., None]
        for _ in range(12):
            y, x = rng.integers(height // 3, height), rng.integers(0, width)
            picture[y : y + height // 6, x : x + width // 8] = rng.uniform(20, 230, 3)
        out[index] = np.clip(picture + rng.normal(0, 3, (height, width, 1)), 0, 255)
    out.setflags(write=False)
    return out
