"""PPO (Schulman et al. 2017) in the simulator: fine-tunes a cloned network through the vector environment, by Stable-Baselines3."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from ..gym.sb3 import DriveVecEnv
from .accelerating import NEEDED, Accelerating
from .actor import Actor, Features
from .network import Learns
from .torch_network import TorchNetwork


@dataclass(frozen=True)
class PpoConfig:
    """How to learn. Small steps: the cloned network already drives."""

    steps: int = 100_000  # chunks, of all worlds together
    worlds: int = 8
    rollout: int = 128  # chunks of each world between updates
    warmup: int = 2  # of the first updates, which teach the critic alone
    learns: Learns = "last"  # see `Actor.learn_only`
    batch: int = 128
    epochs: int = 10
    learning_rate: float = 1e-3  # of the last layer; less for more
    gamma: float = 0.97  # a horizon of eleven seconds
    clip: float = 0.1
    most_kl: float = 0.03  # from who drove the rollout; then its update ends
    noise_mps2: tuple[float, float] = (0.3, 1.2)  # of the exploration at first, to the left and forwards
    reward_scale: float = 0.02  # brings what a motorway's metres add up to near 1
    seed: int = 0
    environment: Mapping[str, Any] = field(
        default_factory=dict
    )  # of `DriveConfig`: url, engine, scenario, reward, ...


def fine_tune(
    out: Path, config: PpoConfig, start: Path | None = None, resume: bool = False, log: bool = True
) -> Path:
    """Learn by driving.

    Args:
        out: folder for `ppo.zip` (all that is needed to go on) and `vision.safetensors` (what drives), both written before every update.
        config: how.
        start: weights to begin with, of `clone`; None begins with random ones.
        resume: go on with `out/ppo.zip` where there is one, up to `config.steps` in all.
        log: print a table after each update.

    Returns:
        The weights' file.

    Raises:
        WeightsError: no weights at `start`.
        RoadloopError, ValueError: no server, or an environment that it cannot make.
    """
    out.mkdir(parents=True, exist_ok=True)
    environment = Accelerating(
        VecMonitor(DriveVecEnv(config.worlds, **_environment(config))), config.reward_scale
    )
    try:
        if resume and (out / "ppo.zip").is_file():
            learner = PPO.load(out / "ppo.zip", environment, device="cpu")
        else:
            learner = _learner(environment, config, start)
        learner.verbose = int(log)
        if (left := config.steps - learner.num_timesteps) > 0:
            learner.learn(left, callback=_Progress(out, config), reset_num_timesteps=False)
        return _save(learner, out)
    finally:
        environment.close()


class _Progress(BaseCallback):
    """Keeps what there is before every update, and lets the critic learn first."""

    def __init__(self, out: Path, config: PpoConfig) -> None:
        super().__init__()
        self._out, self._learns = out, config.learns
        self._critic_only = config.warmup * config.rollout * config.worlds

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        _save(self.model, self._out)
        _actor(self.model).learn_only(self._learns if self.num_timesteps > self._critic_only else None)


def _save(learner: Any, out: Path) -> Path:
    """Write both files so that each is complete or as before."""
    learner.save(out / "partial.zip")
    os.replace(out / "partial.zip", out / "ppo.zip")
    _actor(learner).driver().save(out / "partial.safetensors")
    os.replace(out / "partial.safetensors", out / "vision.safetensors")
    return out / "vision.safetensors"


def _environment(config: PpoConfig) -> dict[str, Any]:
    """The environment as the network needs it; what it does not need is the caller's choice."""
    if taken := sorted(set(config.environment) & set(NEEDED)):
        raise ValueError(f"expected an environment without {', '.join(taken)}: the network decides them")
    return {**config.environment, **NEEDED}


def _learner(environment: VecEnv, config: PpoConfig, start: Path | None) -> PPO:
    policy = {
        "features_extractor_class": Features,
        "normalize_images": False,  # the network does
        "net_arch": {"pi": [], "vf": [64]},
    }
    learner = PPO(
        Actor,
        environment,
        learning_rate=config.learning_rate,
        n_steps=config.rollout,
        batch_size=min(config.batch, config.rollout * config.worlds),
        n_epochs=config.epochs,
        gamma=config.gamma,
        clip_range=config.clip,
        target_kl=config.most_kl,
        seed=config.seed,
        policy_kwargs=policy,
        device="cpu",
    )
    actor = _actor(learner)
    with torch.no_grad():
        actor.log_std.copy_(torch.tensor(np.log(config.noise_mps2)))
    if start is not None:
        network = TorchNetwork()
        network.load(start)
        actor.take(network)
    return learner


def _actor(learner: Any) -> Actor:
    return cast(Actor, learner.policy)
