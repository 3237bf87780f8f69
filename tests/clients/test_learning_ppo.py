"""PPO from end to end, in worlds that cost nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from clients.gym import ENV_ID
from clients.gym.sb3 import DriveVecEnv
from clients.learning.network import CAMERAS, COLUMNS, SIZE, VisionNetwork
from clients.learning.ppo import Accelerating, PpoConfig, fine_tune, observed
from clients.learning.torch_network import TorchNetwork


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def config(zero_url: str) -> PpoConfig:
    environment = {"url": zero_url, "scenario": "zero-short"}
    return PpoConfig(steps=16, worlds=2, rollout=4, batch=4, epochs=1, environment=environment)


def test_it_learns_saves_and_goes_on_where_it_stopped(config: PpoConfig, tmp_path: Path) -> None:
    start = TorchNetwork()
    start.save(tmp_path / "start.safetensors")
    weights = fine_tune(tmp_path / "out", config, tmp_path / "start.safetensors", log=False)
    first, begun = VisionNetwork.load(weights), VisionNetwork.load(tmp_path / "start.safetensors")
    assert first.digest != begun.digest
    assert PPO.load(tmp_path / "out" / "ppo.zip", device="cpu").num_timesteps == 16
    fine_tune(tmp_path / "out", replace(config, steps=24), resume=True, log=False)
    assert PPO.load(tmp_path / "out" / "ppo.zip", device="cpu").num_timesteps == 24
    assert VisionNetwork.load(weights).digest != first.digest


def test_without_a_step_the_network_is_the_one_it_began_with(config: PpoConfig, tmp_path: Path) -> None:
    network = TorchNetwork()
    network.save(tmp_path / "start.safetensors")
    weights = fine_tune(tmp_path / "out", replace(config, steps=0), tmp_path / "start.safetensors", log=False)
    images = np.random.default_rng(0).integers(0, 256, (2, 2, *SIZE, 3), dtype=np.uint8)
    numbers = np.array([10.0, 0.3, 0.02, 14.0], np.float32)
    assert np.array_equal(VisionNetwork.load(weights)(images, numbers), network.numpy()(images, numbers))


def test_what_the_network_needs_cannot_be_chosen(config: PpoConfig, tmp_path: Path) -> None:
    wrong = replace(config, environment={**config.environment, "image_size": (8, 8)})
    with pytest.raises(ValueError, match="expected an environment without image_size"):
        fine_tune(tmp_path, wrong, log=False)


def test_accelerations_reach_the_server_as_the_controls_that_cause_them(zero_url: str) -> None:
    worlds = DriveVecEnv(
        2, url=zero_url, scenario="zero", cameras=list(CAMERAS), image_size=SIZE, frame_stack=4, ego=COLUMNS
    )
    driven = Accelerating(VecMonitor(worlds), reward_scale=0.5)
    seen = driven.reset()
    assert driven.observation_space.contains({name: rows[0] for name, rows in seen.items()})
    before = worlds.drives._fleet.slots[0].seen.ego["speed_mps"]
    _, rewards, _, _ = driven.step(np.array([[1.0, 1.5], [0.0, -3.0]], np.float32))
    after = [slot.seen.ego for slot in worlds.drives._fleet.slots]
    assert after[0]["speed_mps"] - before == pytest.approx(1.5 / 3, abs=1e-4)
    assert after[1]["speed_mps"] - before == pytest.approx(-3.0 / 3, abs=1e-4)
    assert after[0]["yaw_rate_radps"] * before == pytest.approx(1.0, rel=0.15)
    progress = [slot.seen.metrics["route_progress_m"][-1] for slot in worlds.drives._fleet.slots]
    assert rewards == pytest.approx(0.5 * np.array(progress))
    driven.close()


def test_the_network_is_shown_the_first_and_the_last_of_four_frames() -> None:
    rng = np.random.default_rng(0)
    seen: dict[str, Any] = {
        f"image_{name}": rng.integers(0, 256, (5, *SIZE, 12), dtype=np.uint8) for name in CAMERAS
    }
    seen["ego"] = np.ones((5, len(COLUMNS)), np.float32)
    images = observed(seen)["images"]
    assert images.shape == (5, len(CAMERAS), 2, *SIZE, 3)
    assert np.array_equal(images[3, 1, 0], seen[f"image_{CAMERAS[1]}"][3, ..., :3])
    assert np.array_equal(images[3, 1, 1], seen[f"image_{CAMERAS[1]}"][3, ..., -3:])


def test_the_vector_environment_for_stable_baselines_equals_ours(zero_url: str) -> None:
    choices = {"url": zero_url, "scenario": "zero-short", "rig": "front1", "image_size": (36, 64)}
    theirs = DriveVecEnv(2, **choices)
    ours = gymnasium.make_vec(ENV_ID, num_envs=2, autoreset_mode="SameStep", **choices)
    theirs.seed(5)
    assert np.array_equal(theirs.reset()["ego"], ours.reset(seed=5)[0]["ego"])
    for step in range(4):
        actions = np.full((2, 2), 0.1 * step, np.float32)
        seen, rewards, done, infos = theirs.step(actions)
        expected, wanted, terminated, _, more = ours.step(actions)
        assert all(np.array_equal(seen[name], expected[name]) for name in expected)
        assert np.allclose(rewards, wanted)
        assert done.tolist() == terminated.tolist()
        if done[1]:
            assert np.array_equal(infos[1]["terminal_observation"]["ego"], more["final_obs"][1]["ego"])
            assert infos[1]["outcome"] == "success"
            assert not infos[1]["TimeLimit.truncated"]
            assert theirs.reset_infos[1]["chunk"] == -1
        assert infos[0]["metrics"]["speed_limit_mps"] > 0
    assert theirs.get_attr("num_envs") == [2, 2]
    assert theirs.env_is_wrapped(gymnasium.Wrapper) == [False, False]
    theirs.close()
    ours.close()
