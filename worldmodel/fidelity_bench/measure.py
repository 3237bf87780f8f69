"""The whole benchmark as plain data: rollouts with and without layout, step counts, cache tiers, counterfactuals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..chosen_model import rig_of
from ..diffusion import DiffusionEngine
from ..engine import SessionOptions
from ..fidelity import psnr_of
from ..model.world_model import WorldModel
from .counterfactual import counterfactual
from .drives import Renderers, Truth, marks, record
from .rollout import Made, play
from .scores import ceiling_row, reconstruct, shuffle_ratio, summary, window_row

Rows = dict[int, dict[str, float]]  # by chunk
LEAD_IN, BRANCH_CHUNKS = 3, 3  # chunks before a fork, and after it


@dataclass(frozen=True)
class Settings:
    """What to look at. `steps` are step counts to compare at `short_s`; all scenarios are held out."""

    scenarios: Sequence[str]
    horizons_s: Sequence[float] = (1, 5, 20, 60, 180)
    per_horizon: int = 2
    short_s: float = 5.0
    steps: Sequence[int] = (1, 2, 4, 8)
    tiers: Sequence[str] = ()
    variant_scenarios: int = 4  # for step counts, tiers and counterfactuals: so many of the scenarios
    device: str = "cpu"
    own_steps: int | None = None  # None is the model's

    @property
    def marks(self) -> dict[float, list[int]]:
        """Chunks of every horizon, the first chunk as horizon 0."""
        return {0: [0], **marks(self.horizons_s, self.per_horizon)}

    def chunks(self, longest_s: float) -> list[int]:
        """All chunks to look at up to a horizon."""
        return sorted({chunk for h, chunks in self.marks.items() if h <= longest_s for chunk in chunks})


@dataclass
class _Course:
    """One drive and everything that was made of it."""

    truth: Truth
    ceilings: Rows
    variants: dict[str, Rows] = field(default_factory=dict)
    pictures: dict[str, Made] = field(default_factory=dict)


def measure(
    model: WorldModel, settings: Settings, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Run everything; the keys are those of docs/benchmarks.md. `progress` is told what is done next."""
    engine = DiffusionEngine(model, settings.device)
    views, courses = Renderers(rig_of(engine.config), settings.device), list[_Course]()
    for index, name in enumerate(settings.scenarios):
        progress(f"{name}: truth")
        courses.append(_course(engine, name, views, settings))
        for variant, options, chunks in _variants(engine, settings, index < settings.variant_scenarios):
            progress(f"{name}: {variant}")
            _drive(engine, courses[-1], variant, options, chunks)
    pairs = []
    for course in courses[: settings.variant_scenarios]:
        progress(f"{course.truth.scenario}: counterfactuals")
        options = _options(engine, steps=settings.own_steps)
        pairs += counterfactual(engine, course.truth, options, LEAD_IN, BRANCH_CHUNKS)
    return {**_results(courses, settings, pairs), "pictures": _pictures(courses[0])}


def _course(engine: DiffusionEngine, name: str, views: Renderers, settings: Settings) -> _Course:
    truth = record(name, views, settings.chunks(max(settings.horizons_s)))
    ceilings = {
        chunk: ceiling_row(window, truth, reconstruct(engine.model.tokenizer, window))
        for chunk, window in truth.windows.items()
    }
    return _Course(truth, ceilings)


def _variants(
    engine: DiffusionEngine, settings: Settings, short_ones: bool
) -> list[tuple[str, SessionOptions, list[int]]]:
    """Name, options and chunks of every rollout of one drive."""
    longest, short = settings.chunks(max(settings.horizons_s)), settings.chunks(settings.short_s)
    own = settings.own_steps
    rollouts = [
        ("layout", _options(engine, steps=own), longest),
        ("layout_off", _options(engine, steps=own, layout=False), longest),
    ]
    if short_ones:
        rollouts += [(f"steps {n}", _options(engine, steps=n), short) for n in settings.steps]
        rollouts += [(f"tier {t}", _options(engine, steps=own, tier=t), short) for t in settings.tiers]
    return rollouts


def _options(engine: DiffusionEngine, **options: Any) -> SessionOptions:
    return SessionOptions(cameras=engine.config.cameras or None, **options)


