"""One iteration of RLlib's PPO. RLlib wants a Gymnasium of its own, so this runs only where its extra is installed."""

from collections.abc import Iterator

import gymnasium
import pytest

from clients.gym import ENV_ID

ray = pytest.importorskip("ray", reason="needs RLlib: pip install 'roadloop[rllib]'")
pytest.importorskip("ray.rllib", reason="needs RLlib: pip install 'roadloop[rllib]'")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # Ray starts some ten processes


@pytest.fixture
def cluster() -> Iterator[None]:
    """A Ray of our own, on this machine."""
    ray.init(num_cpus=1, include_dashboard=False)
    yield
    ray.shutdown()


def test_rllib_learns_from_pictures(zero_url: str, cluster: None) -> None:
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.connectors.env_to_module import FlattenObservations
    from ray.tune.registry import register_env

    register_env(ENV_ID, lambda choices: gymnasium.make(ENV_ID, **choices))
    choices = {"url": zero_url, "scenario": "zero-short", "rig": "front1", "image_size": (18, 32)}
    config = (
        PPOConfig()
        .environment(ENV_ID, env_config=choices)
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=2,
            env_to_module_connector=lambda *_, **__: FlattenObservations(),
        )
        .training(train_batch_size=16, minibatch_size=8, num_epochs=1)
    )
    algorithm = config.build_algo()
    before = _weights(algorithm)
    seen = algorithm.train()["env_runners"]
    after = _weights(algorithm)
    algorithm.stop()
    assert seen["num_env_steps_sampled"] == 16
    assert seen["num_episodes"] == 4  # of three chunks each, in two worlds
    assert any((before[name] != after[name]).any() for name in before)


def _weights(algorithm) -> dict:
    return algorithm.get_weights()["default_policy"]
