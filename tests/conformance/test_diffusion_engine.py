"""The diffusion engine keeps the engine contract, with a small untrained network."""

import numpy as np
import pytest
import torch

from worldmodel.diffusion import DiffusionEngine
from worldmodel.engine import ChunkResult, EngineError, OpenRequest, SessionOptions, WorldEngine
from worldmodel.model.config import DiTConfig, ModelConfig, TokenizerConfig
from worldmodel.model.world_model import WorldModel, build_world_model
from worldmodel.testing import EngineConformance, controls

CONFIG = ModelConfig(
    name="test",
    rig="front3",
    height=32,
    width=48,
    steps=2,
    cycle=2,
    tokenizer=TokenizerConfig(channels=8, widths=(8, 8, 8), decoder_blocks=1),
    dit=DiTConfig(width=64, depth=2, window=2, trunk=(8, 16)),
)


def small_model() -> WorldModel:
    """A network whose zero-initialised parts are alive, as after training."""
    torch.manual_seed(0)
    model = build_world_model(CONFIG, digest="0" * 64)
    for network in (model.dit, model.tokenizer):
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


class TestDiffusionEngine(EngineConformance):
    scenarios = ("urban_cruise", "highway_cruise")
    frame_tolerance = 1  # matrix kernels may round otherwise when a batch is larger

    def make_engine(self) -> WorldEngine:
        return DiffusionEngine(small_model(), dtype=torch.float32)

    def test_options_that_do_not_exist_are_refused(self, engine: WorldEngine) -> None:
        with pytest.raises(EngineError, match="expected 1, 2, 4 or 8 steps, got 3"):
            engine.open(OpenRequest("urban_cruise", "front3", 0, SessionOptions(steps=3)))
        with pytest.raises(EngineError, match="expected a tier of exact, safe, balanced, fast"):
            engine.open(OpenRequest("urban_cruise", "front3", 0, SessionOptions(tier="warp")))
        assert not engine.sessions

    def test_a_session_without_layout_runs(self, engine: WorldEngine) -> None:
        opened = engine.open(OpenRequest("urban_cruise", "front3", 0, SessionOptions(layout=False, steps=1)))
        (result,) = self.drive(engine, opened.session, 1)
        assert result.frames.shape == (3, 4, 32, 48, 3)

    def test_waiting_kv_updates_may_run_early_or_late(self, engine: WorldEngine) -> None:
        assert isinstance(engine, DiffusionEngine)
        early = self.open(engine).session
        results = []
        for _ in range(4):
            assert engine.flush() in (0, 1)
            results.append(self.step_one(engine, early, controls(0.02)))
        late = self.open(engine).session
        for result in results:
            self.assert_same(result, self.step_one(engine, late, controls(0.02)))

    def test_a_chunk_with_nan_fails_alone_and_is_not_committed(self, engine: WorldEngine) -> None:
        assert isinstance(engine, DiffusionEngine)
        healthy, sick, witness = (self.open(engine).session for _ in range(3))
        for session in (healthy, sick, witness):
            self.drive(engine, session, 1)
        engine.flush()
        memory = engine._sessions[sick].generator
        good = memory.source.clone()
        memory.source.fill_(torch.nan)
        results = engine.step({healthy: controls(0.0), sick: controls(0.0)})
        assert isinstance(results[healthy], ChunkResult)
        assert isinstance(results[sick], EngineError)
        assert "NaN" in str(results[sick])
        memory.source.copy_(good)  # the same tensor: the failed chunk must have left everything in place
        again = engine.step({sick: controls(0.0)})[sick]
        expected = engine.step({witness: controls(0.0)})[witness]
        assert isinstance(again, ChunkResult)
        assert isinstance(expected, ChunkResult)
        assert np.abs(again.frames.astype(int) - expected.frames.astype(int)).max() <= 1
