from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.wrappers import (
    FlattenObservation,
    FrameStackObservation,
    HumanRendering,
    RecordEpisodeStatistics,
    RecordVideo,
    RenderCollection,
    TimeLimit,
)

import clients.gym
import clients.gym.link
from clients.client import Session
from clients.errors import ConnectionLostError
from clients.gym import ENV_ID, DriveEnv
from clients.pictures import shrink

Make = Callable[..., Any]


@pytest.fixture
def make(zero_url: str) -> Iterator[Make]:
    """Makes environments that are closed with the test."""
    made: list[Any] = []

    def build(**choices: Any) -> Any:
        choices = {"url": zero_url, "scenario": "zero", "rig": "front3", "encoding": "raw"} | choices
        made.append(gymnasium.make(ENV_ID, **choices))
        return made[-1]

    yield build
    for env in made:
        env.close()


def drive(env: Any, steps: int, seed: int | None = 0) -> list[Any]:
    """Reset and step with the same actions every time."""
    env.action_space.seed(0)
    return [env.reset(seed=seed), *(env.step(env.action_space.sample()) for _ in range(steps))]


@pytest.mark.parametrize("choices", [{}, {"encoding": "jpeg"}, {"space": "trajectory"}, {"frame_stack": 3}])
def test_gymnasium_finds_nothing_to_complain_about(
    make: Make, monkeypatch: pytest.MonkeyPatch, choices: dict[str, Any]
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    check_env(make(render_mode="rgb_array", **choices).unwrapped)


def test_the_name_registers_itself(zero_url: str) -> None:
    env = gymnasium.make(f"clients.gym:{ENV_ID}", url=zero_url, scenario="zero")
    assert isinstance(env.unwrapped, DriveEnv)
    env.close()


def test_pictures_and_ego_are_what_the_space_says(make: Make) -> None:
    env = make()
    seen, info = env.reset(seed=7)
    cameras = ["front_wide", "side_front_left", "side_front_right"]
    assert set(seen) == {"ego", *(f"image_{name}" for name in cameras)}
    assert (seen["image_front_wide"].shape, seen["image_front_wide"].dtype) == ((128, 224, 3), np.uint8)
    assert (seen["ego"].dtype, seen["ego"][0]) == (np.float32, 8.0)
    assert (info["scenario"], info["world_seed"], info["chunk"]) == ("zero", 7, -1)


def test_steps_return_plain_numbers_and_flags(make: Make) -> None:
    env = make(scenario="zero-short")
    steps = drive(env, 3)[1:]
    assert all(
        (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
        for _, reward, terminated, truncated, _ in steps
    )
    assert [step[2] for step in steps] == [False, False, True]
    assert (steps[-1][4]["outcome"], steps[-1][4]["reason"]) == ("success", "goal")
    assert steps[-1][4]["is_success"] is True
    assert "is_success" not in steps[0][4]


def test_cameras_sizes_stacks_and_ego_columns_can_be_chosen(make: Make) -> None:
    env = make(cameras=["front_wide"], image_size=(32, 56), frame_stack=6, ego=["speed_mps", "x_m"])
    (opening, _), *steps = drive(env, 2)
    assert set(opening) == {"ego", "image_front_wide"}
    assert opening["image_front_wide"].shape == (32, 56, 18)
    frames = [np.split(step[0]["image_front_wide"], 6, axis=2) for step in steps]
    first = np.split(opening["image_front_wide"], 6, axis=2)
    assert all(np.array_equal(frame, first[0]) for frame in first)
    assert all(
        np.array_equal(frames[0][k], first[0]) for k in (0, 1)
    )  # 6 newest: 2 opening ones and a chunk of 4
    assert all(np.array_equal(frames[1][k], frames[0][k + 4]) for k in (0, 1))
    assert steps[0][0]["ego"].shape == (2,)
    assert steps[1][0]["ego"][1] > steps[0][0]["ego"][1] > 0


@pytest.mark.parametrize(("frame_stack", "sent"), [(1, 1), (3, 3), (4, 4), (6, 4)])
def test_frames_that_nobody_looks_at_are_not_sent(
    make: Make, monkeypatch: pytest.MonkeyPatch, frame_stack: int, sent: int
) -> None:
    everything = drive(make(frame_stack=8), 3)
    sizes: set[int] = set()
    each = clients.client.Client.step_each

    def listen(*arguments: Any) -> Iterator[Any]:
        for session, result in each(*arguments):
            sizes.update(len(images) for images in result.frames.values())  # type: ignore[union-attr]
            yield session, result

    monkeypatch.setattr(clients.client.Client, "step_each", listen)
    seen = drive(make(frame_stack=frame_stack), 3)
    assert sizes == {sent}
    for (mine, *_), (every, *_) in zip(seen, everything, strict=True):
        np.testing.assert_array_equal(
            mine["image_front_wide"], every["image_front_wide"][..., -3 * frame_stack :]
        )


def test_shrinking_takes_means_of_areas() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 12, 3)).astype(np.uint8)
    means = picture.reshape(4, 2, 4, 3, 3).mean(axis=(1, 3))
    assert np.abs(shrink(picture, (4, 4)) - means).max() <= 0.5 + 1e-9
    assert shrink(picture, (8, 12)) is picture


