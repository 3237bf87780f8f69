"""Video streams of a worker's sessions: one encoder per session and camera, shared by all its viewers.

A thread of its own encodes, beside the engine and after the driver's pictures, so nobody waits for a stream. Where it
cannot keep up it leaves chunks out, and the next one starts with a keyframe.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from .h264 import H264Encoder
from .messages import Video

log = logging.getLogger("roadloop.worker")

MAX_WAITING = 16  # chunks of all sessions together


class VideoStreams:
    """Encodes chunks in the order of their submission.

    Args:
        send: called on the thread with every finished chunk.
    """

    def __init__(self, send: Callable[[Any], None]) -> None:
        self._send = send
        self._thread = ThreadPoolExecutor(1, "video")
        self._encoders: dict[str, dict[str, H264Encoder]] = {}  # session -> camera -> encoder; of the thread
        self._waiting = 0
        self._cut: set[str] = set()  # sessions whose stream lacks a chunk

    def submit(self, session: str, chunk: int, frames: dict[str, np.ndarray], key: bool) -> None:
        """Encode a chunk: uint8 [F, H, W, 3] by camera. `key`: somebody has to start with it."""
        if self._waiting >= MAX_WAITING:
            self._cut.add(session)
            return
        key = key or session in self._cut
        self._cut.discard(session)
        self._waiting += 1
        self._thread.submit(self._encode, session, chunk, frames, key)

    def forget(self, session: str) -> None:
        """The session has ended, or begins another world."""
        self._cut.discard(session)
        self._thread.submit(self._encoders.pop, session, None)

    def close(self) -> None:
        """Finish what was submitted."""
        self._thread.shutdown(wait=True)

    def _encode(self, session: str, chunk: int, frames: dict[str, np.ndarray], key: bool) -> None:
        try:
            self._keep_only(session, list(frames))
            known = self._encoders.setdefault(session, {})
            key = key or any(name not in known for name in frames)  # cameras of a chunk start together
            units = {}
            for name, pixels in frames.items():
                if name not in known:
                    known[name] = H264Encoder(*pixels.shape[1:3])
                units[name] = known[name].encode(pixels, key)
            self._send(Video(session, chunk, units, key))
        except Exception:
            log.exception("session %s has no video for chunk %d", session, chunk)
            self._encoders.pop(session, None)  # the next chunk starts anew
        finally:
            self._waiting -= 1

    def _keep_only(self, session: str, cameras: Sequence[str]) -> None:
        """Nobody watches the other cameras any more: when somebody does again, they start with a keyframe."""
        known = self._encoders.get(session, {})
        self._encoders[session] = {name: known[name] for name in cameras if name in known}
