"""Videos: the MP4 of a rollout, and of single cameras for datasets."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..errors import RoadloopError
from ..extras import need
from .mosaic import mosaic_frames
from .trace import Trace, TraceRecorder

ENCODERS = ("libx264", "libopenh264", "h264_nvenc", "h264_videotoolbox")  # in order of preference


class VideoError(RoadloopError, ValueError):
    """A video that cannot be written."""


def write_video(path: Path, recorder: TraceRecorder, trace: Trace, width_px: int = 960) -> None:
    """Write the mosaic of a rollout: all cameras, the world from above, numbers."""
    write_mp4(path, _mosaics(recorder, trace, width_px), 1.0 / trace.dt_s)


def write_mp4(path: Path, frames: Iterable[np.ndarray], fps: float, crf: int = 21, gop: int = 48) -> int:
    """Write H.264 (yuv420p, for every browser); odd sizes lose a row or column. Returns the number of frames.

    Args:
        path: file; whole or not there at all.
        frames: uint8 [H, W, 3] RGB, of one size.
        fps: frames per second.
        crf: quality, 0 (lossless) to 51.
        gop: frames between key frames.

    Raises:
        VideoError: no frames, or no encoder.
    """
    av = need("av", "eval", "videos")
    source = iter(frames)
    if (first := next(source, None)) is None:
        raise VideoError(f"expected at least one frame for {path}, got none")
    encoder = next((name for name in ENCODERS if name in av.codecs_available), None)
    if encoder is None:
        raise VideoError(f"expected PyAV with one of {', '.join(ENCODERS)}, got none of them")
    part = path.with_name(path.name + ".part")
    count = 0
    with av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream(encoder, rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = (size - size % 2 for size in first.shape[:2])
        stream.pix_fmt, stream.gop_size = "yuv420p", gop
        stream.options = {"crf": str(crf), "preset": "veryfast"}
        for picture in _all(first, source):
            even = np.ascontiguousarray(picture[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
            count += 1
        container.mux(stream.encode(None))
    part.replace(path)
    return count


def _mosaics(recorder: TraceRecorder, trace: Trace, width_px: int) -> Iterator[np.ndarray]:
    at = 0
    for seen in recorder.pictures:
        at += len(seen.ego_frames)
        yield from mosaic_frames(seen, trace.ego[:at, :2], width_px)


def _all(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest
