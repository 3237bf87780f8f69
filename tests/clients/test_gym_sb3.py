"""Stable-Baselines3 as an outside suite."""

import gymnasium
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env

from clients.gym import ENV_ID


def test_stable_baselines3_finds_nothing_to_complain_about(zero_url: str) -> None:
    env = gymnasium.make(ENV_ID, url=zero_url, scenario="zero", rig="front1", image_size=(36, 64))
    check_env(env, warn=True)


def test_ppo_learns_from_pictures(zero_url: str) -> None:
    env = gymnasium.make(ENV_ID, url=zero_url, scenario="zero-short", rig="front1", image_size=(36, 64))
    policy = PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, n_epochs=1, seed=0, device="cpu")
    before = [weights.detach().clone() for weights in policy.policy.parameters()]
    policy.learn(16)
    after = list(policy.policy.parameters())
    assert any(not np.array_equal(a.detach(), b) for a, b in zip(after, before, strict=True))
    env.close()