def test_what_was_handed_out_is_never_touched_again(make: Make) -> None:
    env = make(frame_stack=2)
    kept = drive(env, 3)
    copies = [{name: rows.copy() for name, rows in step[0].items()} for step in kept]
    for rows in kept[-1][0].values():
        rows[...] = 0
    drive(env, 3, seed=5)
    for step, copy in zip(kept[:-1], copies[:-1], strict=True):
        assert data_equivalence(step[0], copy, exact=True)


def test_the_same_seed_is_the_same_episode_and_others_differ(make: Make) -> None:
    env, other = make(), make()
    assert data_equivalence(drive(env, 4), drive(other, 4), exact=True)
    assert data_equivalence(drive(env, 4, seed=None), drive(other, 4, seed=None), exact=True)
    assert not data_equivalence(drive(env, 4, seed=1), drive(other, 4, seed=2))


def test_options_and_configured_seeds_choose_the_world(make: Make) -> None:
    env = make(scenario=["zero", "zero-short"], world_seeds=[11, 12])
    worlds = {(i["scenario"], i["world_seed"]) for i in (env.reset(seed=k)[1] for k in range(20))}
    assert worlds == {(s, w) for s in ("zero", "zero-short") for w in (11, 12)}
    info = env.reset(options={"scenario": "zero-short", "world_seed": 99})[1]
    assert (info["scenario"], info["world_seed"]) == ("zero-short", 99)
    with pytest.raises(ValueError, match="expected reset options of scenario, world_seed, got weather"):
        env.reset(options={"weather": "rain"})


