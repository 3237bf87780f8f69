"""What is measured before a race, on scenarios that no report shows."""

from collections.abc import Sequence

import numpy as np

from xcache_core import PRESETS, Policy
from xcache_core.baselines import calibrator

from ..diffusion.cache import CacheChoice
from ..model.world_model import WorldModel
from .methods import FULL, Contestant
from .race import Course, race
from .scenes import Drive


def drift_table(model: WorldModel, drives: Sequence[Drive], course: Course) -> list[list[float]]:
    """Mean relative error, by [step][block], of a block reused from the step before; 0 at step 0."""
    tiers = {FULL: PRESETS[FULL], "calibrate": Policy(warm_up=0, front=0, shadow_every=1, kv_steps=0)}
    watcher = Contestant("calibrate", "calibrate", CacheChoice(tiers, calibrator))
    runs = [race(model, [watcher], drive, course)[watcher.name] for drive in drives]
    errors = np.stack([cache["error"] for run in runs for cache in run.caches if cache is not None])
    known = np.isfinite(errors)
    return (np.where(known, errors, 0.0).sum(0) / known.sum(0).clip(1)).tolist()
