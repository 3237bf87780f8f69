"""Video streams for viewers: what is shared, who can start where, and what the pictures look like."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import av
import cv2
import numpy as np
import pytest
from websockets.sync.client import connect as open_socket

import server.h264
from clients.client import connect
from clients.protocol import (
    SUBPROTOCOL,
    ErrorReply,
    Frames,
    Notice,
    ProtocolError,
    Watch,
    Watching,
    pack,
    parse_reply,
)
from server.h264 import H264Encoder, require_h264
from server.messages import Video
from server.video import MAX_WAITING, VideoStreams
from server.viewers import Audience, Viewer

DEADLINE_S = 30.0
SLICE, KEY, HEADER = 1, 5, 7  # NAL unit types


def nal_types(unit: bytes) -> list[int]:
    """Of an Annex B access unit."""
    return [part[0] & 31 for part in unit.split(b"\0\0\1")[1:]]


def decode(units: list[bytes]) -> list[np.ndarray]:
    """RGB pictures of a stream."""
    codec: Any = av.CodecContext.create("h264", "r")
    packets = [codec.decode(av.Packet(unit)) for unit in units] + [codec.decode(None)]
    return [frame.to_ndarray(format="rgb24") for frames in packets for frame in frames]


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255.0**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def moving(count: int) -> np.ndarray:
    """uint8 [count, 64, 96, 3]: a smooth picture that moves."""
    y, x = np.mgrid[0:64, 0:96]
    waves = [np.sin((x + 2 * k)[..., None] / np.array([9, 11, 13]) + y[..., None] / 17) for k in range(count)]
    return (127 + 100 * np.stack(waves)).astype(np.uint8)


# The encoder ------------------------------------------------------------------------------------------------------------


def test_every_frame_is_one_access_unit_and_keyframes_come_when_asked_for() -> None:
    encoder = H264Encoder(64, 96)
    frames = moving(12)
    units = [encoder.encode(frames[k : k + 4], key=k == 8) for k in (0, 4, 8)]
    types = [[nal_types(unit) for unit in chunk] for chunk in units]
    for chunk, key in zip(types, (True, False, True), strict=True):
        assert (HEADER in chunk[0] and KEY in chunk[0]) == key
        for later in chunk[1:]:
            assert set(later) == {SLICE}
    pictures = decode([unit for chunk in units for unit in chunk])
    assert len(pictures) == 12
    assert min(psnr_db(a, b) for a, b in zip(pictures, frames, strict=True)) > 34.0
    later = decode(units[2])  # whoever comes with the last keyframe sees the same
    assert all(np.array_equal(a, b) for a, b in zip(later, pictures[8:], strict=True))


def test_without_pyav_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.h264, "find_spec", lambda name: None)
    with pytest.raises(ProtocolError, match=r"UNSUPPORTED: .*roadloop\[server\]"):
        require_h264([])


def test_odd_cameras_are_refused() -> None:
    with pytest.raises(
        ProtocolError, match="BAD_REQUEST: expected cameras of even sizes for h264, got 64 x 97"
    ):
        require_h264([{"height": 64, "width": 97}])


# A worker's streams -----------------------------------------------------------------------------------------------------


def streams(sent: list[Video]) -> VideoStreams:
    return VideoStreams(sent.append)


def test_a_session_has_one_stream_per_camera_and_new_cameras_start_with_a_keyframe() -> None:
    sent: list[Video] = []
    videos, frames = streams(sent), moving(4)
    videos.submit("a", 0, {"front": frames}, key=False)
    videos.submit("a", 1, {"front": frames}, key=False)
    videos.submit("a", 2, {"front": frames, "rear": frames}, key=False)
    videos.submit("b", 0, {"front": frames}, key=False)
    videos.forget("a")
    videos.submit("a", 3, {"front": frames}, key=False)
    videos.close()
    assert [(video.session, video.chunk, video.key) for video in sent] == [
        ("a", 0, True),
        ("a", 1, False),
        ("a", 2, True),
        ("b", 0, True),
        ("a", 3, True),
    ]


def test_a_thread_that_cannot_keep_up_leaves_chunks_out_and_starts_again_with_a_keyframe() -> None:
    sent: list[Video] = []
    videos, frames = streams(sent), {"front": moving(4)}
    with stalled(videos):
        for chunk in range(MAX_WAITING + 3):
            videos.submit("a", chunk, frames, key=False)
    videos.submit("b", 0, frames, key=False)
    finished(videos)
    videos.submit("a", 99, frames, key=False)
    videos.close()
    of_a = [video for video in sent if video.session == "a"]
    assert [video.chunk for video in of_a] == [*range(MAX_WAITING), 99]
    assert of_a[-1].key


@contextlib.contextmanager
def stalled(videos: VideoStreams) -> Iterator[None]:
    """The thread does nothing meanwhile."""
    go_on = threading.Event()
    videos._thread.submit(go_on.wait, DEADLINE_S)
    yield
    go_on.set()
    finished(videos)


def finished(videos: VideoStreams) -> None:
    videos._thread.submit(int).result(DEADLINE_S)


def test_frames_that_cannot_be_encoded_cost_their_own_stream_only() -> None:
    sent: list[Video] = []
    videos = streams(sent)
    videos.submit("a", 0, {"front": np.zeros((4, 3, 3, 3), np.uint8)}, key=False)
    videos.submit("b", 0, {"front": moving(4)}, key=False)
    videos.submit("a", 1, {"front": moving(4)}, key=False)
    videos.close()
    assert [(video.session, video.chunk) for video in sent] == [("b", 0), ("a", 1)]


# The audience -----------------------------------------------------------------------------------------------------------


def message(chunk: int) -> Frames:
    fields = {"ego": np.zeros((4, 7)), "agents": np.zeros((0, 8), np.float32), "agent_kinds": []}
    pictures = {"frames": {"a": [b"1"], "b": [b"2"]}, "encoding": "jpeg", "metrics": {}, "timing": {}}
    return Frames.model_construct(
        session="s", chunk=chunk, cache=None, outcome="running", **fields, **pictures
    )


def video_viewer(audience: Audience, *cameras: str) -> Viewer:
    viewer = audience.join()
    viewer.choose(cameras or None, True, 0.0)
    return viewer


def show(audience: Audience, chunk: int, key: bool, cameras: str = "ab") -> None:
    audience.publish(message(chunk))
    audience.publish_video(chunk, {name: [b"unit"] for name in cameras}, key)


async def seen(viewer: Viewer) -> tuple[int, str]:
    reply = parse_reply(await viewer.take())
    assert isinstance(reply, Frames)
    return reply.chunk, reply.encoding


def wish(audience: Audience) -> tuple[list[str], bool]:
    wanted = audience.video_wish(["a", "b"])
    return wanted["video"], wanted["video_key"]


async def test_a_stream_begins_with_a_keyframe_that_is_asked_for_once() -> None:
    audience = Audience(limit=9)
    assert wish(audience) == ([], False)
    viewer = video_viewer(audience, "b")
    assert wish(audience) == (["b"], True)
    show(audience, 0, key=False)  # a stream that somebody else began
    assert wish(audience) == (["b"], True)
    show(audience, 1, key=True)
    assert await seen(viewer) == (1, "h264")
    assert wish(audience) == (["b"], False)
    show(audience, 2, key=False)
    assert await seen(viewer) == (2, "h264")


async def test_a_newcomer_sees_pictures_until_its_stream_begins() -> None:
    audience = Audience(limit=9)
    viewer = audience.join(message(4))
    viewer.choose(None, True, 0.0)
    assert await seen(viewer) == (4, "jpeg")
    show(audience, 5, key=True)
    assert await seen(viewer) == (5, "h264")
    audience.publish(message(-1))  # another world opens
    assert await seen(viewer) == (-1, "jpeg")


async def test_a_viewer_that_missed_a_chunk_waits_for_a_keyframe() -> None:
    audience = Audience(limit=9)
    slow, quick = video_viewer(audience), video_viewer(audience)
    show(audience, 0, key=True)
    assert await seen(quick) == (0, "h264")
    show(audience, 1, key=False)  # slow has not taken chunk 0
    assert await seen(quick) == (1, "h264")
    assert await seen(slow) == (0, "h264")
    show(audience, 2, key=False)
    assert await seen(quick) == (2, "h264")
    assert wish(audience) == (["a", "b"], True)
    show(audience, 3, key=True)
    assert await seen(slow) == await seen(quick) == (3, "h264")
    assert audience.leave(slow) == 2


async def test_a_notice_in_the_way_of_a_chunk_makes_a_hole_too() -> None:
    audience = Audience(limit=9)
    viewer = video_viewer(audience)
    show(audience, 0, key=True)
    audience.publish(Notice(code="DRAINING"))
    assert wish(audience) == (["a", "b"], True)
    assert isinstance(parse_reply(await viewer.take()), Notice)


async def test_other_cameras_need_a_keyframe_of_their_own() -> None:
    audience = Audience(limit=9)
    viewer = video_viewer(audience, "a")
    show(audience, 0, key=True, cameras="a")
    assert await seen(viewer) == (0, "h264")
    viewer.choose(("a", "b"), True, 0.0)
    show(audience, 1, key=True, cameras="a")  # begun before the choice
    assert wish(audience) == (["a", "b"], True)
    show(audience, 2, key=True)
    assert await seen(viewer) == (2, "h264")


# The whole server -------------------------------------------------------------------------------------------------------


def test_a_viewer_decodes_what_the_driver_sees(run_server: Any) -> None:
    with run_server() as running, connect(running.url, encoding="raw") as client:
        session = client.session
        session.reset("zero", rig="front3")
        url = running.url.replace("http", "ws") + "/v1/view"
        with open_socket(url, subprotocols=[SUBPROTOCOL], compression=None, max_size=None) as socket:  # type: ignore[list-item]

            def receive() -> Any:
                return parse_reply(socket.recv(timeout=DEADLINE_S, decode=False))

            socket.send(pack(Watch(id=1, session=session.name, cameras=["nowhere"], encoding="h264")))
            assert isinstance(receive(), ErrorReply)
        with open_socket(url, subprotocols=[SUBPROTOCOL], compression=None, max_size=None) as socket:  # type: ignore[list-item]
            names = list(session.step([0.0, 0.5]).frames)[:2]
            socket.send(pack(Watch(id=1, session=session.name, cameras=names, encoding="h264")))
            assert isinstance(receive(), Watching)
            assert receive().encoding == "raw"  # the last chunk, at once
            shown = [session.step([0.0, 0.5]).frames for _ in range(3)]
            seen = [receive() for _ in range(3)]
        assert [message.chunk for message in seen] == [1, 2, 3]
        assert {message.encoding for message in seen} == {"h264"}
        for name in names:
            pictures = decode([unit for message in seen for unit in message.frames[name]])
            truth = [pixels(picture) for frames in shown for picture in frames[name]]
            assert len(pictures) == len(truth) == 12
            for got, expected in zip(pictures, truth, strict=True):
                jpeg = cv2.imdecode(jpeg_of(expected), cv2.IMREAD_COLOR_RGB)
                assert psnr_db(got, jpeg) > 30.0
                assert psnr_db(got, expected) > psnr_db(jpeg, expected) - 6.0


def pixels(raw: bytes) -> np.ndarray:
    return np.frombuffer(raw, np.uint8).reshape(128, 224, 3)


def jpeg_of(picture: np.ndarray) -> np.ndarray:
    """As the server encodes it."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90]
    )
    assert done
    return data
