"""Driving one world: observe, ask the policy, step, keep. And its branches, where the plan has any."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..client import Client, Session
from ..errors import RoadloopError
from ..observation import Observation
from ..policies import EpisodeInfo, PolicyError, PolicySpec, load_policy
from ..protocol import Welcome
from .hand import PolicyHand
from .suite import SELF, RolloutPlan, Suite
from .trace import Trace, TraceRecorder


class RolloutTimeoutError(RoadloopError, TimeoutError):
    """A rollout took longer than it may."""


class StoppedError(RoadloopError):
    """The run was stopped in the middle of the rollout."""


@dataclass(frozen=True)
class Limits:
    """How long anything may take [seconds]."""

    rollout_s: float = 900.0
    policy_s: float = 60.0


@dataclass(frozen=True)
class Driven:
    """What came of one branch: its recorder, or the error; neither where the moment of decision never came."""

    branch: str
    recorder: TraceRecorder | None = None
    error: Exception | None = None


class Driver:
    """Drives worlds on one client, with one policy object per spec.

    Args:
        suite: for rig and options.
        policy: the one that is evaluated.
        limits: how long anything may take.
        clip: move actions out of bounds to them instead of failing the policy.
        keep_pictures: keep the observations too.
        stopped: asked between chunks.
    """

    def __init__(
        self,
        suite: Suite,
        policy: PolicySpec,
        limits: Limits,
        clip: bool = False,
        keep_pictures: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.suite, self.policy, self.limits = suite, policy, limits
        self.clip, self.keep_pictures, self.stopped = clip, keep_pictures, stopped
        self._hands: dict[str, PolicyHand] = {}

    def drive(self, client: Client, plan: RolloutPlan, branches: Mapping[str, str]) -> list[Driven]:
        """Drive a world.

        Args:
            client: whose first session is used.
            plan: which world.
            branches: branch -> key of those that are wanted; {"": key} without a decision.

        Raises:
            ProtocolError, ConnectionLostError, ReplyTimeoutError, RolloutTimeoutError, PolicyUnavailableError: no fault
                of the policy.
            StoppedError: the run was stopped.
        """
        self._deadline_s = time.monotonic() + self.limits.rollout_s
        rig = {} if self.suite.rig is None else {"rig": self.suite.rig}
        session = client.session
        opening = session.reset(plan.scenario, plan.seed, options=self.suite.options.given(), **rig)
        recorder = TraceRecorder(opening, _about(client, plan, opening, self.policy.name), self.keep_pictures)
        info = _info(client, plan, opening)
        hand = self._hand(SELF)
        try:
            hand.reset(info)
            if plan.decision is None:
                self._leg(session, opening, hand, recorder, plan.max_s)
                return [Driven("", recorder)]
            seen = self._leg(session, opening, hand, recorder, plan.decision.at_s)
        except PolicyError as error:
            return [Driven(branch, error=error) for branch in branches]
        if session.done:
            return [Driven(branch) for branch in branches]
        return self._fork(session, seen, recorder, info, plan, list(branches))

    def close(self) -> None:
        """Let the policies go."""
        for hand in self._hands.values():
            hand.close()
        self._hands.clear()

    def _fork(
        self,
        session: Session,
        seen: Observation,
        recorder: TraceRecorder,
        info: EpisodeInfo,
        plan: RolloutPlan,
        names: list[str],
    ) -> list[Driven]:
        """One session per branch. The branch that goes on with the same policy comes first, while it still remembers."""
        assert plan.decision is not None
        specs = plan.decision.branches
        order = sorted(names, key=lambda name: specs[name] != SELF)
        sessions = [session, *(session.fork(len(order) - 1) if len(order) > 1 else [])]
        driven = []
        for index, (name, world) in enumerate(zip(order, sessions, strict=True)):
            mine = recorder.fork(branch=name, decided_at_chunk=recorder.chunks)
            try:
                self._branch(
                    world, seen, mine, info, plan, specs[name], fresh=index > 0 or specs[name] != SELF
                )
                driven.append(Driven(name, mine))
            except PolicyError as error:
                driven.append(Driven(name, error=error))
            if world is not session:
                world.close()
        return driven

    def _branch(
        self,
        session: Session,
        seen: Observation,
        recorder: TraceRecorder,
        info: EpisodeInfo,
        plan: RolloutPlan,
        spec: str,
        fresh: bool,
    ) -> None:
        assert plan.decision is not None
        hand, decision = self._hand(spec), plan.decision
        if fresh:
            hand.reset(replace(info, past=tuple(recorder.past)))
        if spec == SELF or decision.for_s is None:
            self._leg(session, seen, hand, recorder, plan.max_s)
            return
        seen = self._leg(session, seen, hand, recorder, decision.at_s + decision.for_s)
        if not session.done:
            hand = self._hand(SELF)
            hand.reset(replace(info, past=tuple(recorder.past)))
            self._leg(session, seen, hand, recorder, plan.max_s)

    def _leg(
        self,
        session: Session,
        seen: Observation,
        hand: PolicyHand,
        recorder: TraceRecorder,
        until_s: float | None,
    ) -> Observation:
        """Drive on until the episode is over or has lasted so long; returns what was seen last."""
        chunk_s = recorder.about["dt_s"] * recorder.about["frames_per_chunk"]
        most = np.inf if until_s is None else round(until_s / chunk_s)
        while not session.done and recorder.chunks < most:
            if self.stopped():
                raise StoppedError("the run was stopped")
            if time.monotonic() > self._deadline_s:
                raise RolloutTimeoutError(f"expected a rollout within {self.limits.rollout_s:g} s")
            asked_s = time.perf_counter()
            space, actions = hand.act(seen)
            answered_s = time.perf_counter()
            result = session.step(actions, space)
            stepped_s = time.perf_counter()
            recorder.add(space, actions, result, (answered_s - asked_s) * 1e3, (stepped_s - answered_s) * 1e3)
            seen = result
        return seen

    def _hand(self, spec: str) -> PolicyHand:
        if spec not in self._hands:
            chosen = self.policy if spec == SELF else load_policy(spec)
            self._hands[spec] = PolicyHand(chosen, self.limits.policy_s, self.clip)
        return self._hands[spec]


def digest_of(trace: Trace) -> str:
    """SHA-256 over everything that decides the scores, and the actions."""
    sha = hashlib.sha256()
    columns = [trace.frames[name] for name in sorted(trace.frames)]
    for values in (
        trace.ego,
        trace.collision_with,
        trace.collision_kind,
        trace.free_drive_m,
        trace.actions,
        *columns,
    ):
        sha.update(np.ascontiguousarray(values).tobytes())
    sha.update(f"{trace.about['outcome']} {trace.about['reason']}".encode())
    return sha.hexdigest()


def frame_dt_s(server: Welcome) -> float:
    """Time between frames: the wire rounds to microseconds, frame rates are whole thousandths of a hertz."""
    return 1.0 / round(1e6 / server.dt_us, 3)


def _info(client: Client, plan: RolloutPlan, opening: Observation) -> EpisodeInfo:
    server = client.server
    return EpisodeInfo(
        scenario=plan.scenario,
        seed=plan.seed,
        frames_per_chunk=server.frames_per_chunk,
        dt_s=frame_dt_s(server),
        action_spaces={space.name: space for space in server.action_spaces},
        cameras=tuple(opening.cameras),
        policy_seed=plan.policy_seed,
    )


def _about(client: Client, plan: RolloutPlan, opening: Observation, policy: str) -> dict[str, Any]:
    server = client.server
    return {
        "scenario": plan.scenario,
        "group": plan.group,
        "seed": plan.seed,
        "repeat": plan.repeat,
        "policy": policy,
        "engine": server.engine,
        "model": server.model,
        "dt_s": frame_dt_s(server),
        "frames_per_chunk": server.frames_per_chunk,
        "cameras": [camera.model_dump() for camera in opening.cameras.values()],
    }
