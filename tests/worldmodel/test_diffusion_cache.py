"""X-Cache in the engine: tiers, decisions per session, and what failed chunks, snapshots and forks do to it."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import inf

import numpy as np
import pytest
import torch

from worldmodel.diffusion import DiffusionEngine
from worldmodel.diffusion.cache import XCACHE_TIERS, CacheChoice, view_groups
from worldmodel.engine import ChunkResult, EngineError, OpenRequest, SessionId, SessionOptions
from worldmodel.model.config import DiTConfig, ModelConfig, TokenizerConfig
from worldmodel.model.world_model import WorldModel, build_world_model
from worldmodel.rig import load_rig
from worldmodel.testing import controls
from xcache_core import PRESETS, Method, Policy, Reason, Reuse, XCache
from xcache_core.gate import Always
from xcache_core.plan import Cut

CYCLE = 4
CONFIG = ModelConfig(
    name="test",
    rig="front3",
    height=32,
    width=48,
    steps=2,
    cycle=CYCLE,
    tokenizer=TokenizerConfig(channels=8, widths=(8, 8, 8), decoder_blocks=1),
    dit=DiTConfig(width=64, depth=3, window=2, trunk=(8, 16)),
)


PAPER = CacheChoice(PRESETS)


@pytest.fixture(scope="module")
def model() -> WorldModel:
    """A network whose zero-initialised parts are alive, as after training."""
    torch.manual_seed(0)
    model = build_world_model(CONFIG, digest="0" * 64)
    for network in (model.dit, model.tokenizer):
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture
def engine(model: WorldModel) -> DiffusionEngine:
    """An engine without sessions."""
    return DiffusionEngine(model, dtype=torch.float32, cache=PAPER)


def opened(engine: DiffusionEngine, tier: str) -> SessionId:
    """A session of a tier."""
    return engine.open(OpenRequest("urban_cruise", "front3", 1, SessionOptions(tier=tier))).session


def step(engine: DiffusionEngine, *sessions: SessionId) -> list[ChunkResult]:
    """Step sessions as one batch and demand success."""
    results = engine.step({session: controls(0.02) for session in sessions})
    assert all(isinstance(result, ChunkResult) for result in results.values()), results
    return [result for result in results.values() if isinstance(result, ChunkResult)]


def drive(engine: DiffusionEngine, session: SessionId, chunks: int) -> list[ChunkResult]:
    """Step one session alone."""
    return [step(engine, session)[0] for _ in range(chunks)]


def reasons(result: ChunkResult) -> np.ndarray:
    """Reason codes [S, L]."""
    assert result.cache is not None
    return result.cache["reason"]


def stored(engine: DiffusionEngine, session: SessionId) -> dict[str, torch.Tensor]:
    """A copy of everything that the cache holds of a session."""
    chosen = engine._sessions[session]
    return engine._loop.cache(chosen).state.slot_state(chosen.generator.cache_slot)


def equal(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    """Equal, NaN for NaN."""
    return all(torch.equal(a[name].nan_to_num(-7.0), b[name].nan_to_num(-7.0)) for name in a)


def test_exact_sessions_have_no_cache_and_pay_for_none(engine: DiffusionEngine) -> None:
    results = drive(engine, opened(engine, "exact"), 2)
    assert all(result.cache is None for result in results)
    assert not engine._loop.caches


def test_a_cached_session_beside_it_changes_no_bit_of_an_exact_one(
    engine: DiffusionEngine, model: WorldModel
) -> None:
    exact, fast = opened(engine, "exact"), opened(engine, "fast")
    alone = DiffusionEngine(model, dtype=torch.float32, cache=PAPER)
    for result in drive(alone, opened(alone, "exact"), 3):
        assert np.array_equal(step(engine, exact, fast)[0].frames, result.frames)


def test_thresholds_that_always_refuse_equal_exact_bit_for_bit(model: WorldModel) -> None:
    choice = CacheChoice({**PRESETS, "refusing": Policy(floor=2.0)})
    engine = DiffusionEngine(model, dtype=torch.float32, cache=choice)
    refusing, exact = opened(engine, "refusing"), opened(engine, "exact")
    for a, b in zip(drive(engine, refusing, 6), drive(engine, exact, 6), strict=True):
        assert np.array_equal(a.frames, b.frames)
        assert (reasons(a) > 0).all()


def test_chunks_that_commit_are_computed_and_what_others_reuse_is_never_fed_back(
    engine: DiffusionEngine,
) -> None:
    fast, exact = opened(engine, "fast"), opened(engine, "exact")
    results = drive(engine, fast, CYCLE + 1)
    truth = drive(engine, exact, CYCLE + 1)
    assert [result.cache["skip"] > 0.5 for result in results if result.cache] == [0, 1, 1, 1, 0]
    for chunk in (0, CYCLE):
        assert (reasons(results[chunk]) == Reason.KV_UPDATE).all()
        assert np.array_equal(results[chunk].frames, truth[chunk].frames)
    assert not np.array_equal(results[1].frames, truth[1].frames)


def test_a_tier_may_skip_in_chunks_that_commit_but_computes_all_blocks_again_before_long(
    model: WorldModel,
) -> None:
    loose = Policy(front=0, floor=-1.0, margin=4.0, max_deviation=inf, max_skips=5, kv_steps=0)
    engine = DiffusionEngine(model, dtype=torch.float32, cache=CacheChoice({**PRESETS, "loose": loose}))
    results = drive(engine, opened(engine, "loose"), 3 * CYCLE + 1)
    assert [result.cache["skip"] for result in results if result.cache] == [
        float(chunk % 6 > 0) for chunk in range(len(results))
    ]
    # The KV-update pass is no part of the cache, and exact.
    assert (reasons(results[CYCLE]) == Reason.SKIPPED).all()


def test_of_chunks_that_commit_the_last_step_alone_may_be_computed(model: WorldModel) -> None:
    last = Policy(front=0, floor=-1.0, margin=4.0, max_deviation=inf, kv_steps=1)
    engine = DiffusionEngine(model, dtype=torch.float32, cache=CacheChoice({**PRESETS, "last": last}))
    results = drive(engine, opened(engine, "last"), 2 * CYCLE + 1)
    for chunk in (CYCLE, 2 * CYCLE):
        by_step = reasons(results[chunk])
        assert (by_step[:-1] == Reason.SKIPPED).all()
        assert (by_step[-1] == Reason.KV_UPDATE).all()
    assert all(result.cache["skip"] == 1.0 for result in results[1:CYCLE] if result.cache)


def test_telemetry_is_plain_data_with_every_field(engine: DiffusionEngine) -> None:
    cache = drive(engine, opened(engine, "balanced"), 2)[-1].cache
    assert cache is not None
    for name in ("reason", "cosine", "deviation", "age", "error"):
        assert cache[name].shape == (CONFIG.steps, CONFIG.dit.depth)
    assert cache["tier"] == "balanced"
    assert cache["reasons"][0] == "skipped"
    assert (cache["age"][cache["reason"] == 0] == 1).all()
    assert cache["gate_us"] > 0
    assert cache["bytes"] > 0


def test_decisions_and_frames_of_a_session_do_not_depend_on_its_batch(
    engine: DiffusionEngine, model: WorldModel
) -> None:
    rows = (("fast", 0.4), ("safe", -0.4), ("balanced", 0.0))
    together = {opened(engine, tier): controls(steer, accel_mps2=8 * steer) for tier, steer in rows}
    batches = [list(engine.step(together).values()) for _ in range(CYCLE)]
    assert any((reasons(batches[1][0]) != reasons(batches[1][1])).ravel())  # some rows are gathered
    for row, (tier, _) in enumerate(rows):
        other = DiffusionEngine(model, dtype=torch.float32, cache=PAPER)
        session, action = opened(other, tier), list(together.values())[row]
        for batch in batches:
            lone = other.step({session: action})[session]
            assert np.array_equal(reasons(batch[row]), reasons(lone))
            assert np.abs(batch[row].frames.astype(int) - lone.frames.astype(int)).max() <= 1


def test_a_restored_snapshot_decides_as_the_original(engine: DiffusionEngine, model: WorldModel) -> None:
    session = opened(engine, "balanced")
    drive(engine, session, 2)
    snapshot = engine.snapshot(session)
    other = DiffusionEngine(model, dtype=torch.float32, cache=PAPER)
    restored = other.restore(snapshot)
    assert other.snapshot(restored) == snapshot
    for a, b in zip(drive(engine, session, 4), drive(other, restored, 4), strict=True):
        assert np.array_equal(reasons(a), reasons(b))
        assert np.array_equal(a.frames, b.frames)


def test_a_fork_shares_no_cache_with_its_original(engine: DiffusionEngine) -> None:
    session = opened(engine, "fast")
    drive(engine, session, 2)
    before = stored(engine, session)
    left, right = engine.fork(session, 2)
    engine.set_tier(left, "safe")
    drive(engine, left, 3)
    assert equal(stored(engine, session), before)
    assert equal(stored(engine, right), before)


def test_a_failed_chunk_leaves_the_cache_untouched(engine: DiffusionEngine) -> None:
    healthy, sick = opened(engine, "fast"), opened(engine, "fast")
    step(engine, healthy, sick)
    engine.flush()
    before, other = stored(engine, sick), stored(engine, healthy)
    memory = engine._sessions[sick].generator
    lost = replace(memory, anchor=replace(memory.anchor, x_m=float("nan")))
    engine._sessions[sick].generator = lost
    results = engine.step({healthy: controls(0.0), sick: controls(0.0)})
    assert isinstance(results[sick], EngineError)
    assert equal(stored(engine, sick), before)
    assert not equal(stored(engine, healthy), other)


def test_an_engine_that_fails_half_way_leaves_every_cache_untouched(
    engine: DiffusionEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, exact = opened(engine, "fast"), opened(engine, "exact")
    step(engine, fast, exact)
    before, decode, calls = stored(engine, fast), engine._loop._decode, []

    def failing(*args: torch.Tensor) -> torch.Tensor:
        calls.append(args)
        if len(calls) == 2:  # the cached session's own chunk is done by now
            raise RuntimeError("lost device")
        return decode(*args)

    monkeypatch.setattr(engine._loop, "_decode", failing)
    with pytest.raises(RuntimeError, match="lost device"):
        engine.step({fast: controls(), exact: controls()})
    assert equal(stored(engine, fast), before)


def test_the_next_session_in_a_slot_sees_nothing_of_the_last_one(
    engine: DiffusionEngine, model: WorldModel
) -> None:
    first = opened(engine, "fast")
    drive(engine, first, 3)
    slot = engine._sessions[first].generator.cache_slot
    engine.close(first)
    second = opened(engine, "fast")
    assert engine._sessions[second].generator.cache_slot == slot
    fresh = DiffusionEngine(model, dtype=torch.float32, cache=PAPER)
    assert equal(stored(engine, second), stored(fresh, opened(fresh, "fast")))


def test_a_tier_changes_at_the_next_chunk_and_begins_with_computed_blocks(engine: DiffusionEngine) -> None:
    session = opened(engine, "exact")
    assert drive(engine, session, 1)[0].cache is None
    engine.set_tier(session, "fast")
    first, second = drive(engine, session, 2)
    assert (reasons(first) == Reason.WARM_UP).all()
    assert (reasons(second) == Reason.SKIPPED).all()
    engine.set_tier(session, "balanced")
    (third,) = drive(engine, session, 1)
    assert set(reasons(third).ravel()) == {Reason.ANCHOR, Reason.INVALID}
    engine.set_tier(session, "exact")
    assert drive(engine, session, 1)[0].cache is None
    assert engine._sessions[session].generator.cache_slot is None


def test_an_unknown_tier_is_refused_with_the_valid_names(engine: DiffusionEngine) -> None:
    session = opened(engine, "fast")
    with pytest.raises(EngineError, match="expected a tier of exact, safe, balanced, fast, got 'warp'"):
        engine.set_tier(session, "warp")
    assert engine._sessions[session].options.tier == "fast"


CUTS: tuple[Cut, ...] = ("view", (2, 1))


def gathered_and_masked(model: WorldModel, cut: Cut) -> list[DiffusionEngine]:
    """Engines that differ in how skipped work is executed, in a tier that computes some views and skips others."""
    tiers = {"picky": Policy(floor=0.5, max_deviation=0.6)}
    return [
        DiffusionEngine(
            model,
            dtype=torch.float32,
            cache=CacheChoice(tiers, partial(XCache, executor=executor), cut),
        )
        for executor in ("eager", "masked")
    ]


@pytest.mark.parametrize("cut", CUTS)
def test_gathering_views_or_regions_equals_computing_all_and_selecting(model: WorldModel, cut: Cut) -> None:
    gathered, masked = gathered_and_masked(model, cut)
    sessions = [[opened(engine, "picky") for _ in range(2)] for engine in (gathered, masked)]
    some = False
    for chunk in range(CYCLE):
        actions = [controls(0.3, accel_mps2=2.0), controls(-0.02 * chunk)]
        fast, naive = (
            engine.step(dict(zip(pair, actions, strict=True)))
            for engine, pair in zip((gathered, masked), sessions, strict=True)
        )
        for a, b in zip(fast.values(), naive.values(), strict=True):
            assert np.array_equal(reasons(a), reasons(b))
            assert np.abs(a.frames.astype(int) - b.frames.astype(int)).max() <= 1
            by_unit = (reasons(a) == Reason.SKIPPED).mean(-1)
            some |= bool(((by_unit > 0) & (by_unit < 1)).any())
    assert some  # units of which one view was computed and another was not


def test_deciding_by_view_gives_telemetry_by_stage_and_view(model: WorldModel) -> None:
    engine = DiffusionEngine(model, dtype=torch.float32, cache=CacheChoice(PRESETS, cut="view"))
    cache = drive(engine, opened(engine, "fast"), 2)[-1].cache
    assert cache is not None
    stages = CONFIG.dit.depth + CONFIG.dit.depth // CONFIG.dit.cross_view_every
    assert cache["reason"].shape == cache["age"].shape == (CONFIG.steps, stages, 3)


def test_stages_are_cached_apart_without_deciding_by_view(model: WorldModel) -> None:
    choice = CacheChoice({"refusing": Policy(floor=2.0)}, apart=True)
    engine = DiffusionEngine(model, dtype=torch.float32, cache=choice)
    exact = DiffusionEngine(model, dtype=torch.float32, cache=PAPER)
    for a, b in zip(
        drive(engine, opened(engine, "refusing"), 3), drive(exact, opened(exact, "exact"), 3), strict=True
    ):
        assert reasons(a).shape == (CONFIG.steps, 4)
        assert np.abs(a.frames.astype(int) - b.frames.astype(int)).max() <= 1


def test_residuals_move_with_the_scene_where_the_method_asks_for_it(model: WorldModel) -> None:
    def engine_of(reuse: Reuse) -> DiffusionEngine:
        method = Method(Always(), reuse)
        return DiffusionEngine(
            model,
            dtype=torch.float32,
            cache=CacheChoice({"always": Policy()}, partial(XCache, method=method), "view"),
        )

    moving, holding = (engine_of(Reuse(transport=moves, max_invalid=0.5)) for moves in (True, False))
    moved, held = (drive(engine, opened(engine, "always"), 3) for engine in (moving, holding))
    assert np.array_equal(moved[0].frames, held[0].frames)  # computed
    assert not np.array_equal(moved[1].frames, held[1].frames)
    assert set(reasons(moved[2]).ravel()) <= {Reason.SKIPPED, Reason.ANCHOR, Reason.OCCLUDED}
    assert (reasons(moved[2]) == Reason.SKIPPED).any()


def test_cameras_that_the_rig_names_alike_are_fingerprinted_together() -> None:
    rig = load_rig("surround7")
    groups = view_groups(rig)
    assert sorted(view for group in groups for view in group) == list(range(len(rig)))
    assert all(len({rig.cameras[view].group for view in group}) == 1 for group in groups)


def test_tiers_are_named_alike_whatever_their_numbers_and_get_looser() -> None:
    tiers = XCACHE_TIERS.tiers
    assert list(tiers) == list(PRESETS)
    assert not tiers["exact"].enabled
    assert tiers["safe"].floor > tiers["balanced"].floor > tiers["fast"].floor
