"""TorchRL's own check of environments, of ours as its users make them."""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torchrl.envs import GymEnv, GymWrapper
from torchrl.envs.utils import check_env_specs

from clients.gym import ENV_ID

Make = Callable[..., Any]


@pytest.fixture
def choices(zero_url: str) -> dict[str, Any]:
    return {"url": zero_url, "scenario": "zero-short", "rig": "front1", "image_size": (36, 64)}


@pytest.fixture
def wrap() -> Iterator[Make]:
    """Wraps environments, which are closed with the test."""
    wrapped: list[Any] = []

    def build(env: Any) -> Any:
        wrapped.append(GymWrapper(env))
        return wrapped[-1]

    yield build
    for env in wrapped:
        env.close()


def test_torchrl_finds_nothing_to_complain_about(wrap: Make, choices: dict[str, Any]) -> None:
    env = wrap(gymnasium.make(ENV_ID, **choices))
    check_env_specs(env, break_when_any_done="both")
    assert env.observation_spec["image_front_wide"].shape == (36, 64, 3)
    rolled = env.rollout(9)
    assert rolled.batch_size == (3,)  # the world ends after three chunks
    assert rolled["next", "terminated"].flatten().tolist() == [False, False, True]


def test_torchrl_begins_worlds_of_the_vector_environment_itself(wrap: Make, choices: dict[str, Any]) -> None:
    envs = wrap(gymnasium.make_vec(ENV_ID, 3, autoreset_mode=AutoresetMode.DISABLED, **choices))
    check_env_specs(envs, break_when_any_done="both")
    rolled = envs.rollout(7, break_when_any_done=False)
    assert rolled["next", "done"].squeeze(-1).int().tolist() == [[0, 0, 1, 0, 0, 1, 0]] * 3
    assert rolled["ego"].dtype is torch.float32
    assert torch.equal(
        rolled["ego"][:, 3], rolled["ego"][:, 0]
    )  # speed and the rest at the world's beginning


def test_torchrl_makes_an_environment_by_its_name(choices: dict[str, Any]) -> None:
    env = GymEnv(ENV_ID, **choices)
    try:
        check_env_specs(env, break_when_any_done="both")
    finally:
        env.close()
