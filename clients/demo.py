"""A driver that never stops: scenario after scenario at the pace of the clock. Who takes the wheel gets it, and gives it back.

An ordinary client with an ordinary policy. Where the server keeps up it drives in real time; where it does not, in lockstep, so
that every chunk has an action and the world is seen in even slow motion.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .client import Client, connect
from .observation import Observation, StepResult
from .policies import EpisodeInfo, Policy, checked_actions, space_of
from .protocol import ErrorCode, ProtocolError
from .protocol.requests import Mode
from .rest import call

REALTIME_SHARE = 0.85  # of a chunk's duration: what the server may need for one and still keep up
MEASURED_CHUNKS = 4  # of the first world, before it is begun for good
LOOKS_EVERY_S = 0.3  # whether the wheel is free again
REST_S = 2.0  # between two episodes, to see how one ended
LOST = (
    ErrorCode.TAKEN_OVER, ErrorCode.UNKNOWN_SESSION, ErrorCode.WORKER_LOST, ErrorCode.BAD_STATE, ErrorCode.OUT_OF_ORDER,
    ErrorCode.CHUNK_CONFLICT, ErrorCode.CAPACITY,
)  # fmt: skip


@dataclass(frozen=True)
class DemoPlan:
    """What to drive: the scenarios in turn, each time round with the next seed."""

    scenarios: Sequence[str]
    seed: int = 1
    choices: dict[str, Any] = field(default_factory=dict)  # of every reset: `rig`, `options`


class Demo:
    """Drives until it is told to stop.

    Args:
        url: of the server.
        plan: what to drive.
        policy: drives the worlds that this demo has begun.
        spare: drives on where others have driven, or chunks ran without an action: needs no past. `policy` itself may be one.
        news: told in words what happens.
        token: bearer token, where the server wants one.
    """

    def __init__(
        self,
        url: str,
        plan: DemoPlan,
        policy: Policy,
        spare: Policy,
        news: Callable[[str], None],
        token: str | None = None,
    ) -> None:
        self._url, self._plan, self._news, self._token = url, plan, news, token
        self._policy, self._spare = policy, spare
        self._mode: Mode = "lockstep"
        self._worlds = itertools.count()
        self._world = (plan.scenarios[0], plan.seed)
        self._wheel: dict[str, str] = {}  # session -> resume token, of the session that this demo has begun
        self._goes_on = False  # that session has a world in which somebody can drive on
        self._stop = threading.Event()

    def stop(self) -> None:
        """End after the chunk under way. Called from any thread."""
        self._stop.set()

    def run_forever(self) -> None:
        """Drive, and wait while somebody else has the wheel.

        Raises:
            RoadloopError: the server is gone.
            ProtocolError: it refuses, and not because of somebody else at the wheel.
        """
        while not self._stop.is_set():
            try:
                self._drive_until_taken()
            except ProtocolError as error:
                if error.code not in LOST:
                    raise
                if not self._wait_for_the_wheel():
                    self._news(f"lost the wheel: {error.message}")

    # At the wheel -----------------------------------------------------------------------------------------------

    def _drive_until_taken(self) -> None:
        """Go on where the session stands, or begin; then world after world."""
        client = connect(self._url, token=self._token, resume=self._wheel or None)
        try:
            if self._goes_on:
                self._news("has the wheel again")
                self._episode(client, self._look(client), self._spare)
            while not self._stop.is_set():
                self._episode(client, self._begin(client), self._policy)
            client.close()
        finally:
            self._wheel = client.disconnect()

    def _begin(self, client: Client) -> Observation:
        """The next world's opening."""
        turn, names = next(self._worlds), self._plan.scenarios
        self._world = scenario, seed = names[turn % len(names)], self._plan.seed + turn // len(names)
        if turn == 0:
            client.session.reset(scenario, seed, **self._plan.choices)
            self._measure(client)
        self._news(f"drives {scenario} in {'real time' if self._mode == 'realtime' else 'lockstep'}")
        return client.session.reset(scenario, seed, mode=self._mode, **self._plan.choices)

    def _measure(self, client: Client) -> None:
        """Roll for a moment, to see how long a chunk takes."""
        results = list[StepResult]()
        while len(results) < MEASURED_CHUNKS and not client.session.done:
            results.append(client.session.step([0.0, 0.0]))
        self._choose_mode(client, results)

    def _look(self, client: Client) -> Observation:
        """What the session shows where it stands, without a chunk: a snapshot, restored."""
        handle = client.session.snapshot().handle
        seen = client.session.restore(handle)
        call(self._url, f"/v1/snapshots/{handle}", "DELETE", self._token)
        return seen

    def _episode(self, client: Client, seen: Observation, policy: Policy) -> None:
        """From an observation to the end of its episode."""
        session, chunk_s = client.session, _chunk_s(client)
        info = _episode_info(client, seen, *self._world)
        policy.reset(info)
        began_s, first, results = time.monotonic(), session.next_chunk, list[StepResult]()
        while not session.done and not self._stop.is_set():
            space = space_of(policy)
            seen = result = session.step(checked_actions(policy.act(seen), info, space, clip=True), space)
            results = [*results[-30:], result]
            if result.held_chunks and policy is not self._spare:
                policy = self._spare
                policy.reset(info)
            if self._mode == "lockstep":  # where the server keeps no pace
                self._stop.wait(began_s + (session.next_chunk - first) * chunk_s - time.monotonic())
        if results:
            factor = (session.next_chunk - first) * chunk_s / max(time.monotonic() - began_s, 1e-3)
            self._news(f"{results[-1].outcome}: {results[-1].reason}, at {min(factor, 1.0):.2f} x real time")
            self._choose_mode(client, results)
        self._stop.wait(REST_S)

    def _choose_mode(self, client: Client, results: Sequence[StepResult]) -> None:
        """Real time where three chunks in four are made in time."""
        made_ms = sorted(result.timing["engine"] + result.timing["encode"] for result in results)
        in_time = made_ms[3 * len(made_ms) // 4] < 1e3 * REALTIME_SHARE * _chunk_s(client)
        self._mode = "realtime" if in_time else "lockstep"

    # Away from it -----------------------------------------------------------------------------------------------

    def _wait_for_the_wheel(self) -> bool:
        """Until nobody drives the session; whether somebody did. One that is gone is forgotten: the next one is new."""
        self._goes_on, taken = False, False
        while not self._stop.wait(LOOKS_EVERY_S) and (view := self._view()):
            if not view["driven"]:
                self._goes_on, self._mode = view["state"] in ("ready", "busy"), view["mode"]
                break
            if not taken:
                taken = True
                self._news("somebody has taken the wheel")
        return taken

    def _view(self) -> Any:
        """The session as the server shows it, or None if it is gone."""
        for session in self._wheel:
            with contextlib.suppress(ProtocolError):
                return call(self._url, f"/v1/sessions/{session}", token=self._token)
        self._wheel = {}
        return None


def _episode_info(client: Client, seen: Observation, scenario: str, seed: int) -> EpisodeInfo:
    server = client.server
    spaces = {space.name: space for space in server.action_spaces}
    return EpisodeInfo(scenario, seed, server.frames_per_chunk, server.dt_us / 1e6, spaces, list(seen.frames))


def _chunk_s(client: Client) -> float:
    return client.server.frames_per_chunk * client.server.dt_us / 1e6
