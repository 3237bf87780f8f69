"""The reference engine: the same contract as the world model, with exact procedural pictures."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..engine import EngineError
from ..rig import Rig
from ..scene_engine import SceneEngine, Session, Staged
from .renderer import ReferenceRenderer

RENDERER_VERSION = "1"  # raised when the same scene gives other pixels


class ReferenceEngine(SceneEngine):
    """Renders every frame of every camera from the scene itself."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        super().__init__()
        self._device = torch.device(device)
        self._renderers: dict[Rig, ReferenceRenderer] = {}  # one per rig: it precomputes per-pixel geometry

    @property
    def name(self) -> str:
        """`reference`."""
        return "reference"

    @property
    def state_version(self) -> str:
        """Version of the pictures."""
        return RENDERER_VERSION

    def _start(self, session: Session) -> np.ndarray:
        if session.options.tier != "exact" or session.options.steps is not None:
            raise EngineError(
                "expected tier 'exact' and no denoising steps with the reference engine, got "
                f"tier {session.options.tier!r} and steps {session.options.steps}"
            )
        if session.images is not None:
            raise EngineError("expected no first images with the reference engine: it renders its own")
        scene = session.scene
        return self._renderer(session).render(scene.world, scene.atmosphere, [scene.frame])

    def _generate(self, batch: Sequence[Staged]) -> None:
        # One rig at a time: its sessions share the per-pixel geometry and run as one batch.
        by_rig: dict[Rig, list[Staged]] = {}
        for staged in batch:
            by_rig.setdefault(staged.session.rig, []).append(staged)
        for group in by_rig.values():
            start = time.perf_counter()
            requests = [(s.session.scene.world, s.session.scene.atmosphere, s.states) for s in group]
            rendered = self._renderer(group[0].session).render_batch(requests)
            elapsed_ms = (time.perf_counter() - start) * 1e3
            for staged, frames in zip(group, rendered, strict=True):
                staged.frames = frames
                staged.timings_ms = {"render": elapsed_ms / len(group)}

    def _generator_state(self, session: Session) -> Any:
        return None

    def _load_generator_state(self, session: Session, state: Any) -> None:
        if state is not None:
            raise EngineError(f"expected no generator state, got {type(state).__name__}")

    def _renderer(self, session: Session) -> ReferenceRenderer:
        rig = session.rig
        if rig not in self._renderers:
            self._renderers[rig] = ReferenceRenderer(rig, self._device)
        return self._renderers[rig]
