"""What a driver gets to see."""

from typing import Any

import pytest

from clients.protocol import Started, Stepped


def test_a_reset_shows_the_first_frame_of_every_camera(socket: Any) -> None:
    started = socket.reset()
    assert [c.name for c in started.cameras] == list(started.frames)
    for camera in started.cameras:
        (image,) = started.frames[camera.name]
        assert len(image) == camera.height * camera.width * 3
    assert started.ego.shape == (1, len(socket.welcome.ego_columns))
    assert started.next_chunk == 0


def test_a_step_shows_the_chunk_frame_by_frame(world: Any) -> None:
    frames = world.welcome.frames_per_chunk
    stepped = world.step(0)
    assert isinstance(stepped, Stepped)
    assert stepped.chunk == 0
    assert all(len(images) == frames for images in stepped.frames.values())
    assert stepped.ego.shape[0] == frames
    assert len(stepped.metrics["off_road"]) == frames
    assert isinstance(stepped.reward, float)
    assert stepped.ego[-1, 3] > stepped.ego[0, 3] - 1e-6  # it was told to accelerate


def test_the_same_seed_and_actions_give_the_same_bytes(world: Any) -> None:
    first = [world.step(k).frames for k in range(3)]
    world.reset()
    assert [world.step(k).frames for k in range(3)] == first


def test_a_driver_may_ask_for_the_newest_frames_alone(world: Any) -> None:
    every = [world.step(k).frames for k in range(2)]
    started = world.reset(newest_frames=1)
    assert isinstance(started, Started), started
    assert started.ego.shape[0] == 1
    first = world.step(0)
    assert first.frames == {camera: images[-1:] for camera, images in every[0].items()}
    assert first.ego.shape[0] == world.welcome.frames_per_chunk
    assert world.step(0).frames == first.frames
    handle = world.ask("snapshot").handle
    world.reset()
    restored = world.ask("restore", handle=handle)
    assert restored.frames == first.frames
    assert world.step(1).frames == {camera: images[-1:] for camera, images in every[1].items()}


@pytest.mark.parametrize(
    ("newest_frames", "code"),
    [
        (0, "BAD_MESSAGE"),
        (-1, "BAD_MESSAGE"),
        ("1", "BAD_MESSAGE"),
        (1.5, "BAD_MESSAGE"),
        (64, "BAD_REQUEST"),
    ],
)
def test_a_number_of_frames_that_no_chunk_has_is_refused(world: Any, newest_frames: Any, code: str) -> None:
    refused = world.reset(newest_frames=newest_frames)
    assert (refused.code, refused.fatal) == (code, False)
    assert "newest_frames" in refused.message
    assert world.step(0).chunk == 0


@pytest.mark.parametrize(
    "change",
    [
        {"scenario": "no-such"},
        {"rig": "no-such"},
        {"options": {"cameras": ["no-such"]}},
        {"scenario": "../x.yaml"},
    ],
    ids=["scenario", "rig", "camera", "path"],
)
def test_unknown_names_are_refused_and_the_world_goes_on(world: Any, change: dict[str, Any]) -> None:
    world.step(0)
    refused = world.reset(**change)
    assert (refused.code, refused.fatal) == ("BAD_REQUEST", False)
    assert world.step(1).chunk == 1


@pytest.mark.parametrize("option", ["weather", "time_of_day"])
def test_conditions_that_there_are_not_are_refused(world: Any, option: str) -> None:
    refused = world.reset(options={option: "hail"})
    assert (refused.code, refused.fatal) == ("BAD_REQUEST", False)
    assert world.step(0).chunk == 0