def _drive(
    engine: DiffusionEngine, course: _Course, variant: str, options: SessionOptions, chunks: list[int]
) -> None:
    made, truth = play(engine, course.truth, options, chunks), course.truth
    tokenizer = engine.model.tokenizer
    main = variant in ("layout", "layout_off")
    course.variants[variant] = {
        chunk: window_row(frames, truth.windows[chunk], truth, tokenizer, motion=main)
        for chunk, frames in made.items()
    }
    if main:
        course.pictures[variant] = made


def _results(courses: Sequence[_Course], settings: Settings, pairs: list[dict[str, Any]]) -> dict[str, Any]:
    ceilings = [row for course in courses for row in course.ceilings.values()]
    short = [h for h in settings.marks if 0 < h <= settings.short_s]
    return {
        "tokenizer_psnr": psnr_of([row["tokenizer"] for row in ceilings]),
        "tokenizer_unguided_psnr": psnr_of([row["tokenizer_unguided"] for row in ceilings]),
        **_by_horizon(courses, settings, "layout"),
        "layout_off": _by_horizon(courses, settings, "layout_off"),
        "steps": {str(n): _pooled(courses, settings, f"steps {n}", short) for n in settings.steps},
        "tiers": {tier: _pooled(courses, settings, f"tier {tier}", short) for tier in settings.tiers},
        "counterfactual_correct": float(np.mean([pair["right"] for pair in pairs])) if pairs else None,
        "counterfactuals": pairs,
        "action_shuffle_ratio": shuffle_ratio(pairs),
    }


def _by_horizon(courses: Sequence[_Course], settings: Settings, variant: str) -> dict[str, Any]:
    """The keys of one way to generate."""
    horizons = {h: _pooled(courses, settings, variant, [h]) for h in settings.marks}
    reached = {f"{h:g}": row for h, row in horizons.items() if h and row is not None}
    first, whole = horizons[0], _pooled(courses, settings, variant, [h for h in settings.marks if h])
    assert first is not None
    assert whole is not None
    pooled = ("speed_error", "yaw_rate_error", "motion_energy_ratio", "border_motion_ratio")
    return {
        "one_chunk_psnr": first["psnr"],
        "one_chunk_tokenizer_psnr": first["tokenizer_psnr"],
        "rollout_psnr": {h: row["psnr"] for h, row in reached.items()},
        "rollout_ssim": {h: row["ssim"] for h, row in reached.items()},
        "copy_last_frame_psnr": _column(first, reached, "copy_last_frame_psnr"),
        "bare_warp_psnr": _column(first, reached, "bare_warp_psnr"),
        **{name: whole[name] for name in (*pooled, "cross_view_error_ratio", "agents_present")},
        "latent_drift": {
            h: {"std_ratio": row["latent_std_ratio"], "mean_shift": row["latent_mean_shift"]}
            for h, row in reached.items()
        },
        "horizons": {"chunk": first, **reached},
    }


def _column(first: dict[str, Any], reached: dict[str, dict[str, Any]], name: str) -> dict[str, float]:
    return {"chunk": first[name], **{h: row[name] for h, row in reached.items()}}


def _pooled(
    courses: Sequence[_Course], settings: Settings, variant: str, horizons: Sequence[float]
) -> dict[str, Any] | None:
    """All drives that got to some horizons in one; None where none did."""
    chunks = sorted({chunk for h in horizons for chunk in settings.marks[h]})
    rows, ceilings = [], []
    for course in courses:
        for chunk in chunks:
            if chunk in course.variants.get(variant, {}):
                rows.append(course.variants[variant][chunk])
                ceilings.append(course.ceilings[chunk])
    return summary(rows, ceilings) if rows else None


def _pictures(course: _Course) -> list[dict[str, Any]]:
    """Last frames of the first drive's chunks, to be looked at: truth and what was made, uint8 [V, H, W, 3]."""
    return [
        {
            "chunk": chunk,
            "true": window.frames[:, -1].numpy(),
            **{name: made[chunk][:, -1].numpy() for name, made in course.pictures.items() if chunk in made},
        }
        for chunk, window in course.truth.windows.items()
    ]
