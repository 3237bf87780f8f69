"""Begins worlds: opens them the first time, keeps a snapshot the second time, restores that from then on."""

from collections import OrderedDict
from typing import Any

import numpy as np

from ..client import Session
from ..observation import Observation
from ..protocol import ErrorCode, ProtocolError
from .config import DriveConfig

World = tuple[str, int]  # scenario, seed
REMEMBERED = 4096  # worlds; who draws fresh seeds for ever must not fill the memory
OPTIONS = ("scenario", "world_seed")  # of reset


class Worlds:
    """The worlds of one client; what one of its sessions has kept, the others restore too.

    Args:
        config: of the environment.
        frames_per_chunk: of the server, which sends no more of them than are looked at.
    """

    def __init__(self, config: DriveConfig, frames_per_chunk: int) -> None:
        self._config = config
        wanted = config.frame_stack if config.frame_stack < frames_per_chunk else None
        self._choices = {**config.choices, "newest_frames": wanted}
        self._handles: OrderedDict[World, str | None] = OrderedDict()  # None: begun once, not kept

    def draw(self, rng: np.random.Generator, seed: int | None, options: dict[str, Any] | None) -> World:
        """Which world to begin.

        Args:
            rng: seeded with `seed` if there is one.
            seed: of the reset; the world's own seed unless `world_seeds` are configured.
            options: `scenario` and `world_seed` decide themselves.

        Raises:
            ValueError: unknown options.
        """
        chosen = dict(options or {})
        if unknown := sorted(set(chosen) - set(OPTIONS)):
            raise ValueError(f"expected reset options of {', '.join(OPTIONS)}, got {', '.join(unknown)}")
        names, seeds = self._config.scenarios, self._config.world_seeds
        scenario = names[int(rng.integers(len(names)))] if len(names) > 1 else names[0]
        if seeds is not None:
            world_seed = seeds[int(rng.integers(len(seeds)))]
        else:
            world_seed = int(rng.integers(2**31)) if seed is None else seed
        return chosen.get("scenario", scenario), int(chosen.get("world_seed", world_seed))

    def begin(self, session: Session, world: World) -> Observation:
        """The opening observation; the session is then at chunk 0 of this world."""
        if handle := self._handles.get(world):
            try:
                return session.restore(handle)
            except ProtocolError as error:
                if error.code is not ErrorCode.UNKNOWN_SNAPSHOT:  # the server may drop old ones
                    raise
                del self._handles[world]
        scenario, seed = world
        seen = session.reset(scenario, seed, **self._choices)
        self._remember(world, session)
        return seen

    def _remember(self, world: World, session: Session) -> None:
        again = world in self._handles and self._config.restore
        self._handles[world] = session.snapshot().handle if again else None
        self._handles.move_to_end(world)
        if len(self._handles) > REMEMBERED:
            self._handles.popitem(last=False)
