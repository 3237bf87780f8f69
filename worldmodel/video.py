"""Pictures to files: H.264 videos, and sheets of labelled pictures."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

H264_ENCODERS = ("libx264", "libopenh264", "h264_nvenc", "h264_videotoolbox")  # in order of preference
_LABEL_PX = 14  # height of the strip that holds a label
_GAP_PX = 2


class VideoError(ValueError):
    """A video that cannot be written or read. The message reads *expected X, got Y*."""


def write_mp4(path: str | Path, frames: Iterable[np.ndarray], fps: float, crf: int = 18) -> int:
    """Write an H.264 MP4 (yuv420p, so that every browser plays it). Odd sizes gain a repeated row or column.

    Args:
        path: file to write; an old one is replaced.
        frames: uint8 [H, W, 3] RGB, all of one size, taken one at a time.
        fps: frames per second.
        crf: constant rate factor, 0 (lossless) to 51; 18 is visually near lossless.

    Returns:
        The number of frames written.

    Raises:
        VideoError: no frames, frames of differing shape or dtype, no H.264 encoder in this PyAV.
    """
    source = iter(frames)
    first = next(source, None)
    if first is None:
        raise VideoError(f"expected at least one frame for {path}, got none")
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream(h264_encoder(), rate=Fraction(fps).limit_denominator(1001))
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = (size + size % 2 for size in first.shape[:2])
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": "veryfast"}
        count = 0
        for picture in _same_shape(first, source):
            frame = av.VideoFrame.from_ndarray(_even(picture), format="rgb24")
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode(None))
    return count


def read_mp4(path: str | Path) -> Iterator[np.ndarray]:
    """Frames of a video, uint8 [H, W, 3] RGB, one at a time. Raises VideoError where there is no readable video."""
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield np.asarray(frame.to_ndarray(format="rgb24"))
    except (av.error.FFmpegError, IndexError) as error:
        raise VideoError(f"expected a video at {path}, got {error}") from error


def h264_encoder() -> str:
    """The name of the H.264 encoder in use. Raises VideoError where PyAV has none."""
    for name in H264_ENCODERS:
        if name in av.codecs_available:
            return name
    raise VideoError(f"expected PyAV with one of the encoders {', '.join(H264_ENCODERS)}, got none of them")


def write_png(path: str | Path, picture: np.ndarray) -> None:
    """Write uint8 [H, W, 3] RGB as PNG."""
    encoded, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise VideoError(f"expected a picture uint8 [H, W, 3], got {picture.dtype} {picture.shape}")
    Path(path).write_bytes(data.tobytes())


def contact_sheet(pictures: Sequence[np.ndarray], labels: Sequence[str], columns: int) -> np.ndarray:
    """Pictures in rows, each under its label, on dark grey.

    Args:
        pictures: uint8 [H, W, 3] RGB, all of one size.
        labels: one per picture; cut to the picture's width.
        columns: pictures per row.

    Returns:
        uint8 [rows * (H + 14 + 2), columns * (W + 2), 3].
    """
    if not pictures or len(pictures) != len(labels) or columns < 1:
        raise ValueError(
            f"expected one label per picture and columns >= 1, got {len(pictures)} pictures, "
            f"{len(labels)} labels, {columns} columns"
        )
    height, width = pictures[0].shape[:2]
    cell_height, cell_width = height + _LABEL_PX + _GAP_PX, width + _GAP_PX
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * cell_height, columns * cell_width, 3), 24, np.uint8)
    for k, (picture, label) in enumerate(zip(_same_shape(pictures[0], pictures[1:]), labels, strict=True)):
        top, left = k // columns * cell_height, k % columns * cell_width
        cell = sheet[top : top + cell_height, left : left + cell_width]
        cell[_LABEL_PX : _LABEL_PX + height, :width] = picture
        cell[:_LABEL_PX, :width] = _label_strip(label, width)
    return sheet


def captioned(picture: np.ndarray, caption: str) -> np.ndarray:
    """A picture under a line of text: uint8 [H, W, 3] -> [H + 14, W, 3]."""
    return np.concatenate([_label_strip(caption, picture.shape[1]), picture])


def _label_strip(label: str, width: int) -> np.ndarray:
    """Text, light on dark, uint8 [14, W, 3]; what does not fit is cut off."""
    strip = np.full((_LABEL_PX, width, 3), 24, np.uint8)
    cv2.putText(
        strip,
        label.replace("_", " "),
        (2, 10),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.34,
        (225, 225, 225),
        1,
        cv2.LINE_AA,
    )
    return strip


def _same_shape(first: np.ndarray, others: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """All pictures, each checked to be uint8 RGB of the first one's size."""
    if first.dtype != np.uint8 or first.ndim != 3 or first.shape[2] != 3:
        raise VideoError(f"expected pictures uint8 [H, W, 3], got {first.dtype} {list(first.shape)}")
    yield first
    for other in others:
        if other.shape != first.shape or other.dtype != first.dtype:
            raise VideoError(
                f"expected pictures uint8 {list(first.shape)}, got {other.dtype} {list(other.shape)}"
            )
        yield other


def _even(picture: np.ndarray) -> np.ndarray:
    """The picture with even height and width, its last row and column repeated where needed."""
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(picture)
