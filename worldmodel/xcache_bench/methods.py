"""Who takes part: full compute, the tiers, the baselines and the ablation's rows, all through the same engine."""

from dataclasses import dataclass, replace
from functools import partial

from xcache_core import BASELINES, PRESETS, Method, Plan, Policy, Reuse, XCache, baseline
from xcache_core import XCACHE as PAPER
from xcache_core.baselines import STEP_ONLY, fixed_table, with_whole_input
from xcache_core.gate import DualMetric
from xcache_core.plan import Cut

from ..diffusion.cache import SAMPLES, XCACHE, XCACHE_TIERS, CacheChoice

FULL = "exact"
CUTS: tuple[Cut, ...] = ("frame", "view")
PAPER_SAMPLES = 32
TABLE, TABLE_BUDGET = "fixed_table", 0.06


@dataclass(frozen=True)
class Contestant:
    """One participant: a cache, the tier that its sessions are opened in, and how it samples.

    Args:
        name: unique in a race.
        tier: of its sessions.
        cache: what the tier means.
        steps: denoising steps; None is the race's own.
        noise_hold: chunks that start from the same noise; None is the model's own, a KV cycle.
        about: what it shows, for tables.
    """

    name: str
    tier: str
    cache: CacheChoice = XCACHE_TIERS
    steps: int | None = None
    noise_hold: int | None = None
    about: str = ""

    @property
    def full(self) -> "Contestant":
        """Full compute that samples alike: what this one is compared with."""
        name = f"{FULL}_noise{self.noise_hold}" if self.noise_hold else FULL
        return _named_by_steps(replace(FULL_COMPUTE, name=name, noise_hold=self.noise_hold), self.steps)

    def stands_apart(self, steps: int) -> bool:
        """Whether its committed chunks may differ from full compute's: skipped, or rounded in other places.

        `steps` are those of the race.
        """
        steps = self.steps or steps
        return self.cache.apart or self.cache.tiers[self.tier].exact_kv_steps(steps) < steps

    def at(self, steps: int | None) -> "Contestant":
        """The same with another number of steps."""
        return _named_by_steps(replace(self, steps=steps), steps)


FULL_COMPUTE = Contestant(FULL, FULL, about="computes everything")


def _named_by_steps(contestant: Contestant, steps: int | None) -> Contestant:
    name = contestant.name if steps is None else f"{contestant.name}@{steps}"
    return replace(contestant, name=name, steps=steps)


def variant(
    name: str,
    policy: Policy,
    about: str,
    *,
    method: Method = XCACHE,
    cut: Cut = "frame",
    apart: bool = False,
    whole: bool = False,
    samples: int = SAMPLES,
    noise_hold: int | None = None,
) -> Contestant:
    """X-Cache with other pieces or numbers. `samples` tokens are compared; `whole`: every one."""
    tiers = {FULL: PRESETS[FULL], name: policy}
    make = partial(_with_whole_input if whole else XCache, method=method)
    choice = CacheChoice(tiers, make, cut, apart, samples)
    return Contestant(name, name, choice, noise_hold=noise_hold, about=about)


def _with_whole_input(plan: Plan, method: Method) -> XCache:
    return XCache(with_whole_input(plan), method=method)


def calibrated(drift: list[list[float]]) -> Contestant:
    """MagCache-like, with a table that was measured on other scenes: [steps][blocks]."""

    tiers = {FULL: PRESETS[FULL], TABLE: replace(STEP_ONLY, budget=TABLE_BUDGET)}
    choice = CacheChoice(tiers, partial(fixed_table, drift=drift))
    return Contestant(TABLE, TABLE, choice, about="MagCache-like: calibrated errors and a budget")


def _baseline(name: str) -> Contestant:
    tiers = {FULL: PRESETS[FULL], name: BASELINES[name].policy}
    choice = CacheChoice(tiers, partial(baseline, name), samples=PAPER_SAMPLES)
    return Contestant(name, name, choice, about=BASELINES[name].about)


