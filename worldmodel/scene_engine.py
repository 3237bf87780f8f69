"""What every engine shares: sessions around a `Scene`, staging, snapshots. Subclasses only turn states into pictures.

Life of a chunk: check the action, step the scene, generate the frames of all ready sessions as one batch, commit.
Whatever fails before the commit puts the scene back, so a failed chunk leaves nothing behind.
"""

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from .engine import (
    ActionChunk,
    ChunkResult,
    EngineError,
    OpenRequest,
    SessionId,
    SessionOptions,
    Surroundings,
    UnknownSessionError,
    WorldEngine,
)
from .rig import Rig, load_rig
from .scene.conditions import fix_conditions
from .scene.scenario import Scenario, load_scenario
from .scene.scene import Scene
from .scene.scores import free_drive_by_frame
from .scene.state import SceneFrame
from .snapshot import SnapshotError, pack, unpack

SMALLEST, LARGEST = 16, 4096  # rows or columns of a frame that can be asked for


@dataclass
class Session:
    """One running world. `generator` belongs to the subclass: whatever it must remember from chunk to chunk."""

    id: SessionId
    scenario: Scenario
    seed: int
    rig: Rig
    options: SessionOptions
    scene: Scene
    chunk: int = 0  # index of the next chunk
    generator: Any = None
    images: Mapping[str, np.ndarray] | None = None  # to open on, until that is done


@dataclass
class Staged:
    """One chunk between the scene's step and its commit."""

    session: Session
    before: dict[str, Any]  # scene state to return to
    states: tuple[SceneFrame, ...]
    scene_ms: float
    frames: np.ndarray | None = None  # uint8 [V, F, H, W, 3], filled by the generator
    generator: Any = None  # the generator state to commit
    cache: Mapping[str, Any] | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    error: EngineError | None = None


