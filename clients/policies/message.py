"""An observation as a map of a policy server, and back.

| key | |
|---|---|
| `image_<camera>` | uint8 [H, W, 3], the newest frame; [F, H, W, 3], oldest first, for servers whose metadata has `images: chunk` |
| `state` | float32 [8]: speed_mps, accel_mps2, steering_rad, yaw_rate_radps, lane_offset_m, heading_error_rad, speed_limit_mps, time_s |
| `prompt` | the scenario's name |
| `ego` | float64 [F, 7], columns of the wire protocol |
| `agents`, `agent_kinds`, `metrics`, `chunk` | as in the wire protocol |
| `episode` | only with the first observation of an episode: scenario, seed, policy_seed, frames_per_chunk, dt_s, action_spaces, cameras, past |
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..observation import Observation
from ..protocol import ActionSpace, Camera
from ..protocol.replies import EGO_COLUMNS
from .policy import EpisodeInfo, PastAction

STATE_EGO = ("speed_mps", "accel_mps2", "steering_rad", "yaw_rate_radps")
STATE_METRICS = ("lane_offset_m", "heading_error_rad", "speed_limit_mps", "time_s")


def to_message(seen: Observation, info: EpisodeInfo, first: bool, whole_chunk: bool) -> dict[str, Any]:
    """What a policy server is sent."""
    message: dict[str, Any] = {
        f"image_{name}": seen.decode(name) if whole_chunk else seen.image(name) for name in seen.frames
    }
    ego = seen.ego
    state = [ego[name] for name in STATE_EGO] + [seen.metrics[name][-1] for name in STATE_METRICS]
    message |= {"state": np.array(state, np.float32), "prompt": info.scenario, "chunk": seen.chunk}
    message |= {"ego": seen.ego_frames, "agents": seen.agents, "agent_kinds": list(seen.agent_kinds)}
    message |= {"metrics": dict(seen.metrics)}
    return message | {"episode": _episode(info)} if first else message


def from_message(message: Mapping[str, Any]) -> Observation:
    """The observation that a message was made of, its pictures as raw bytes."""
    pictures = {
        key.removeprefix("image_"): np.asarray(value)
        for key, value in message.items()
        if key.startswith("image_")
    }
    frames = {name: value[None] if value.ndim == 3 else value for name, value in pictures.items()}
    return Observation(
        session="",
        chunk=int(message["chunk"]),
        cameras={name: _camera(name, *value.shape[1:3]) for name, value in frames.items()},
        encoding="raw",
        frames={name: [picture.tobytes() for picture in value] for name, value in frames.items()},
        ego_frames=np.array(message["ego"], np.float64).reshape(-1, len(EGO_COLUMNS)),
        agents=np.array(message["agents"]),
        agent_kinds=list(message["agent_kinds"]),
        metrics=message["metrics"],
    )


def episode_of(message: Mapping[str, Any]) -> EpisodeInfo:
    """What the first message of an episode says about it."""
    values = dict(message["episode"])
    spaces = [ActionSpace.model_validate(space) for space in values.pop("action_spaces")]
    past = [PastAction(item["space"], np.array(item["values"])) for item in values.pop("past")]
    return EpisodeInfo(**values, action_spaces={space.name: space for space in spaces}, past=past)


def _episode(info: EpisodeInfo) -> dict[str, Any]:
    names = ("scenario", "seed", "policy_seed", "frames_per_chunk", "dt_s")
    return {name: getattr(info, name) for name in names} | {
        "cameras": list(info.cameras),
        "action_spaces": [space.model_dump() for space in info.action_spaces.values()],
        "past": [{"space": past.space, "values": past.values} for past in info.past],
    }


def _camera(name: str, height: int, width: int) -> Camera:
    """Size alone is known of a picture that came as pixels."""
    zero = dict.fromkeys(
        ("fx", "fy", "cx", "cy", "x_m", "y_m", "z_m", "yaw_rad", "pitch_rad", "roll_rad"), 0.0
    )
    return Camera(
        name=name, group="front", model="pinhole", height=height, width=width, distortion=[], **zero
    )