def test_a_world_that_is_begun_again_is_restored_and_equal(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, restored = [], []
    reset, restore = Session.reset, Session.restore
    monkeypatch.setattr(Session, "reset", lambda s, *a, **k: opened.append(a) or reset(s, *a, **k))
    monkeypatch.setattr(Session, "restore", lambda s, h: restored.append(h) or restore(s, h))
    env = make(scenario="zero-short", rig=None)
    episodes = [drive(env, 3, seed=3) for _ in range(4)]
    assert (len(opened), len(restored)) == (2, 2)
    assert all(data_equivalence(episode, episodes[0], exact=True) for episode in episodes)


def test_a_snapshot_that_the_server_dropped_is_opened_anew(make: Make) -> None:
    env = make()
    first = drive(env, 2)
    worlds = env.unwrapped._fleet.slots[0]._worlds
    worlds._handles[("zero", 0)] = "snap-0000000000000000"
    assert data_equivalence(drive(env, 2), first, exact=True)


def test_zero_means_no_command_and_the_ends_are_the_bounds(make: Make) -> None:
    scale = make().unwrapped._fleet.scale
    assert np.array_equal(scale.to_server([[0, 0]])[0], [0, 0])
    assert np.array_equal(scale.to_server([[1, 1]])[0], scale.high)
    assert np.array_equal(scale.to_server([[-1, -1]])[0], scale.low)
    half = scale.to_server([[-0.5, 0.5]])[0]
    assert np.allclose(half, [scale.low[0] / 2, scale.high[1] / 2])


def test_actions_outside_are_refused_unless_clipping_is_asked_for(make: Make) -> None:
    strict, lenient = make(disable_env_checker=True), make(disable_env_checker=True, clip_actions=True)
    strict.reset(seed=0)
    for wrong, message in [([1.2, 0], r"in \[-1, 1\]"), ([np.nan, 0], "finite"), ([0, 0, 0], "shape")]:
        with pytest.raises(ValueError, match=message):
            strict.step(np.array(wrong, np.float32))
    lenient.reset(seed=0)
    clipped, bound = lenient.step(np.array([0, 9.0])), strict.step(np.array([0, 1.0], np.float32))
    assert data_equivalence(clipped, bound, exact=True)


@pytest.mark.parametrize(
    ("space", "shape"), [("controls", (2,)), ("pose_delta", (3,)), ("trajectory", (4, 3))]
)
def test_every_action_space_drives(make: Make, space: str, shape: tuple[int, ...]) -> None:
    env = make(space=space)
    assert env.action_space.shape == shape
    drive(env, 2)
    assert make(space=space, rows="each").action_space.shape == (4, shape[-1])


def test_the_default_reward_is_the_servers(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rewards: list[float] = []
    each = clients.client.Client.step_each

    def listen(*arguments: Any) -> Iterator[Any]:
        for session, result in each(*arguments):
            rewards.append(result.reward)  # type: ignore[union-attr]
            yield session, result

    monkeypatch.setattr(clients.client.Client, "step_each", listen)
    env = make()
    env.reset(seed=0)
    got = [env.step(np.array([0.3, 1.0], np.float32))[1] for _ in range(25)]  # in a circle, off the road
    assert got == pytest.approx(rewards)
    assert min(got) < -4


def test_own_weights_and_rules_decide(make: Make) -> None:
    env = make(reward={"weights": {"step": -1.0, "speed_mps": 0.5}, "ends": {"off_route_m": 2.0}})
    env.reset(seed=0)
    done = False
    while not done:
        _, reward, done, truncated, info = env.step(np.array([0.3, 0.0], np.float32))
        assert reward == pytest.approx(sum(info["reward_terms"].values()))
        assert not truncated
    assert (info["reason"], info["outcome"], info["is_success"]) == ("off_route", "running", False)
    assert env.reset(seed=0)[1]["chunk"] == -1


def test_time_limits_truncate(make: Make) -> None:
    *_, last = drive(make(max_episode_steps=2), 2)
    assert (last[2], last[3]) == (False, True)
    env = make().unwrapped
    own = DriveEnv(url=env._fleet.link.client._talk.url, scenario="zero", max_episode_steps=2)
    *_, last = drive(own, 2)
    assert (last[2], last[3], last[4]["reason"]) == (False, True, "max_episode_steps")
    own.close()


def test_wrappers_of_gymnasium_work(make: Make) -> None:
    flat = FlattenObservation(make(cameras=["front_wide"]))
    assert flat.reset(seed=0)[0] in flat.observation_space
    stacked = FrameStackObservation(make(cameras=["front_wide"]), 3)
    assert stacked.reset(seed=0)[0]["image_front_wide"].shape == (3, 128, 224, 3)
    limited = RecordEpisodeStatistics(TimeLimit(make(), 3))
    *_, last = drive(limited, 3)
    assert last[4]["episode"]["l"] == 3
    films = RenderCollection(make(render_mode="rgb_array"))
    drive(films, 2)
    assert [film.shape for film in films.render()] == [(128, 672, 3)] * 3


def test_gymnasium_films_episodes(make: Make, tmp_path: Path) -> None:
    env = RecordVideo(make(render_mode="rgb_array", scenario="zero-short"), str(tmp_path / "films"))
    drive(env, 3)
    env.close()
    with av.open(tmp_path / "films" / "rl-video-episode-0.mp4") as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert film.streams.video[0].average_rate == 3  # a picture per chunk
    assert [frame.shape for frame in frames] == [(128, 672, 3)] * 4


def test_the_mosaic_looks_out_of_the_car(make: Make) -> None:
    env = make(render_mode="rgb_array", rig="surround7", cameras=["rear", "side_front_left", "front_wide"])
    seen, _ = env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (256, 448, 3)
    assert np.array_equal(picture[:128, :224], seen["image_side_front_left"])
    assert np.array_equal(picture[:128, 224:], seen["image_front_wide"])
    assert np.array_equal(picture[128:, 112:336], seen["image_rear"])
    assert make().unwrapped.render() is None


def test_a_window_shows_every_step(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import pygame

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = make(render_mode="human")
    drive(env, 1)
    assert pygame.display.get_surface().get_size() == (672, 128)
    assert env.render() is None
    env.close()
    assert not pygame.display.get_init()
    drive(HumanRendering(make(render_mode="rgb_array")), 1)
    pygame.display.quit()


def test_a_missing_display_is_said(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "no_such_driver")
    with pytest.raises(RuntimeError, match="expected a display for render_mode='human'"):
        make(render_mode="human").reset()
    monkeypatch.setitem(__import__("sys").modules, "pygame", None)
    with pytest.raises(gymnasium.error.DependencyNotInstalled, match="pip install pygame-ce"):
        make(render_mode="human")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"camera": "front"}, "expected options of url, .*, got an unexpected keyword argument 'camera'"),
        ({"cameras": ["roof"], "rig": None}, "expected cameras of front_wide, .*, got roof"),
        ({"image_size": (256, 224)}, r"expected an image_size of at most \(128, 224\)"),
        ({"frame_stack": 0}, "expected a frame_stack of at least 1"),
        ({"ego": ["mood"]}, "expected ego columns of x_m, .*, got mood"),
        ({"space": "wheels"}, "expected a space of controls, .*, got 'wheels'"),
        ({"reward": "kindness"}, "expected a reward of default"),
        ({"scenario": []}, "expected at least one scenario"),
        ({"world_seeds": []}, "expected at least one of world_seeds"),
    ],
)
def test_impossible_choices_are_refused(make: Make, choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**choices)


