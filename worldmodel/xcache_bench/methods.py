"""Who takes part: full compute, the tiers, and the baselines, all through the same engine."""

from dataclasses import dataclass
from functools import partial

from xcache_core import BASELINES, PRESETS, baseline

from ..diffusion.cache import XCACHE_TIERS, CacheChoice

FULL = "exact"


@dataclass(frozen=True)
class Method:
    """One participant: a cache, and the tier that its sessions are opened in."""

    name: str
    tier: str
    cache: CacheChoice = XCACHE_TIERS


def _tier(name: str) -> Method:
    return Method(name, name)


def _baseline(name: str) -> Method:
    tiers = {FULL: PRESETS[FULL], name: BASELINES[name].policy}
    return Method(name, name, CacheChoice(tiers, partial(baseline, name)))


# `xcache` is left out: it is the tier `balanced`; `never` is `exact`.
METHODS = {name: _tier(name) for name in PRESETS} | {
    name: _baseline(name) for name in BASELINES if name not in ("never", "xcache")
}
QUICK_METHODS = ("exact", "safe", "balanced", "fast", "always")