def _ablations() -> dict[str, Contestant]:
    ours = XCACHE_TIERS.tiers["balanced"]
    rows = [
        variant("default", ours, "the tier balanced"),
        variant("paper", Policy(), "the paper's numbers and entries", method=PAPER, samples=PAPER_SAMPLES),
        variant("samples_32", ours, "as many tokens compared as published", samples=PAPER_SAMPLES),
        variant(
            "no_gate", XCACHE_TIERS.tiers["fast"], "inputs not looked at: the schedule alone, the tier fast"
        ),
        variant("step0_protected", replace(ours, protect_step0="on"), "step 0 always computed"),
        variant(
            "kv_all_steps", replace(ours, kv_steps=None), "chunks that commit are computed, as published"
        ),
        variant("kv_2_steps", replace(ours, kv_steps=2), "their last two steps are"),
        variant("kv_unprotected", replace(ours, kv_steps=0), "all of them may skip"),
        variant(
            "kv_unprotected_no_gate",
            replace(ours, kv_steps=0, max_skips=5),
            "all of them may skip, nothing is refused, computed every sixth time",
            method=BASELINES["always"].method,
        ),
        variant("front_anchor", replace(ours, front=1), "the first block always computed"),
        *(
            variant(f"floor_{floor:.2f}", replace(ours, floor=floor), "another cosine floor")
            for floor in (0.40, 0.60, 0.70, 0.90, 0.95, 0.97)
        ),
        *(
            variant(f"only_{entry}", ours, "one entry of the fingerprint", method=_entries(entry))
            for entry in ("spatial", "mean", "action")
        ),
        variant("with_action", ours, "with the action entry, as published", method=PAPER),
        variant("cosine_only", ours, "one metric", method=_entries("spatial", "mean", deviation=False)),
        variant("deviation_only", ours, "the other metric", method=_entries("spatial", "mean", cosine=False)),
        variant(
            "moving_threshold",
            replace(ours, margin=0.02),
            "the average less 0.02 where that is above the floor",
        ),
        variant("fresh_noise", ours, "other noise for every chunk", noise_hold=1),
        variant("stages_apart", ours, "attention over time cached apart", apart=True),
        variant("by_view", ours, "cameras decided apart", cut="view"),
        variant("by_region", ours, "halves of each camera's picture decided apart", cut=(2, 1)),
        variant("budget", replace(ours, budget=0.3), "drift may add up to 0.3"),
        variant("staggered", replace(ours, refresh_every=4), "each block once in four chunks, in turns"),
        variant(
            "first_order",
            ours,
            "residual extrapolated, fitted",
            method=replace(XCACHE, reuse=Reuse("fitted")),
        ),
        *(
            variant(
                f"moved_by_{cut}",
                ours,
                "residuals and inputs moved with the scene before they are compared and reused",
                method=replace(XCACHE, reuse=Reuse(transport=True)),
                cut=cut,
                whole=True,
            )
            for cut in CUTS
        ),
        variant("shadow", replace(ours, shadow_every=20), "one skip in twenty checked"),
    ]
    return {row.name: row for row in rows}


def _entries(*entries: str, cosine: bool = True, deviation: bool = True) -> Method:
    return Method(DualMetric(cosine, deviation, entries))


TIERS = {name: Contestant(name, name) for name in XCACHE_TIERS.tiers}
BY_VIEW = variant(
    "balanced_view", XCACHE_TIERS.tiers["balanced"], "balanced, cameras decided apart", cut="view"
)
# `never` is left out: it is the tier `exact`. `xcache` has the paper's numbers.
METHODS = TIERS | {BY_VIEW.name: BY_VIEW} | {name: _baseline(name) for name in BASELINES if name != "never"}
PARTS = ("cosine_only", "deviation_only")  # of the paper's gate: raced when named
QUICK_METHODS = ("exact", "safe", "balanced", "fast", "balanced_view", "xcache")
ABLATIONS = _ablations()
