"""One camera's frames as an H.264 stream: Annex B, one access unit per frame, no frame waits for a later one."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from importlib.util import find_spec
from typing import Any

import numpy as np

from clients.protocol import ErrorCode, ProtocolError

# Pictures are small and made by the hundred, so processor time counts most: at crf 22, ultrafast takes half the time of
# veryfast at crf 20, for the same bytes and 0.1 dB.
OPTIONS = {
    "preset": "ultrafast",
    "tune": "zerolatency",  # no B frames, no look-ahead
    "crf": "22",
    "forced-idr": "1",
    "x264-params": "keyint=infinite:scenecut=0:repeat-headers=1",  # keyframes when asked for only
}


def require_h264(cameras: Sequence[Mapping[str, Any]]) -> None:
    """Raises ProtocolError: UNSUPPORTED where PyAV is not installed, BAD_REQUEST for cameras of odd sizes."""
    if find_spec("av") is None:
        raise ProtocolError(
            ErrorCode.UNSUPPORTED,
            "expected a server with PyAV for the encoding h264, got one without: pip install 'roadloop[server]'",
        )
    for camera in cameras:
        if camera["height"] % 2 or camera["width"] % 2:
            text = f"expected cameras of even sizes for h264, got {camera['height']} x {camera['width']}"
            raise ProtocolError(ErrorCode.BAD_REQUEST, text)


class H264Encoder:
    """A stream of frames of one size.

    Args:
        height: of every frame; even, as chroma has half of it.
        width: of every frame; even.
    """

    def __init__(self, height: int, width: int) -> None:
        import av

        from worldmodel.engine import FPS  # in workers alone: the front end imports this module too

        self._av: Any = av
        self._codec: Any = av.CodecContext.create("libx264", "w")
        self._codec.height, self._codec.width, self._codec.pix_fmt = height, width, "yuv420p"
        self._codec.time_base, self._codec.framerate = Fraction(1, FPS), Fraction(FPS)
        self._codec.thread_count = 1
        self._codec.options = OPTIONS
        self._to_yuv: Any = av.video.reformatter.VideoReformatter()
        self._index = 0

    def encode(self, frames: np.ndarray, key: bool) -> list[bytes]:
        """The next frames, uint8 [F, H, W, 3] RGB, as F access units. The stream's first frame is always a keyframe.

        Args:
            frames: oldest first.
            key: make the first of them a keyframe, from which a new viewer can start.
        """
        return [self._encode_one(frame, key and k == 0) for k, frame in enumerate(frames)]

    def _encode_one(self, pixels: np.ndarray, key: bool) -> bytes:
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = self._to_yuv.reformat(frame, format="yuv420p")
        kinds = self._av.video.frame.PictureType
        frame.pts, frame.pict_type = self._index, kinds.I if key else kinds.NONE
        self._index += 1
        return b"".join(bytes(packet) for packet in self._codec.encode(frame))
