"""All that an environment with N worlds consists of; the single one has N = 1."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector.utils import create_empty_array

from ..observation import StepResult
from ..protocol import Camera, ErrorCode, ProtocolError
from ..reward import load_reward
from .actions import action_scale
from .config import DriveConfig
from .link import Link
from .slot import Outcome, Slot, observation_space
from .worlds import Worlds

Seen = dict[str, np.ndarray]


class Fleet:
    """N slots on one socket, and the spaces of each.

    Raises:
        ValueError: a configuration that the server's cameras or action spaces do not allow.
    """

    def __init__(self, config: DriveConfig, count: int) -> None:
        reward = load_reward(config.reward)
        self.link = Link(config, count)
        self._threads = ThreadPoolExecutor(min(count, os.cpu_count() or 1), "roadloop-decode")
        try:
            server = self.link.client.server
            worlds = Worlds(config, server.frames_per_chunk)
            self.frames_per_second = 1e6 / server.dt_us
            self.steps_per_second = self.frames_per_second / server.frames_per_chunk
            self.scale = action_scale(config, server)
            cameras = self._cameras(config, worlds)
            self.observation_space = observation_space(config, cameras)
            self.slots = [
                Slot(session, worlds, config, reward, cameras, server.dt_us / 1e6)
                for session in self.link.sessions
            ]
        except BaseException:
            self.close()
            raise
        self._space = config.space

    def begin(
        self, k: int, rng: np.random.Generator, seed: int | None, options: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Begin an episode in slot k; returns its info. See `Worlds.draw`."""
        self.link.must_be_open()
        return self.slots[k].begin(rng, seed, options)

    def step(self, which: Sequence[int], actions: np.ndarray, seen: Seen) -> dict[int, Outcome]:
        """Step the slots with these indices by these actions in [-1, 1], [len(which), ...]; one round trip.

        What they see is written into their rows.

        The episodes of sessions whose worker was lost are truncated: the next ones begin when another worker has them.

        Raises:
            ClosedEnvironmentError: after `close`.
            ResetNeeded: before the first reset.
            ProtocolError: what the server answered for the first of them that failed otherwise.
        """
        client = self.link.client
        if not all(slot.begun for slot in self.slots):
            raise ResetNeeded("expected reset() first")
        indices = {self.slots[k].session: k for k in which}
        asked = dict(zip(indices, self.scale.to_server(actions), strict=True))
        taken: dict[int, Future[Outcome]] = {}
        refused: dict[int, ProtocolError] = {}
        for session, result in client.step_each(asked, self._space) if asked else ():
            k = indices[session]
            if isinstance(result, ProtocolError) and not _is_lost(result):
                refused[k] = result
            else:  # decoding releases the interpreter: use all cores while the server makes the other results
                taken[k] = self._threads.submit(_take, self.slots[k], result, _row(seen, k))
        outcomes = {k: taken[k].result() for k in which if k in taken}
        for k in which:
            if k in refused:
                raise refused[k]
        return outcomes

    def fresh(self) -> Seen:
        """Arrays for what all slots see, [N, ...], that nobody else has."""
        space: Any = self.observation_space
        return cast(Seen, create_empty_array(space, len(self.slots), np.empty))

    def write(self, which: Iterable[int], seen: Seen) -> None:
        """Write what these slots see into their rows."""
        for k in which:
            self.slots[k].write(_row(seen, k))

    def close(self) -> None:
        """End the sessions. Harmless the second time."""
        self._threads.shutdown()
        self.link.close()

    def _cameras(self, config: DriveConfig, worlds: Worlds) -> Sequence[Camera]:
        """Those that will be observed. The server says at once what its own rig has; of another one a world must tell."""
        server = self.link.client.server
        if config.rig not in (None, server.rig):
            world: Any = (config.scenarios[0], 0)
            return list(worlds.begin(self.link.sessions[0], world).cameras.values())
        known = {camera.name: camera for camera in server.cameras}
        wanted = known if config.cameras is None else config.cameras
        if unknown := [name for name in wanted if name not in known]:
            raise ValueError(f"expected cameras of {', '.join(known)}, got {', '.join(unknown)}")
        return [known[name] for name in wanted]


def _take(slot: Slot, result: StepResult | ProtocolError, row: Seen) -> Outcome:
    outcome = slot.take(result) if isinstance(result, StepResult) else slot.lose(result)
    slot.write(row)
    return outcome


def _row(seen: Seen, k: int) -> Seen:
    return {name: rows[k] for name, rows in seen.items()}


def _is_lost(error: ProtocolError) -> bool:
    """Whether the session's worker was lost, and the session goes on elsewhere."""
    return error.code is ErrorCode.WORKER_LOST and not error.fatal
