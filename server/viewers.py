"""Viewers of a session: each gets the newest chunk when it is able to take one; nobody waits for anybody.

A chunk is packed once per camera choice and shared as immutable bytes. A viewer that never reads holds one reference.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from clients.protocol import ErrorCode, Frames, Notice, ProtocolError, pack


class Broadcast:
    """One message for all viewers of a session."""

    def __init__(self, message: Frames | Notice) -> None:
        self._message = message
        self._packed: dict[tuple[str, ...] | None, bytes] = {}

    def packed(self, cameras: tuple[str, ...] | None) -> bytes:
        """The message with these cameras only, as bytes; None is all."""
        if cameras not in self._packed:
            self._packed[cameras] = pack(self._only(cameras))
        return self._packed[cameras]

    def _only(self, cameras: tuple[str, ...] | None) -> Frames | Notice:
        if cameras is None or isinstance(self._message, Notice):
            return self._message
        frames = {name: images for name, images in self._message.frames.items() if name in cameras}
        return self._message.model_copy(update={"frames": frames})


class Viewer:
    """One slot: the newest broadcast that was not yet sent."""

    def __init__(self) -> None:
        self.cameras: tuple[str, ...] | None = None
        self.interval_s = 0.0
        self.dropped = 0
        self._newest: Broadcast | None = None
        self._arrived = asyncio.Event()

    def put(self, broadcast: Broadcast) -> None:
        """Replace what was not sent."""
        self.dropped += self._newest is not None
        self._newest = broadcast
        self._arrived.set()

    async def take(self) -> bytes:
        """Wait for the newest broadcast."""
        await self._arrived.wait()
        self._arrived.clear()
        broadcast, self._newest = self._newest, None
        assert broadcast is not None
        return broadcast.packed(self.cameras)


class Audience:
    """All viewers of one session."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._viewers: set[Viewer] = set()
        self._last: Broadcast | None = None

    def __len__(self) -> int:
        return len(self._viewers)

    def join(self) -> Viewer:
        """A new viewer, which at once gets the last chunk. Raises TOO_MANY."""
        if len(self._viewers) >= self._limit:
            raise ProtocolError(ErrorCode.TOO_MANY, f"expected at most {self._limit} viewers", fatal=True)
        viewer = Viewer()
        self._viewers.add(viewer)
        if self._last is not None:
            viewer.put(self._last)
        return viewer

    def leave(self, viewer: Viewer) -> int:
        """The viewer is gone; how many chunks it missed."""
        self._viewers.discard(viewer)
        return viewer.dropped

    def publish(self, message: Frames | Notice) -> None:
        """Show a message to everybody, without waiting."""
        broadcast = Broadcast(message)
        if isinstance(message, Frames):
            self._last = broadcast
        for viewer in self._viewers:
            viewer.put(broadcast)


def choose(cameras: Sequence[str] | None, known: Sequence[dict[str, Any]]) -> tuple[str, ...] | None:
    """A viewer's camera choice, checked. Raises BAD_REQUEST."""
    if cameras is None:
        return None
    names = [camera["name"] for camera in known]
    for camera in cameras:
        if camera not in names:
            raise ProtocolError(
                ErrorCode.BAD_REQUEST, f"expected cameras of {', '.join(names)}, got {camera!r}"
            )
    return tuple(cameras)
