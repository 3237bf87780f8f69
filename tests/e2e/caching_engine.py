"""An engine for the viewer's tests: the zero engine's pictures, called the world model, with made-up cache telemetry.

Tier `exact` skips nothing; `fast` skips two thirds. Shows what telemetry the viewer reads.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from server.zero_engine import ZeroEngine
from worldmodel.engine import ActionChunk, ChunkResult, EngineError, OpenRequest, SessionId, Surroundings
from worldmodel.scene.scenario import load_scenario
from worldmodel.scene.scene import Scene
from xcache_core.reason import Reason

STEPS, BLOCKS = 4, 12
SHARES = {"exact": 0.0, "safe": 0.2, "balanced": 0.5, "fast": 0.7}


class CachingEngine(ZeroEngine):
    """Worlds of the zero engine under any scenario's name and in every tier."""

    def __init__(self, step_ms: float = 0.0) -> None:
        super().__init__(step_ms)
        self._tiers: dict[SessionId, str] = {}

    @property
    def name(self) -> str:
        return "worldmodel"

    @property
    def tiers(self) -> tuple[str, ...]:
        return tuple(SHARES)

    def set_tier(self, session: SessionId, tier: str) -> None:
        self._tiers[session] = tier

    def surroundings(self, session: SessionId) -> Surroundings:
        """Some roads: what is driven on them is the zero engine's own."""
        scene = Scene(load_scenario("highway_empty"), 0)
        return Surroundings(scene.world, scene.path, scene.atmosphere)

    def open(self, request: OpenRequest) -> ChunkResult:
        tier = request.options.tier
        result = super().open(replace(request, scenario="zero"))
        self._tiers[result.session] = tier
        return result

    def fork(self, session: SessionId, count: int = 1) -> list[SessionId]:
        copies = super().fork(session, count)
        self._tiers |= dict.fromkeys(copies, self._tiers[session])
        return copies

    def step(self, actions: Mapping[SessionId, ActionChunk]) -> dict[SessionId, ChunkResult | EngineError]:
        results = super().step(actions)
        return {session: self._with_cache(session, result) for session, result in results.items()}

    def _with_cache(self, session: SessionId, result: ChunkResult | EngineError) -> ChunkResult | EngineError:
        if isinstance(result, EngineError):
            return result
        tier = self._tiers.get(session, "exact")
        stages = {"scene": 6.0, "condition": 11.0, "denoise": 90.0 * (1 - SHARES[tier]), "decode": 21.0}
        return replace(result, cache=_telemetry(tier, result.chunk), timings_ms=stages)


class PlainEngine(CachingEngine):
    """The same worlds by another name, without a cache."""

    @property
    def name(self) -> str:
        return "reference"

    @property
    def tiers(self) -> tuple[str, ...]:
        return ("exact",)

    def _with_cache(self, session: SessionId, result: ChunkResult | EngineError) -> ChunkResult | EngineError:
        return result


def _telemetry(tier: str, chunk: int) -> dict[str, Any]:
    rng = np.random.default_rng(chunk)
    skipped = rng.random((STEPS, BLOCKS)) < SHARES[tier]
    reason = np.where(skipped, Reason.SKIPPED, Reason.COSINE).astype(np.uint8)
    reason[1, ::3] = np.where(skipped[1, ::3], Reason.SKIPPED, Reason.DEVIATION)
    reason[:, 0] = Reason.ANCHOR
    if tier == "exact":
        reason[:] = Reason.OFF
    error = np.full((STEPS, BLOCKS), np.nan, np.float32)
    error[2, 5] = 0.031
    return {"tier": tier, "reasons": [r.label for r in Reason], "reason": reason, "error": error}
