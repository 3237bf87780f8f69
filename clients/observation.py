"""What a driver or viewer gets: encoded frames that decode on demand, the ego, the agents, the judgement."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .protocol import CacheTelemetry, Camera, Frames, Restored, Started, Stepped
from .protocol.replies import EGO_COLUMNS


@dataclass(frozen=True)
class Observation:
    """The world at one chunk boundary. Arrays are the caller's own: nothing here is ever written again."""

    session: str
    chunk: int  # the chunk that these frames are of; -1 after a reset
    cameras: Mapping[str, Camera]
    encoding: str
    frames: Mapping[str, list[bytes]] = field(
        repr=False
    )  # camera -> encoded images, oldest first: F or the newest
    ego_frames: np.ndarray = field(repr=False)  # float64 [F, 7], columns EGO_COLUMNS
    agents: np.ndarray = field(repr=False)  # float32 [N, 8], columns AGENT_COLUMNS, at the last frame
    agent_kinds: list[str] = field(repr=False)
    metrics: Mapping[str, Any] = field(repr=False)  # every driving check, lists of F
    outcome: str = "running"  # running, success, failure, timeout
    cache: CacheTelemetry | None = field(default=None, repr=False)  # of this chunk, where there is a cache
    timing: Mapping[str, float] = field(
        default_factory=dict, repr=False
    )  # milliseconds on the server's clock

    def images(self) -> dict[str, np.ndarray]:
        """Decoded frames by camera: uint8 [F, H, W, 3] RGB, fresh arrays.

        Raises:
            ImportError: JPEG or PNG, and neither opencv-python nor pillow is installed. Encoding `raw` needs neither.
        """
        return {name: self.decode(name) for name in self.frames}

    def image(self, camera: str, index: int = -1) -> np.ndarray:
        """One frame of one camera, by default the newest: uint8 [H, W, 3] RGB."""
        return self._decode(camera, self.frames[camera][index])

    def decode(self, camera: str) -> np.ndarray:
        """All frames of one camera: uint8 [F, H, W, 3] RGB."""
        return np.stack([self._decode(camera, image) for image in self.frames[camera]])

    @property
    def ego(self) -> dict[str, float]:
        """The ego at the last frame, by column name."""
        return dict(zip(EGO_COLUMNS, self.ego_frames[-1].tolist(), strict=True))

    def _decode(self, camera: str, data: bytes) -> np.ndarray:
        if self.encoding == "raw":
            size = self.cameras[camera]
            return np.frombuffer(data, np.uint8).reshape(size.height, size.width, 3).copy()
        return decode_image(data)


@dataclass(frozen=True)
class StepResult(Observation):
    """An observation with what the chunk was worth."""

    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    reason: str = ""
    held_chunks: int = 0
    action_age_ms: float = 0.0

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return self.terminated or self.truncated


def decode_image(data: bytes) -> np.ndarray:
    """One JPEG or PNG as uint8 [H, W, 3] RGB, with whichever of opencv and pillow is installed."""
    try:
        import cv2
    except ImportError:
        return _decode_with_pillow(data)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(f"expected a JPEG or PNG image, got {len(data)} other bytes")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def _decode_with_pillow(data: bytes) -> np.ndarray:
    import io

    try:
        from PIL import Image
    except ImportError:
        raise ImportError(
            "expected opencv-python or pillow to decode images; or ask for encoding='raw'"
        ) from None
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def observation(reply: Started | Restored | Frames, cameras: Mapping[str, Camera], chunk: int) -> Observation:
    """From a reply that carries a world."""
    return Observation(**_common(reply, cameras, chunk))


def step_result(reply: Stepped, cameras: Mapping[str, Camera]) -> StepResult:
    """From the reply to a step."""
    names = ("reward", "terminated", "truncated", "reason", "held_chunks", "action_age_ms")
    return StepResult(
        **_common(reply, cameras, reply.chunk), **{name: getattr(reply, name) for name in names}
    )


def _common(
    reply: Started | Restored | Frames | Stepped, cameras: Mapping[str, Camera], chunk: int
) -> dict[str, Any]:
    return {
        "session": reply.session,
        "chunk": chunk,
        "cameras": cameras,
        "encoding": reply.encoding,
        "frames": reply.frames,
        "ego_frames": reply.ego.copy(),  # the received view is read-only
        "agents": reply.agents.copy(),
        "agent_kinds": reply.agent_kinds,
        "metrics": reply.metrics,
        "outcome": getattr(reply, "outcome", "running"),  # started, restored: nothing was driven
        "cache": getattr(reply, "cache", None),
        "timing": getattr(reply, "timing", {}),
    }
