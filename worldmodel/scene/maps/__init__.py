"""Maps: from a specification and a seed to a `StaticWorld`.

Every kind is one module with `build(plan, spec)`; its docstring names the nodes of its road network and its routes.
Nodes where the map begins end in `.in`, nodes where it ends in `.out`; `.stop` is where drivers wait at a junction and
`.go` where they leave it.
"""

import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from pydantic import BaseModel

from ..world import StaticWorld
from . import exit as exit_
from . import highway, intersection, merge, roundabout, rural, two_way, u_turn, urban
from .plan import Plan
from .spec import (
    ExitSpec,
    HighwaySpec,
    IntersectionSpec,
    MapSpec,
    MergeSpec,
    RoundaboutSpec,
    RuralSpec,
    TwoWaySpec,
    UrbanSpec,
    UTurnSpec,
)

__all__ = [
    "ExitSpec",
    "HighwaySpec",
    "IntersectionSpec",
    "MapSpec",
    "MergeSpec",
    "RoundaboutSpec",
    "RuralSpec",
    "TwoWaySpec",
    "UTurnSpec",
    "UrbanSpec",
    "build_map",
]

_BUILDERS: dict[str, Callable[[Plan, Any], None]] = {
    "highway": highway.build,
    "two_way": two_way.build,
    "merge": merge.build,
    "exit": exit_.build,
    "roundabout": roundabout.build,
    "intersection": intersection.build,
    "u_turn": u_turn.build,
    "rural": rural.build,
    "urban": urban.build,
}


def build_map(spec: MapSpec, seed: int) -> StaticWorld:
    """Build the world of a specification: the same for the same (spec, seed), and then the same object.

    Worlds are immutable and shared; the last 32 are kept.
    """
    return _build(spec, int(seed))


@lru_cache(maxsize=32)
def _build(spec: BaseModel, seed: int) -> StaticWorld:
    kind: str = spec.kind  # type: ignore[attr-defined]
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    plan = Plan(kind, rng, spec.speed_limit_mps)  # type: ignore[attr-defined]
    _BUILDERS[kind](plan, spec)
    return plan.finish()
