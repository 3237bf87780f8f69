"""Those who only look."""

from typing import Any

from clients.protocol import Frames, Watching, pack


def test_a_viewer_sees_what_the_driver_sees(world: Any, dial: Any) -> None:
    viewer = dial("/v1/view")
    watching = viewer.ask("watch", session=world.welcome.sessions[0].session)
    assert isinstance(watching, Watching)
    opening = viewer.reply()
    assert isinstance(opening, Frames)
    assert opening.chunk == -1
    stepped = world.step(0)
    seen = viewer.reply()
    assert (seen.chunk, seen.frames) == (0, stepped.frames)
    viewer.closing.close()


def test_a_viewer_sees_all_frames_of_a_driver_that_asked_for_the_newest(world: Any, dial: Any) -> None:
    world.reset(newest_frames=2)
    viewer = dial("/v1/view")
    viewer.ask("watch", session=world.welcome.sessions[0].session)
    viewer.reply()
    driven, seen = world.step(0), viewer.reply()
    for camera, images in seen.frames.items():
        assert len(images) == world.welcome.frames_per_chunk
        assert driven.frames[camera] == images[-2:]
    viewer.closing.close()


def test_a_viewer_cannot_drive(world: Any, dial: Any) -> None:
    viewer = dial("/v1/view")
    viewer.ask("watch", session=world.welcome.sessions[0].session)
    viewer.reply()
    viewer.wire.send(pack({"type": "close", "id": 9}))
    assert viewer.reply().fatal
    assert world.step(0).chunk == 0
