"""PPO (Schulman et al. 2017) in the simulator: fine-tunes a cloned network through the vector environment, by Stable-Baselines3."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from ..gym.sb3 import DriveVecEnv
from .accelerations import HIGH, LOW, to_controls
from .network import CAMERAS, COLUMNS, FEATURES, NUMBERS, SIZE, scaled
from .torch_network import TorchNetwork

FRAMES = 4  # stacked, of which the first and the last are looked at


@dataclass(frozen=True)
class PpoConfig:
    """How to learn. Small steps: the cloned network already drives."""

    steps: int = 100_000  # chunks, of all worlds together
    worlds: int = 8
    rollout: int = 128  # chunks of each world between updates
    batch: int = 256
    epochs: int = 4
    learning_rate: float = 1e-4
    gamma: float = 0.97  # a horizon of eleven seconds
    clip: float = 0.1
    noise_mps2: float = 0.4  # standard deviation of the exploration, at first
    reward_scale: float = 0.1
    seed: int = 0
    environment: Mapping[str, Any] = field(
        default_factory=dict
    )  # of `DriveConfig`: url, engine, scenario, reward, ...


def fine_tune(
    out: Path, config: PpoConfig, start: Path | None = None, resume: bool = False, log: bool = True
) -> Path:
    """Learn by driving.

    Args:
        out: folder for `ppo.zip` (all that is needed to go on) and `vision.safetensors` (what drives).
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
    saved = out / "ppo.zip"
    environment = Accelerating(
        VecMonitor(DriveVecEnv(config.worlds, **_environment(config))), config.reward_scale
    )
    try:
        if resume and saved.is_file():
            learner = PPO.load(saved, environment, device="cpu")
        else:
            learner = _learner(environment, config, start)
        learner.verbose = int(log)
        if (left := config.steps - learner.num_timesteps) > 0:
            learner.learn(left, callback=_Saving(saved), reset_num_timesteps=False)
        _save(learner, saved)
    finally:
        environment.close()
    network = TorchNetwork()
    network.load_state_dict(_weights(learner))
    network.save(out / "vision.safetensors")
    return out / "vision.safetensors"


class Accelerating(VecEnvWrapper):
    """Worlds that are driven by accelerations (see `accelerations`), and seen as the network sees them.

    Args:
        venv: a `DriveVecEnv`, perhaps wrapped, that observes what the network needs.
        reward_scale: rewards are multiplied by this.
    """

    def __init__(self, venv: VecEnv, reward_scale: float = 1.0) -> None:
        images = spaces.Box(0, 255, (len(CAMERAS), 2, *SIZE, 3), np.uint8)
        seen = spaces.Dict({"images": images, "numbers": spaces.Box(-np.inf, np.inf, (NUMBERS,), np.float32)})
        super().__init__(venv, seen, spaces.Box(LOW, HIGH, dtype=np.float32))
        (scale, *_), self._reward_scale = venv.get_attr("scale"), reward_scale
        self._low, self._high = -scale.low, scale.high
        self._speed_mps = np.zeros(venv.num_envs)

    def reset(self) -> VecEnvObs:
        """Begin an episode in every world."""
        return self._look(self.venv.reset())

    def step_async(self, actions: np.ndarray) -> None:
        """The controls that accelerate the cars so, in the environment's -1..1."""
        controls = to_controls(actions, self._speed_mps)
        reach = np.where(controls >= 0, self._high, self._low)
        self.venv.step_async(np.clip(controls / reach, -1.0, 1.0).astype(np.float32))

    def step_wait(self) -> VecEnvStepReturn:
        """Generate the next chunk of every world."""
        seen, rewards, done, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] = observed(info["terminal_observation"])
        return self._look(seen), self._reward_scale * rewards, done, infos

    def _look(self, seen: Any) -> dict[str, np.ndarray]:
        self._speed_mps = seen["ego"][:, 0]
        return observed(seen)


def observed(seen: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the network takes, of observations with or without a batch axis: `images` uint8 [..., V, 2, H, W, 3], `numbers` [..., 7]."""
    views = [seen[f"image_{camera}"] for camera in CAMERAS]  # [..., H, W, 3 FRAMES]
    both = [np.stack([view[..., :3], view[..., -3:]], axis=-4) for view in views]
    return {"images": np.stack(both, axis=-5), "numbers": scaled(seen["ego"])}


class Features(BaseFeaturesExtractor):
    """All but the last layer of the network."""

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, FEATURES)
        self.network = TorchNetwork()
        del self.network.action  # the learner has its own

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """[B, FEATURES]."""
        return self.network.features(observations["images"], observations["numbers"])


class _Saving(BaseCallback):
    """Keeps what there is before every update."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        _save(self.model, self._path)


def _save(learner: Any, path: Path) -> None:
    """Write the file so that it is complete or as before."""
    partial = path.with_name("partial.zip")
    learner.save(partial)
    os.replace(partial, path)


def _environment(config: PpoConfig) -> dict[str, Any]:
    """The environment as the network needs it; what it does not need is the caller's choice."""
    needed = {"cameras": list(CAMERAS), "image_size": SIZE, "frame_stack": FRAMES, "ego": COLUMNS}
    if taken := sorted(set(config.environment) & (set(needed) | {"space", "rows"})):
        raise ValueError(f"expected an environment without {', '.join(taken)}: the network decides them")
    return {**config.environment, **needed}


def _learner(environment: VecEnv, config: PpoConfig, start: Path | None) -> PPO:
    policy = {
        "features_extractor_class": Features,
        "normalize_images": False,  # the network does
        "net_arch": {"pi": [], "vf": [64]},
        "log_std_init": float(np.log(config.noise_mps2)),
    }
    learner = PPO(
        "MultiInputPolicy",
        environment,
        learning_rate=config.learning_rate,
        n_steps=config.rollout,
        batch_size=min(config.batch, config.rollout * config.worlds),
        n_epochs=config.epochs,
        gamma=config.gamma,
        clip_range=config.clip,
        seed=config.seed,
        policy_kwargs=policy,
        device="cpu",
    )
    if start is not None:
        network = TorchNetwork()
        network.load(start)
        weights = network.state_dict()
        head = {name.removeprefix("action."): weights.pop(name) for name in ("action.weight", "action.bias")}
        _network(learner).load_state_dict(weights)
        learner.policy.action_net.load_state_dict(head)
    return learner


def _weights(learner: PPO) -> dict[str, torch.Tensor]:
    """The learner's network under the names of `TorchNetwork`."""
    head = {f"action.{name}": value for name, value in learner.policy.action_net.state_dict().items()}
    return {**_network(learner).state_dict(), **head}


def _network(learner: PPO) -> TorchNetwork:
    """All but the last layer."""
    features = learner.policy.features_extractor
    assert isinstance(features, Features)
    return features.network
