"""Viewers of a session: each gets the newest chunk when it is able to take one; nobody waits for anybody.

A chunk is packed once per camera choice and shared as immutable bytes. A viewer that never reads holds one reference.

Whoever asked for video gets a stream that all such viewers share. A stream with a hole cannot be decoded: a viewer that
joins, missed a chunk or changed cameras gets nothing more until a chunk starts with a keyframe, which `video_wish` asks for.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from clients.protocol import ErrorCode, Frames, Notice, ProtocolError, pack

VIDEO_LAG = 16  # chunks for which the fields beside the pictures wait for their video


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
        self.video = False  # wants the stream
        self.synced = False  # can decode the stream's next chunk
        self._newest: Broadcast | None = None
        self._arrived = asyncio.Event()

    def choose(self, cameras: tuple[str, ...] | None, video: bool, interval_s: float) -> None:
        """What to show from now on."""
        self.synced &= (cameras, video) == (self.cameras, self.video)
        self.cameras, self.video, self.interval_s = cameras, video, interval_s

    def put(self, broadcast: Broadcast) -> None:
        """Replace what was not sent."""
        self.dropped += self._newest is not None
        self.synced &= self._newest is None
        self._newest = broadcast
        self._arrived.set()

    def put_video(self, broadcast: Broadcast, key: bool) -> None:
        """The stream's next chunk, which may replace another one only if it starts with a keyframe."""
        if key:
            self.put(broadcast)
            self.synced = True
        elif self.synced and self._newest is None:
            self.put(broadcast)
        else:
            self.dropped += 1
            self.synced = False

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
        self._without_video: dict[int, Frames] = {}  # chunk -> its message, oldest first

    def __len__(self) -> int:
        return len(self._viewers)

    @property
    def sees_pictures(self) -> bool:
        """Whether anybody watches the frames themselves, not a stream of them."""
        return any(not viewer.video for viewer in self._viewers)

    def join(self, last: Frames | None = None) -> Viewer:
        """A new viewer, which at once gets the last chunk. Raises TOO_MANY."""
        if len(self._viewers) >= self._limit:
            raise ProtocolError(ErrorCode.TOO_MANY, f"expected at most {self._limit} viewers", fatal=True)
        viewer = Viewer()
        self._viewers.add(viewer)
        if last is not None:
            viewer.put(Broadcast(last))
        return viewer

    def leave(self, viewer: Viewer) -> int:
        """The viewer is gone; how many chunks it missed."""
        self._viewers.discard(viewer)
        if not self._viewers:
            self._without_video.clear()
        return viewer.dropped

    def publish(self, message: Frames | Notice) -> None:
        """Show a message to everybody, without waiting. Chunks of a stream come by `publish_video`, openings do not."""
        broadcast, streamed = Broadcast(message), False
        if isinstance(message, Frames):
            streamed = message.chunk >= 0
            self._await_video(message)
        for viewer in self._viewers:
            if not (viewer.video and streamed):
                viewer.put(broadcast)

    # Video ------------------------------------------------------------------------------------------------------

    def video_wish(self, cameras: Sequence[str]) -> dict[str, Any]:
        """What the coming chunk's work must know: cameras to stream, in this order, and whether somebody must start."""
        watching = self._video_viewers()
        wanted = {name for viewer in watching for name in viewer.cameras or cameras}
        key = any(not viewer.synced for viewer in watching)
        return {"video": [name for name in cameras if name in wanted], "video_key": key}

    def publish_video(self, chunk: int, units: Mapping[str, Sequence[bytes]], key: bool) -> None:
        """Show a chunk, published before, to those who want the stream."""
        message = self._without_video.pop(chunk, None)
        if message is None:  # too late: a hole in the stream
            for viewer in self._video_viewers():
                viewer.synced = False
            return
        every = tuple(message.frames)
        broadcast = Broadcast(message.model_copy(update={"encoding": "h264", "frames": dict(units)}))
        for viewer in self._video_viewers():
            complete = set(viewer.cameras or every) <= units.keys()
            viewer.synced &= complete
            viewer.put_video(broadcast, key and complete)

    def _video_viewers(self) -> list[Viewer]:
        return [viewer for viewer in self._viewers if viewer.video]

    def _await_video(self, message: Frames) -> None:
        if not self._video_viewers() or message.chunk < 0:
            self._without_video.clear()
            return
        self._without_video[message.chunk] = message
        if len(self._without_video) > VIDEO_LAG:
            del self._without_video[next(iter(self._without_video))]


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
