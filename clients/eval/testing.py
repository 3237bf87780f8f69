"""A world of a few lines, in this process: for tests of policies and harnesses, without server, sockets or waiting.

    monkeypatch.setattr("clients.eval.runner.connect", FakeServer().connect)

A straight road along x with a parked car in the way; one camera of 8 x 12 pixels. Deterministic in (scenario, seed, actions).
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ..observation import Observation, StepResult
from ..protocol import ActionSpace, Camera, ErrorCode, ProtocolError, Welcome
from ..protocol.replies import EGO_COLUMNS, Limits

FRAMES, DT_S, LIMIT_MPS, GOAL_M, CAR_M, LONGEST_S = 4, 1 / 12, 14.0, 60.0, 45.0, 20.0
SPACES = [ActionSpace(name="controls", columns=["steering", "accel"], low=[-0.6, -8.0], high=[0.6, 4.0])]
_ZERO = dict.fromkeys(("fx", "fy", "cx", "cy", "x_m", "y_m", "z_m", "yaw_rad", "pitch_rad", "roll_rad"), 0.0)
CAMERA = Camera(name="front", group="front", model="pinhole", height=8, width=12, distortion=[], **_ZERO)


class FakeServer:
    """Worlds for any number of clients.

    Args:
        scenarios: those that there are.
        slots: sessions at once.
        trouble: called before every step with (scenario, seed, chunk); what it raises, the client raises.
    """

    def __init__(
        self,
        scenarios: tuple[str, ...] = ("clear", "blocked"),
        slots: int = 100,
        trouble: Callable[[str, int, int], None] = lambda scenario, seed, chunk: None,
    ) -> None:
        self.scenarios, self.slots, self.trouble = scenarios, slots, trouble
        self.steps: list[tuple[str, int, int]] = []  # every chunk that was driven
        self.open = 0
        self.most_open = 0
        self.lock = threading.Lock()

    def connect(self, url: str = "", sessions: int = 1, **_: Any) -> Any:
        """Takes the place of `clients.client.connect`."""
        return _FakeClient(self, sessions)

    def enter(self) -> None:
        """A session opens. Raises CAPACITY."""
        with self.lock:
            if self.open >= self.slots:
                raise ProtocolError(ErrorCode.CAPACITY, f"expected a free slot, got {self.open} taken")
            self.open += 1
            self.most_open = max(self.most_open, self.open)

    def leave(self) -> None:
        """A session closes."""
        with self.lock:
            self.open -= 1


class _FakeClient:
    def __init__(self, server: FakeServer, sessions: int) -> None:
        self._server = server
        self.sessions = [FakeSession(server) for _ in range(sessions)]
        self.server = Welcome(
            id=1,
            protocol_minor=0,
            server="fake",
            capabilities=[],
            engine="fake",
            model="fake",
            model_digest="0",
            determinism="fake",
            frames_per_chunk=FRAMES,
            dt_us=round(DT_S * 1e6),
            encoding="raw",
            encodings=["raw"],
            rig="fake",
            cameras=[CAMERA],
            action_spaces=SPACES,
            ego_columns=list(EGO_COLUMNS),
            agent_columns=[],
            limits=Limits(
                max_message_bytes=1, max_sessions=server.slots, lease_s=1, idle_timeout_s=1, snapshot_bytes=1
            ),
            sessions=[],
        )

    def __enter__(self) -> "_FakeClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def session(self) -> "FakeSession":
        return self.sessions[0]

    def close(self) -> None:
        for session in self.sessions:
            session.close()


class FakeSession:
    """One world, with the verbs of `clients.client.Session`."""

    def __init__(self, server: FakeServer, ego: np.ndarray | None = None) -> None:
        server.enter()
        self._server, self._open = server, True
        self._ego = ego
        self._scenario, self._seed, self._chunk = "", 0, 0
        self.done = False

    def reset(self, scenario: str, seed: int = 0, **_: Any) -> Observation:
        """Start: the speed at the start is all that the seed decides."""
        if scenario not in self._server.scenarios:
            names = ", ".join(self._server.scenarios)
            raise ProtocolError(ErrorCode.BAD_REQUEST, f"expected a scenario of {names}, got {scenario!r}")
        self._scenario, self._seed, self._chunk, self.done = scenario, seed, 0, False
        self._ego = np.array([0.0, 0.0, 0.0, 6.0 + seed % 5, 0.0, 0.0, 0.0])
        values = self._values(self._ego[None], 0)
        values["metrics"]["free_drive_m"] = [LIMIT_MPS * DT_S * k for k in range(2)]
        return Observation(chunk=-1, **values)

    def step(self, actions: np.ndarray, space: str = "controls") -> StepResult:
        """Drive a chunk: speed and heading follow the controls at once."""
        self._server.trouble(self._scenario, self._seed, self._chunk)
        self._server.steps.append((self._scenario, self._seed, self._chunk))
        assert self._ego is not None
        rows = []
        for steering, accel in np.asarray(actions, np.float64):
            x, y, yaw, speed = self._ego[:4]
            faster = max(0.0, speed + accel * DT_S)
            rate = faster * np.tan(steering) / 2.8
            x, y, yaw = x + faster * np.cos(yaw) * DT_S, y + faster * np.sin(yaw) * DT_S, yaw + rate * DT_S
            self._ego = np.array([x, y, yaw, faster, (faster - speed) / DT_S, steering, rate])
            rows.append(self._ego)
        self._chunk += 1
        values = self._values(np.array(rows), (self._chunk - 1) * FRAMES + 1)
        hit = any(values["metrics"]["collision_at_fault"])
        arrived = bool(self._ego[0] >= GOAL_M)
        late = self._chunk * FRAMES * DT_S >= LONGEST_S
        outcome = "failure" if hit else "success" if arrived else "timeout" if late else "running"
        self.done = outcome != "running"
        reason = {"failure": "collision", "success": "goal", "timeout": "time_limit", "running": ""}[outcome]
        return StepResult(
            chunk=self._chunk - 1, reward=1.0, terminated=self.done, outcome=outcome, reason=reason, **values
        )

    def fork(self, count: int = 1) -> "list[FakeSession]":
        """Copies."""
        copies = [FakeSession(self._server, self._ego) for _ in range(count)]
        for copy in copies:
            copy._scenario, copy._seed, copy._chunk, copy.done = (
                self._scenario,
                self._seed,
                self._chunk,
                self.done,
            )
        return copies

    def close(self) -> None:
        """Leave. Harmless the second time."""
        if self._open:
            self._open = False
            self._server.leave()

    def _values(self, ego: np.ndarray, first: int) -> dict[str, Any]:
        count = len(ego)
        agents = np.zeros((0, 8), np.float32)
        if self._scenario == "blocked":
            agents = np.array([[7, CAR_M, 0.0, 0.0, 0.0, 4.0, 2.0, 1.5]], np.float32)
        hit = [bool(len(agents)) and abs(row[0] + 1.4 - CAR_M) < 4.0 and abs(row[1]) < 2.0 for row in ego]
        metrics = {
            "collision_with": [7 if each else None for each in hit],
            "collision_at_fault": hit,
            "off_road": (np.abs(ego[:, 1]) > 4.0).tolist(),
            "wrong_way": [False] * count,
            "red_light": [False] * count,
            "ttc_s": [float("inf")] * count,
            "lane_offset_m": ego[:, 1].tolist(),
            "heading_error_rad": ego[:, 2].tolist(),
            "route_progress_m": ego[:, 0].tolist(),
            "route_completion": np.clip(ego[:, 0] / GOAL_M, 0.0, 1.0).tolist(),
            "speed_limit_mps": [LIMIT_MPS] * count,
            "time_s": ((first + np.arange(count)) * DT_S).tolist(),
        }
        pictures = [np.full((8, 12, 3), (first + k) * 5 % 256, np.uint8).tobytes() for k in range(count)]
        return {
            "session": "fake",
            "cameras": {"front": CAMERA},
            "encoding": "raw",
            "frames": {"front": pictures},
            "ego_frames": ego.copy(),
            "agents": agents,
            "agent_kinds": ["car"] * len(agents),
            "metrics": metrics,
        }
