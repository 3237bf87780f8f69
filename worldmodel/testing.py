"""The engine contract as tests: inherit `EngineConformance`, say how to make your engine, run pytest.

    class TestMyEngine(EngineConformance):
        def make_engine(self) -> WorldEngine:
            return MyEngine()

Knows nothing of how frames are made. `frame_tolerance` is the largest difference of two pixels [0..255] that the
engine's kernels allow between runs of differing batch composition; 0 demands equal bytes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import pytest

from .engine import (
    FRAMES_PER_CHUNK,
    ActionChunk,
    ActionError,
    ChunkResult,
    EngineError,
    OpenRequest,
    SessionId,
    SessionOptions,
    UnknownSessionError,
    WorldEngine,
)


class EngineConformance(ABC):
    """Inherit as `class TestX(EngineConformance)`; every test is a sentence of the contract."""

    frame_tolerance = 0
    rig = "front3"
    scenarios: Sequence[str] = ()  # two or more names of differing groups; set by the subclass

    @abstractmethod
    def make_engine(self) -> WorldEngine:
        """A fresh engine without sessions."""

    @pytest.fixture
    def engine(self) -> WorldEngine:
        """The engine under test."""
        return self.make_engine()

    def open(self, engine: WorldEngine, scenario: int = 0, seed: int = 1) -> ChunkResult:
        """Open one of the scenarios."""
        return engine.open(OpenRequest(self.scenarios[scenario], self.rig, seed))

    def drive(
        self, engine: WorldEngine, session: SessionId, chunks: int, steer: float = 0.02
    ) -> list[ChunkResult]:
        """Step one session alone with a gentle constant action."""
        return [self.step_one(engine, session, controls(steer)) for _ in range(chunks)]

    def step_one(self, engine: WorldEngine, session: SessionId, action: ActionChunk) -> ChunkResult:
        """Step one session and demand success."""
        result = engine.step({session: action})[session]
        assert isinstance(result, ChunkResult), result
        return result

    def assert_same(self, a: ChunkResult, b: ChunkResult) -> None:
        """Two results show the same world."""
        assert a.states == b.states
        assert a.checks == b.checks
        assert (a.chunk, a.outcome, a.reason) == (b.chunk, b.outcome, b.reason)
        difference = np.abs(a.frames.astype(int) - b.frames.astype(int)).max()
        assert difference <= self.frame_tolerance, f"frames differ by {difference}"

    # Shapes and order -------------------------------------------------------------------------------------------

    def test_the_opening_result_is_one_frame_of_every_camera(self, engine: WorldEngine) -> None:
        opened = self.open(engine)
        assert opened.chunk == -1
        assert opened.frames.dtype == np.uint8
        assert opened.frames.shape[1] == 1
        assert opened.frames.shape[4] == 3
        assert len(opened.states) == len(opened.checks) == 1

    def test_a_step_makes_four_frames_with_their_states(self, engine: WorldEngine) -> None:
        opened = self.open(engine)
        for k, result in enumerate(self.drive(engine, opened.session, 3)):
            assert result.chunk == k
            assert result.frames.shape == (
                opened.frames.shape[0],
                FRAMES_PER_CHUNK,
                *opened.frames.shape[2:],
            )
            assert [s.index for s in result.states] == [4 * k + 1, 4 * k + 2, 4 * k + 3, 4 * k + 4]
            assert len(result.checks) == FRAMES_PER_CHUNK
            assert all(ms >= 0 for ms in result.timings_ms.values())

    def test_frames_that_were_handed_out_never_change(self, engine: WorldEngine) -> None:
        opened = self.open(engine)
        first = self.drive(engine, opened.session, 1)[0]
        kept = first.frames.copy()
        self.drive(engine, opened.session, 2)
        assert np.array_equal(first.frames, kept)

    def test_a_camera_subset_keeps_its_order(self, engine: WorldEngine) -> None:
        whole = self.open(engine)
        names = self.camera_names(engine)
        chosen = (names[2], names[0])
        request = OpenRequest(self.scenarios[0], self.rig, 1, SessionOptions(cameras=chosen))
        assert engine.open(request).frames.shape == (2, *whole.frames.shape[1:])

    def camera_names(self, engine: WorldEngine) -> list[str]:
        """Names of the rig's cameras."""
        from .rig import load_rig

        return [camera.name for camera in load_rig(self.rig).cameras]

    # Determinism ------------------------------------------------------------------------------------------------

    def test_the_same_seed_and_actions_give_the_same_session(self, engine: WorldEngine) -> None:
        a, b = self.open(engine), self.open(self.make_engine())
        self.assert_same(a, b)
        other = self.make_engine()
        b = self.open(other)
        for left, right in zip(
            self.drive(engine, a.session, 3), self.drive(other, b.session, 3), strict=True
        ):
            self.assert_same(left, right)

    def test_other_actions_give_other_frames(self, engine: WorldEngine) -> None:
        a, b = self.open(engine), self.open(engine)
        left = self.drive(engine, a.session, 3, steer=0.2)[-1]
        right = self.drive(engine, b.session, 3, steer=-0.2)[-1]
        assert not np.array_equal(left.frames, right.frames)
        assert left.states != right.states

    def test_a_session_does_not_depend_on_its_batch(self, engine: WorldEngine) -> None:
        other = self.make_engine()
        alone = self.open(other)
        first, second, third = (self.open(engine, k % len(self.scenarios)) for k in (0, 1, 0))
        lone = self.drive(other, alone.session, 3)
        for k in range(3):
            batch = {
                second.session: controls(-0.1),
                first.session: controls(0.02),
                third.session: controls(0.2),
            }
            result = engine.step(batch)[first.session]
            assert isinstance(result, ChunkResult)
            self.assert_same(result, lone[k])

    # Work left for later ----------------------------------------------------------------------------------------

    def test_flushing_changes_no_frame(self, engine: WorldEngine) -> None:
        left, right = self.open(engine).session, self.open(engine).session
        other = self.make_engine()
        never = self.open(other).session
        for k in range(4):
            assert engine.flush() in (0, 1, 2)
            results = engine.step({left: controls(0.05), right: controls(-0.05)})
            expected = self.step_one(other, never, controls(0.05))
            result = results[left]
            assert isinstance(result, ChunkResult), result
            self.assert_same(result, expected)
            assert result.chunk == k

    def test_a_second_flush_has_nothing_to_do(self, engine: WorldEngine) -> None:
        self.drive(engine, self.open(engine).session, 2)
        engine.flush()
        assert engine.flush() == 0

    def test_a_snapshot_is_the_same_before_and_after_a_flush(self, engine: WorldEngine) -> None:
        session = self.open(engine).session
        self.drive(engine, session, 2)
        other = self.make_engine()
        same = self.open(other).session
        self.drive(other, same, 2)
        other.flush()
        assert engine.snapshot(session) == other.snapshot(same)

    # Snapshot, restore, fork ------------------------------------------------------------------------------------

    def test_a_restored_snapshot_continues_as_the_original(self, engine: WorldEngine) -> None:
        opened = self.open(engine)
        self.drive(engine, opened.session, 2)
        snapshot = engine.snapshot(opened.session)
        expected = self.drive(engine, opened.session, 3)
        other = self.make_engine()
        restored = other.restore(snapshot)
        for left, right in zip(expected, self.drive(other, restored, 3), strict=True):
            self.assert_same(left, right)

    def test_snapshot_restore_snapshot_gives_the_same_bytes(self, engine: WorldEngine) -> None:
        opened = self.open(engine)
        self.drive(engine, opened.session, 2)
        snapshot = engine.snapshot(opened.session)
        assert engine.snapshot(engine.restore(snapshot)) == snapshot

    def test_a_damaged_snapshot_is_refused(self, engine: WorldEngine) -> None:
        snapshot = engine.snapshot(self.open(engine).session)
        flipped = snapshot[:-5] + bytes([snapshot[-5] ^ 1]) + snapshot[-4:]
        for damaged in (b"", snapshot[:20], snapshot[:-7], flipped):
            with pytest.raises(EngineError, match="expected"):
                engine.restore(damaged)
        assert len(engine.sessions) == 1

    def test_a_fork_shares_nothing_that_a_step_writes(self, engine: WorldEngine) -> None:
        opened = self.open(engine)
        self.drive(engine, opened.session, 2)
        left, right = engine.fork(opened.session, 2)
        self.drive(engine, left, 2, steer=0.3)
        expected = self.drive(engine, opened.session, 2)
        for a, b in zip(expected, self.drive(engine, right, 2), strict=True):
            self.assert_same(a, b)

    # Refusals ---------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "values",
        [
            np.zeros((3, 2), np.float32),
            np.zeros((4, 5), np.float32),
            np.full((4, 2), np.nan, np.float32),
            np.full((4, 2), np.inf, np.float32),
            np.full((4, 2), 1e6, np.float32),
            np.zeros((4, 2), np.complex64),
            np.zeros((4, 2), object),
        ],
        ids=["rows", "columns", "nan", "inf", "bounds", "complex", "object"],
    )
    def test_a_bad_action_is_refused_and_changes_nothing(
        self, engine: WorldEngine, values: np.ndarray
    ) -> None:
        opened = self.open(engine)
        self.drive(engine, opened.session, 1)
        before = engine.snapshot(opened.session)
        refused = engine.step({opened.session: ActionChunk("controls", values)})[opened.session]
        assert isinstance(refused, ActionError)
        assert "expected" in str(refused)
        assert "got" in str(refused)
        assert engine.snapshot(opened.session) == before

    def test_a_refused_action_does_not_stop_the_others(self, engine: WorldEngine) -> None:
        bad, good = self.open(engine), self.open(engine)
        results = engine.step(
            {bad.session: ActionChunk("controls", np.zeros((1, 1), np.float32)), good.session: controls()}
        )
        assert isinstance(results[bad.session], ActionError)
        assert isinstance(results[good.session], ChunkResult)

    def test_a_tier_that_there_is_not_is_refused_and_changes_nothing(self, engine: WorldEngine) -> None:
        session = self.open(engine).session
        before = engine.snapshot(session)
        with pytest.raises(EngineError, match=r"expected .*exact.* got 'warp'"):
            engine.set_tier(session, "warp")
        assert engine.snapshot(session) == before

    def test_every_engine_has_the_exact_tier(self, engine: WorldEngine) -> None:
        session = self.open(engine).session
        engine.set_tier(session, "exact")
        self.drive(engine, session, 1)
        engine.close(session)
        with pytest.raises(UnknownSessionError):
            engine.set_tier(session, "exact")

    def test_unknown_names_are_refused_with_the_valid_ones(self, engine: WorldEngine) -> None:
        with pytest.raises(EngineError, match=self.scenarios[0]):
            engine.open(OpenRequest("no-such-scenario", self.rig))
        with pytest.raises(EngineError, match="front3"):
            engine.open(OpenRequest(self.scenarios[0], "no-such-rig"))
        with pytest.raises(EngineError, match=self.camera_names(engine)[0]):
            engine.open(
                OpenRequest(self.scenarios[0], self.rig, 1, SessionOptions(cameras=("no-such-camera",)))
            )
        assert list(engine.sessions) == []

    def test_a_closed_session_is_gone(self, engine: WorldEngine) -> None:
        opened = self.open(engine)
        engine.close(opened.session)
        assert list(engine.sessions) == []
        with pytest.raises(UnknownSessionError):
            engine.close(opened.session)
        assert isinstance(engine.step({opened.session: controls()})[opened.session], UnknownSessionError)


def controls(steering_rad: float = 0.0, accel_mps2: float = 0.5) -> ActionChunk:
    """A constant `controls` action for one chunk."""
    return ActionChunk("controls", np.full((FRAMES_PER_CHUNK, 2), [steering_rad, accel_mps2], np.float32))
