"""Maps of sessions, ready to be sent: asked of the worker once per world, then kept."""

import hashlib
import json
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from clients.protocol import Reset

from .live import LiveSession
from .messages import Map, MapWork
from .turns import Turns


@dataclass(frozen=True)
class MapFile:
    """A LaneMap as JSON; the tag changes when the bytes do."""

    setup: Reset  # of the world that it shows
    body: bytes
    etag: str


class Maps:
    """The newest map of each open session."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._kept: WeakKeyDictionary[LiveSession, MapFile] = WeakKeyDictionary()

    async def of(self, live: LiveSession) -> MapFile:
        """The map of a session's world.

        Raises:
            ProtocolError: BAD_STATE without a world, BAD_REQUEST where the engine has no maps, WORKER_LOST.
        """
        async with self._turns.turn(live):
            kept = self._kept.get(live)
            if kept is None or kept.setup is not live.setup:
                kept = self._kept[live] = await self._ask(live)
            return kept

    async def _ask(self, live: LiveSession) -> MapFile:
        staged = live.state.begin("map")
        answer: Map = await self._turns.work(live, staged, MapWork)
        live.state.commit(staged)
        assert live.setup is not None
        body = json.dumps({"session": live.name, **answer.map}, separators=(",", ":")).encode()
        return MapFile(live.setup, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
