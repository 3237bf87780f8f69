"""Videos are readable back with the right frames; contact sheets place what they are given."""

from pathlib import Path

import av
import numpy as np
import pytest

from worldmodel.video import VideoError, contact_sheet, read_mp4, write_mp4, write_png


def moving_square(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    frames = np.full((count, height, width, 3), 40, np.uint8)
    for k in range(count):
        frames[k, 10:30, 4 + 3 * k : 24 + 3 * k] = (200, 60, 60)
    return list(frames)


def test_a_video_reads_back_with_its_frames_and_rate(tmp_path: Path) -> None:
    frames = moving_square(10)
    assert write_mp4(tmp_path / "a.mp4", iter(frames), fps=12) == 10
    back = list(read_mp4(tmp_path / "a.mp4"))
    assert len(back) == 10
    assert max(np.abs(a.astype(int) - b.astype(int)).mean() for a, b in zip(frames, back, strict=True)) < 4
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 12)


def test_odd_sizes_are_made_even(tmp_path: Path) -> None:
    write_mp4(tmp_path / "odd.mp4", moving_square(2, height=47, width=63), fps=12)
    assert next(read_mp4(tmp_path / "odd.mp4")).shape == (48, 64, 3)


def test_frames_are_taken_one_at_a_time(tmp_path: Path) -> None:
    taken: list[int] = []

    def endless_but_ten():  # type: ignore[no-untyped-def]
        for k, frame in enumerate(moving_square(10)):
            taken.append(k)
            yield frame

    write_mp4(tmp_path / "a.mp4", endless_but_ten(), fps=12)
    assert taken == list(range(10))


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [np.zeros((16, 16, 3), np.float32)],
        [np.zeros((16, 16), np.uint8)],
        [np.zeros((16, 16, 3), np.uint8), np.zeros((16, 18, 3), np.uint8)],
    ],
    ids=["none", "float", "grey", "two sizes"],
)
def test_what_is_no_video_is_refused(tmp_path: Path, frames: list[np.ndarray]) -> None:
    with pytest.raises(VideoError, match=r"expected .*, got"):
        write_mp4(tmp_path / "a.mp4", frames, fps=12)


def test_what_is_no_video_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"text\.mp4"):
        next(read_mp4(tmp_path / "text.mp4"))


def test_a_contact_sheet_places_pictures_in_rows() -> None:
    pictures = [np.full((20, 30, 3), value, np.uint8) for value in (50, 100, 150)]
    sheet = contact_sheet(pictures, ["a", "b", "c"], columns=2)
    assert sheet.shape == (2 * 36, 2 * 32, 3)
    assert (sheet[14:34, :30] == 50).all()
    assert (sheet[14:34, 32:62] == 100).all()
    assert (sheet[50:70, :30] == 150).all()
    assert sheet[:14, :30].max() > 100  # the label


def test_a_contact_sheet_wants_one_label_per_picture() -> None:
    with pytest.raises(ValueError, match="expected one label per picture"):
        contact_sheet([np.zeros((20, 30, 3), np.uint8)], [], columns=2)


def test_a_png_keeps_its_colours(tmp_path: Path) -> None:
    import cv2

    picture = moving_square(1)[0]
    write_png(tmp_path / "a.png", picture)
    back = cv2.cvtColor(cv2.imread(str(tmp_path / "a.png")), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(back, picture)
