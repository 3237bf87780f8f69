"""The learnt driver: looks ahead with two cameras, and knows where it is in its lane and how fast it may go.

It sees no agents, lights or route but in the pictures: what those do not show, it does not know. `clients.learning` says how it learns.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ..learning.accelerations import eased, to_controls
from ..learning.network import CAMERAS, COLUMNS, SIZE, VisionNetwork
from ..observation import Observation
from ..pictures import shrink
from ..protocol.requests import ActionSpaceName
from .policy import EpisodeInfo, PolicyError

OF_THE_LANE = ("lane_offset_m", "heading_error_rad")
BUNDLED = Path(__file__).parent / "weights"
STAGES = {3: "vision-003", 30: "vision-030", 100: "vision"}  # per cent of its training


class Vision:
    """Drives by what `VisionNetwork` says, eased so that passengers keep their coffee.

    Args:
        weights: a safetensors file; None takes a bundled one.
        stage: which one, as per cent of its training: 3, 30 or 100. The early ones drive worse, and are there to be compared.
        noise_mps2: standard deviation of noise on the accelerations, to make a worse driver of it.
        told: where it is in its lane; False must see that, too.
        blind: sees grey pictures only.
    """

    space: ActionSpaceName = "controls"

    def __init__(
        self,
        weights: str | Path | None = None,
        stage: int = 100,
        noise_mps2: float = 0.0,
        told: bool = True,
        blind: bool = False,
    ) -> None:
        self.network = VisionNetwork.load(weights) if weights else bundled_network(stage)
        self.noise_mps2, self.told, self.blind = float(noise_mps2), told, blind

    @staticmethod
    def files(weights: str | Path | None = None, stage: int = 100, **others: Any) -> list[Path]:
        """What decides how it drives: see `PolicySpec.files`."""
        return [Path(weights) if weights else BUNDLED / f"{_bundled(stage)}.safetensors"]

    def reset(self, info: EpisodeInfo) -> None:
        """Begin an episode.

        Raises:
            PolicyError: a camera that it needs is missing.
        """
        wanted = () if self.blind or not info.cameras else CAMERAS
        if missing := [camera for camera in wanted if camera not in info.cameras]:
            raise PolicyError(f"expected the cameras {', '.join(CAMERAS)}, got none of {', '.join(missing)}")
        self._info = info
        self._rng = np.random.default_rng([info.policy_seed, len(info.past)])

    def act(self, seen: Observation) -> np.ndarray:
        """float32 [F, 2]."""
        numbers = np.array([self._number(seen, name) for name in COLUMNS], np.float32)
        accelerations = self.network(self._pictures(seen), numbers)
        accelerations = accelerations + self.noise_mps2 * self._rng.standard_normal(2)
        controls, ego = to_controls(accelerations, numbers[0]), seen.ego
        return eased(
            controls, ego["steering_rad"], ego["accel_mps2"], self._info.frames_per_chunk, self._info.dt_s
        )

    def _pictures(self, seen: Observation) -> np.ndarray:
        """uint8 [V, 2, H, W, 3]: the first and the last frame of the newest chunk."""
        if self.blind:
            return np.full((len(CAMERAS), 2, *SIZE, 3), 128, np.uint8)
        return np.stack([[shrink(seen.image(camera, k), SIZE) for k in (0, -1)] for camera in CAMERAS])

    def _number(self, seen: Observation, name: str) -> float:
        if not self.told and name in OF_THE_LANE:
            return np.nan
        return float(seen.ego[name] if name in seen.ego else seen.metrics[name][-1])


def bundled_network(stage: int = 100) -> VisionNetwork:
    """The network that is shipped. Raises ValueError for a stage that is not."""
    return VisionNetwork.load(BUNDLED / f"{_bundled(stage)}.safetensors")


def _bundled(stage: int) -> str:
    if stage not in STAGES:
        raise ValueError(f"expected a stage of {', '.join(map(str, STAGES))}, got {stage}")
    return STAGES[stage]
