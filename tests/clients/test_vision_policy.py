from pathlib import Path

import numpy as np
import pytest
import torch

from clients.client import connect
from clients.learning.network import CAMERAS, VisionNetwork
from clients.learning.torch_network import TorchNetwork
from clients.observation import Observation
from clients.policies import EpisodeInfo, PolicyError, PolicySpecError, load_policy
from clients.policies.vision import Vision, bundled_network


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    TorchNetwork().save(tmp_path / "vision.safetensors")
    return tmp_path / "vision.safetensors"


@pytest.fixture
def world(zero_url: str) -> tuple[EpisodeInfo, Observation]:
    with connect(zero_url) as client:
        seen = client.session.reset("zero", 3, rig="surround7", options={"cameras": list(CAMERAS)})
        spaces = {space.name: space for space in client.server.action_spaces}
        info = EpisodeInfo("zero", 3, 4, 1 / 12, spaces, tuple(seen.cameras), policy_seed=5)
        return info, seen


def test_it_drives_by_what_it_sees(weights: Path, world: tuple[EpisodeInfo, Observation]) -> None:
    info, seen = world
    policy, blind = Vision(weights), Vision(weights, blind=True)
    for each in (policy, blind):
        each.reset(info)
    rows = policy.act(seen)
    assert rows.shape == (4, 2)
    assert rows.dtype == np.float32
    assert np.array_equal(policy.act(seen), rows)
    assert not np.array_equal(blind.act(seen), rows)


def test_noise_is_that_of_the_episode(weights: Path, world: tuple[EpisodeInfo, Observation]) -> None:
    info, seen = world
    policy = Vision(weights, noise_mps2=1.0)
    policy.reset(info)
    first = [policy.act(seen) for _ in range(3)]
    assert not np.array_equal(first[0], first[1])
    policy.reset(info)
    assert np.array_equal(first, [policy.act(seen) for _ in range(3)])


def test_it_says_which_camera_is_missing(weights: Path, world: tuple[EpisodeInfo, Observation]) -> None:
    info, _ = world
    with pytest.raises(PolicyError, match="got none of front_narrow"):
        Vision(weights).reset(EpisodeInfo(**{**vars(info), "cameras": ("front_wide",)}))
    Vision(weights, blind=True).reset(EpisodeInfo(**{**vars(info), "cameras": ("front_wide",)}))


def test_files_and_stages_that_there_are_not_are_refused(tmp_path: Path) -> None:
    for argument in (f"weights={tmp_path / 'none'}", "stage=50"):
        with pytest.raises(PolicySpecError, match=r"expected (weights|a stage of 3, 30, 100)"):
            load_policy(f"clients.policies.vision:Vision?{argument}").make()


def test_a_run_remembers_which_weights_drove(weights: Path, tmp_path: Path) -> None:
    own = load_policy(f"vision?weights={weights}").files()
    assert weights in own.values()
    (bundled,) = load_policy("vision?stage=3&told=false").files().values()
    assert bundled_network(3).digest == VisionNetwork.load(bundled).digest
    assert load_policy("idle").files() == {}
    with pytest.raises(PolicySpecError, match="expected a stage of 3, 30, 100"):
        load_policy("vision?stage=50").files()
