"""Gymnasium environments: importing this module registers `roadloop/Drive-v0`.

    import gymnasium
    import clients.gym

    env = gymnasium.make("roadloop/Drive-v0", scenario="highway_cruise", rig="front1")
    envs = gymnasium.make_vec("roadloop/Drive-v0", num_envs=8, scenario="highway_cruise", rig="front1")

`gymnasium.make("clients.gym:roadloop/Drive-v0")` imports it by itself. `DriveConfig` documents all that `make` accepts.
"""

try:
    import gymnasium
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"expected the module {missing.name}: pip install 'roadloop[rl]'", name=missing.name
    ) from None

from .config import DriveConfig
from .drive_env import DriveEnv
from .drive_vector_env import DriveVectorEnv

__all__ = ["ENV_ID", "DriveConfig", "DriveEnv", "DriveVectorEnv"]

ENV_ID = "roadloop/Drive-v0"

gymnasium.register(
    ENV_ID,
    entry_point="clients.gym.drive_env:DriveEnv",
    vector_entry_point="clients.gym.drive_vector_env:DriveVectorEnv",
)