class SceneEngine(WorldEngine):
    """Sessions around a scene; abstract in how frames are made."""

    def __init__(self) -> None:
        self._sessions: dict[SessionId, Session] = {}
        self._next_id: SessionId = 0

    # What a subclass provides -----------------------------------------------------------------------------------

    @property
    @abstractmethod
    def state_version(self) -> str:
        """What must agree for a snapshot to be restored, such as a weights digest."""

    @abstractmethod
    def _start(self, session: Session) -> np.ndarray:
        """First frames, uint8 [V, 1, H, W, 3]; sets `session.generator`."""

    @abstractmethod
    def _generate(self, batch: Sequence[Staged]) -> None:
        """Fill frames, generator, cache and timings of every chunk, or its error. Never touches the session."""

    @abstractmethod
    def _generator_state(self, session: Session) -> Any:
        """The generator's memory as plain data and arrays."""

    @abstractmethod
    def _load_generator_state(self, session: Session, state: Any) -> None:
        """Set `session.generator` from what `_generator_state` returned, sharing nothing with it."""

    def _release(self, session: Session) -> None:
        """Free what the generator holds outside the session object."""

    # The contract -----------------------------------------------------------------------------------------------

    @property
    def sessions(self) -> Sequence[SessionId]:
        """Ids of the open sessions, oldest first."""
        return list(self._sessions)

    def open(self, request: OpenRequest) -> ChunkResult:
        """See `WorldEngine.open`."""
        options, rig = request.options, _load(load_rig, request.rig)
        scenario = _load(
            lambda name: fix_conditions(load_scenario(name), options.weather, options.time_of_day),
            request.scenario,
        )
        scene = _load(lambda chosen: Scene(chosen, request.seed), scenario)
        session = self._admit(scenario, request.seed, rig, request.options, scene)
        session.images = request.images
        start = time.perf_counter()
        try:
            frames = self._start(session)
            session.images = None
        except BaseException:
            self.close(session.id)
            raise
        timings = {"generate": _ms_since(start)}
        checks = tuple(scene.checks)
        free = free_drive_by_frame(scene.path, scene.frame, checks[0], scenario.duration_s)
        return ChunkResult(session.id, -1, frames, (scene.frame,), checks, "running", "", timings, None, free)

    def step(self, actions: Mapping[SessionId, ActionChunk]) -> dict[SessionId, ChunkResult | EngineError]:
        """See `WorldEngine.step`."""
        results: dict[SessionId, ChunkResult | EngineError] = {}
        batch: list[Staged] = []
        for session_id, action in actions.items():
            try:
                batch.append(self._stage(self._session(session_id), action))
            except EngineError as error:
                results[session_id] = error
        try:
            self._generate(batch)
        except BaseException:
            for staged in batch:
                staged.session.scene.load_state_dict(staged.before)
            raise
        for staged in batch:
            results[staged.session.id] = self._settle(staged)
        return {session_id: results[session_id] for session_id in actions}

    def snapshot(self, session: SessionId) -> bytes:
        """See `WorldEngine.snapshot`."""
        chosen = self._session(session)
        return pack(
            {
                "engine": self.name,
                "version": self.state_version,
                "scenario": chosen.scenario.model_dump(mode="json"),
                "rig": chosen.rig.to_dict(),
                "seed": chosen.seed,
                "options": asdict(chosen.options),
                "chunk": chosen.chunk,
                "scene": chosen.scene.state_dict(),
                "generator": self._generator_state(chosen),
            }
        )

    def restore(self, snapshot: bytes) -> SessionId:
        """See `WorldEngine.restore`."""
        try:
            state = unpack(snapshot)
        except SnapshotError as error:
            raise EngineError(str(error)) from error
        for key, mine in (("engine", self.name), ("version", self.state_version)):
            if state.get(key) != mine:
                raise EngineError(f"expected a snapshot of {key} {mine!r}, got {state.get(key)!r}")
        scenario, rig = Scenario.model_validate(state["scenario"]), Rig.from_dict(state["rig"])
        scene = Scene(scenario, state["seed"])
        scene.load_state_dict(state["scene"])
        options = _options(state["options"])
        session = self._admit(scenario, state["seed"], rig, options, scene)
        session.chunk = state["chunk"]
        try:
            self._load_generator_state(session, state["generator"])
        except BaseException:
            self.close(session.id)
            raise
        return session.id

    def surroundings(self, session: SessionId) -> Surroundings:
        """See `WorldEngine.surroundings`."""
        scene = self._session(session).scene
        return Surroundings(scene.world, scene.path, scene.atmosphere)

    def fork(self, session: SessionId, count: int = 1) -> list[SessionId]:
        """See `WorldEngine.fork`."""
        if count < 1:
            raise EngineError(f"expected a fork count >= 1, got {count}")
        source = self._session(session)
        children = []
        for _ in range(count):
            child = self._admit(source.scenario, source.seed, source.rig, source.options, source.scene.fork())
            child.chunk = source.chunk
            self._load_generator_state(child, self._generator_state(source))
            children.append(child.id)
        return children

    def close(self, session: SessionId) -> None:
        """See `WorldEngine.close`."""
        self._release(self._session(session))
        del self._sessions[session]

    # Helpers ----------------------------------------------------------------------------------------------------

    def _session(self, session: SessionId) -> Session:
        if session not in self._sessions:
            raise UnknownSessionError(f"expected an open session of {list(self._sessions)}, got {session}")
        return self._sessions[session]

    def _admit(
        self, scenario: Scenario, seed: int, rig: Rig, options: SessionOptions, scene: Scene
    ) -> Session:
        if options.cameras is not None:
            rig = _load(rig.subset, options.cameras)
            options = replace(options, cameras=None)
        if options.size is not None:
            rig = _load(lambda size: rig.scaled(*checked_size(size)), options.size)
        session = Session(self._next_id, scenario, seed, rig, options, scene)
        self._next_id += 1
        self._sessions[session.id] = session
        return session

    def _stage(self, session: Session, action: ActionChunk) -> Staged:
        before = session.scene.state_dict()
        start = time.perf_counter()
        states = tuple(session.scene.step(action))
        return Staged(session, before, states, _ms_since(start))

    def _settle(self, staged: Staged) -> ChunkResult | EngineError:
        session = staged.session
        if staged.error is not None:
            session.scene.load_state_dict(staged.before)
            return staged.error
        assert staged.frames is not None, f"{self.name} generated no frames"
        session.generator = staged.generator
        session.chunk += 1
        scene = session.scene
        return ChunkResult(
            session=session.id,
            chunk=session.chunk - 1,
            frames=staged.frames,
            states=staged.states,
            checks=tuple(scene.checks),
            outcome=scene.outcome,
            reason=scene.reason,
            timings_ms={"scene": staged.scene_ms, **staged.timings_ms},
            cache=staged.cache,
        )


def _load(loader: Any, name: Any) -> Any:
    """Call a loader; what it refuses becomes an EngineError with the same words."""
    try:
        return loader(name)
    except EngineError:
        raise
    except (ValueError, KeyError, OSError) as error:
        raise EngineError(str(error)) from error


def _options(values: Mapping[str, Any]) -> SessionOptions:
    size = values.get("size")
    return SessionOptions(**{**values, "cameras": None, "size": None if size is None else tuple(size)})


def checked_size(size: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of frames. Raises ValueError for what is no size of a picture."""
    if len(size) != 2 or not all(isinstance(n, int) and SMALLEST <= n <= LARGEST for n in size):
        raise ValueError(f"expected frames of {SMALLEST} to {LARGEST} rows and columns, got {size}")
    return size[0], size[1]


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1e3