def test_what_the_server_refuses_is_passed_on(make: Make) -> None:
    with pytest.raises(clients.ProtocolError, match="expected a scenario of zero"):
        make(scenario="moon").reset()
    with pytest.raises(clients.ProtocolError, match="roof"):
        make(cameras=["roof"])
    with pytest.raises(ConnectionLostError, match="expected a server at"):
        make(url="http://127.0.0.1:9")


def test_order_is_enforced(make: Make) -> None:
    env = make(render_mode="rgb_array").unwrapped
    for early in (lambda: env.step(np.zeros(2, np.float32)), env.render):
        with pytest.raises(ResetNeeded):
            early()
    env.close()
    env.close()
    for late in (env.reset, lambda: env.step(np.zeros(2, np.float32))):
        with pytest.raises(ClosedEnvironmentError):
            late()


def test_local_servers_are_shared_and_end_with_the_last_environment() -> None:
    first = gymnasium.make(ENV_ID, engine="zero", scenario="zero")
    second = gymnasium.make(ENV_ID, engine="zero", scenario="zero")
    (running,) = clients.gym.link._running.values()
    first.close()
    drive(second, 1)
    second.close()
    assert not clients.gym.link._running
    with pytest.raises(ConnectionLostError):
        gymnasium.make(ENV_ID, url=running.url, scenario="zero")
