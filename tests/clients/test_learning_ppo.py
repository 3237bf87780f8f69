"""PPO from end to end, in worlds that cost nothing."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from clients.client import Client, connect
from clients.gym import ENV_ID
from clients.gym.sb3 import DriveVecEnv
from clients.learning.accelerating import NEEDED, Accelerating, observed
from clients.learning.accelerations import HIGH, LOW
from clients.learning.network import CAMERAS, SIZE, Learns, VisionNetwork
from clients.learning.ppo import PpoConfig, fine_tune
from clients.learning.torch_network import TorchNetwork
from clients.observation import Observation
from clients.policies import EpisodeInfo
from clients.policies.vision import Vision


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def bold_network() -> TorchNetwork:
    """Turns and accelerates, and where to depends on what it sees."""
    torch.manual_seed(1)
    network = TorchNetwork()
    with torch.no_grad():
        network.action.bias.copy_(torch.tensor([1.5, 2.0]))
    return network


def episode_info(client: Client, seen: Observation) -> EpisodeInfo:
    server = client.server
    spaces = {space.name: space for space in server.action_spaces}
    return EpisodeInfo("zero", 3, server.frames_per_chunk, server.dt_us / 1e6, spaces, tuple(seen.cameras))


@pytest.fixture
def config(zero_url: str) -> PpoConfig:
    environment = {"url": zero_url, "scenario": "zero-short"}
    return PpoConfig(steps=16, worlds=2, rollout=4, warmup=1, batch=4, epochs=1, environment=environment)


def test_it_learns_saves_and_goes_on_where_it_stopped(config: PpoConfig, tmp_path: Path) -> None:
    TorchNetwork().save(tmp_path / "start.safetensors")
    weights = fine_tune(tmp_path / "out", config, tmp_path / "start.safetensors", log=False)
    first, begun = VisionNetwork.load(weights), VisionNetwork.load(tmp_path / "start.safetensors")
    assert first.digest != begun.digest
    assert PPO.load(tmp_path / "out" / "ppo.zip", device="cpu").num_timesteps == 16
    fine_tune(tmp_path / "out", replace(config, steps=24), resume=True, log=False)
    assert PPO.load(tmp_path / "out" / "ppo.zip", device="cpu").num_timesteps == 24
    assert VisionNetwork.load(weights).digest != first.digest


def test_the_critic_learns_before_the_driver_does(config: PpoConfig, tmp_path: Path) -> None:
    bold_network().save(tmp_path / "start.safetensors")
    start = VisionNetwork.load(tmp_path / "start.safetensors")
    warm = replace(config, warmup=2)
    critics = []
    for steps in (8, 16):  # two updates of the critic alone
        weights = fine_tune(
            tmp_path / "out", replace(warm, steps=steps), tmp_path / "start.safetensors", True, log=False
        )
        assert VisionNetwork.load(weights).digest == start.digest
        critics.append(PPO.load(tmp_path / "out" / "ppo.zip", device="cpu").policy.value_net.weight)
    assert not torch.equal(*critics)
    weights = fine_tune(tmp_path / "out", replace(warm, steps=24), resume=True, log=False)
    assert VisionNetwork.load(weights).digest != start.digest


@pytest.mark.parametrize(
    ("learns", "parts"),
    [
        ("last", {"action"}),
        ("driving", {"action", "hidden", "hidden2"}),
        ("all", {"action", "hidden", "hidden2", "seen", "towers"}),
    ],
)
def test_only_those_layers_learn_that_are_told_to(
    config: PpoConfig, tmp_path: Path, learns: Learns, parts: set[str]
) -> None:
    bold_network().save(tmp_path / "start.safetensors")
    told = replace(config, warmup=0, learns=learns)
    weights = load_file(fine_tune(tmp_path / "out", told, tmp_path / "start.safetensors", log=False))
    start = load_file(tmp_path / "start.safetensors")
    assert {name.partition(".")[0] for name in start if not torch.equal(start[name], weights[name])} == parts


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


def test_who_learns_drives_as_the_policy_will(zero_url: str, tmp_path: Path) -> None:
    network = bold_network()
    network.save(tmp_path / "vision.safetensors")
    worlds = DriveVecEnv(1, url=zero_url, scenario="zero", **NEEDED)
    learning = Accelerating(VecMonitor(worlds), reward_scale=0.5)
    policy = Vision(tmp_path / "vision.safetensors")
    with closing(learning), connect(zero_url) as client:
        learning.seed(3)
        seen = learning.reset()
        assert learning.observation_space.contains({name: rows[0] for name, rows in seen.items()})
        shown: Observation = client.session.reset("zero", 3, options={"cameras": list(CAMERAS)})
        policy.reset(episode_info(client, shown))
        for _ in range(4):
            with torch.no_grad():
                wanted = network(*(torch.from_numpy(seen[name]) for name in ("images", "numbers"))).numpy()
            seen, rewards, _, _ = learning.step(np.clip(wanted, LOW, HIGH))
            shown = client.session.step(policy.act(shown), "controls")
            (slot,) = worlds.drives._fleet.slots
            # float32 differs in the last digit, and a hair's breadth moves a pixel of these pictures
            assert slot.seen.ego_frames == pytest.approx(shown.ego_frames, abs=5e-3)
            assert rewards[0] == pytest.approx(0.5 * shown.reward, abs=5e-3)
        assert abs(shown.ego["accel_mps2"]) > 0.1
        assert abs(shown.ego["steering_rad"]) > 0.001


def test_the_network_is_shown_the_first_and_the_last_of_four_frames() -> None:
    rng = np.random.default_rng(0)
    seen: dict[str, Any] = {
        f"image_{name}": rng.integers(0, 256, (5, *SIZE, 12), dtype=np.uint8) for name in CAMERAS
    }
    seen["ego"] = np.ones((5, len(NEEDED["ego"])), np.float32)
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
