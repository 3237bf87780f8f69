"""The diffusion engine keeps the engine contract, with a small untrained network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from worldmodel.diffusion import DiffusionEngine
from worldmodel.diffusion.first_images import resized
from worldmodel.engine import ChunkResult, EngineError, OpenRequest, SessionOptions, WorldEngine
from worldmodel.model.config import ConfigError, DiTConfig, ModelConfig, TokenizerConfig
from worldmodel.model.rays import CameraTensors
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

    def test_without_layout_depth_is_that_of_the_pictures_of_the_last_commit(
        self, engine: WorldEngine
    ) -> None:
        assert isinstance(engine, DiffusionEngine)
        options = SessionOptions(layout=False, steps=1)
        session, other = (
            engine.open(OpenRequest("urban_cruise", "front3", 0, options)).session for _ in "ab"
        )
        self.drive(engine, session, 2)
        engine.flush()
        chosen = engine._session(session)
        rig = chosen.rig.scaled(engine.config.height, engine.config.width)
        cameras = CameraTensors.stack([CameraTensors.from_rig(rig)])
        pictures = chosen.generator.source[None].float() / 255
        expected = engine.model.depth.estimate(pictures, cameras)[0]
        torch.testing.assert_close(chosen.generator.source_depth, expected)
        restored = engine.restore(engine.snapshot(session))
        forked = engine.fork(session, 1)[0]
        self.drive(engine, other, 2)  # and its depth only when it goes on
        results = [self.drive(engine, one, 1)[0] for one in (session, restored, forked, other)]
        for result in results[1:]:
            self.assert_same(results[0], result)

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

    def test_frames_come_at_the_size_that_is_asked_for(self, engine: WorldEngine) -> None:
        own = engine.open(OpenRequest("urban_cruise", "front3", 0))
        small = engine.open(OpenRequest("urban_cruise", "front3", 0, SessionOptions(size=(24, 36))))
        assert own.frames.shape[2:4] == (32, 48)
        assert small.frames.shape == (3, 1, 24, 36, 3)
        large = engine.open(OpenRequest("urban_cruise", "front3", 0, SessionOptions(size=(64, 96))))
        results = engine.step({one.session: controls(0.0) for one in (own, small, large)})
        plain, reduced, enlarged = (results[one.session] for one in (own, small, large))
        assert isinstance(plain, ChunkResult)
        assert isinstance(reduced, ChunkResult)
        assert isinstance(enlarged, ChunkResult)
        assert reduced.frames.shape == (3, 4, 24, 36, 3)
        expected = resized(torch.from_numpy(plain.frames).movedim(-1, 2).float() / 255, (64, 96)) * 255
        assert np.abs(enlarged.frames - expected.movedim(2, -1).numpy()).max() < 2  # rounded once more
        restored = engine.restore(engine.snapshot(small.session))
        (again,) = self.drive(engine, restored, 1)
        assert again.frames.shape == (3, 4, 24, 36, 3)

    @pytest.mark.parametrize("size", [(8, 40), (32, 5000), (32,), (32.0, 48)])
    def test_an_impossible_size_is_refused(self, engine: WorldEngine, size: tuple[int, int]) -> None:
        with pytest.raises(EngineError, match="expected frames of 16 to 4096 rows and columns"):
            engine.open(OpenRequest("urban_cruise", "front3", 0, SessionOptions(size=size)))
        assert not engine.sessions

    def test_a_session_opens_on_images_of_ones_own(self, engine: WorldEngine) -> None:
        options = SessionOptions(cameras=("front_wide", "side_front_left"), layout=False)
        colours = {"front_wide": (200, 40, 40), "side_front_left": (40, 40, 200)}
        images = {name: np.full((256, 448, 3), colour, np.uint8) for name, colour in colours.items()}
        opened = engine.open(OpenRequest("urban_cruise", "front3", 0, options, images))
        assert opened.frames.shape == (2, 1, 32, 48, 3)
        for picture, colour in zip(opened.frames, colours.values(), strict=True):
            assert (picture == colour).all()
        plain = engine.open(OpenRequest("urban_cruise", "front3", 0, options))
        results = engine.step({opened.session: controls(0.0), plain.session: controls(0.0)})
        mine, theirs = results[opened.session], results[plain.session]
        assert isinstance(mine, ChunkResult)
        assert isinstance(theirs, ChunkResult)
        assert not np.array_equal(mine.frames, theirs.frames)  # what was seen first lives on

    @pytest.mark.parametrize(
        ("images", "words"),
        [
            ({}, "expected images of front_wide, got none"),
            ({"rear": np.zeros((64, 112, 3), np.uint8)}, "expected images of front_wide, got rear"),
            ({"front_wide": np.zeros((64, 112), np.uint8)}, "expected an image uint8 .* got uint8"),
            ({"front_wide": np.zeros((64, 112, 3), np.float32)}, "got float32"),
            ({"front_wide": [[0]]}, "got list"),
            ({"front_wide": np.zeros((8, 14, 3), np.uint8)}, "at least 16 pixels of front_wide, got 8x14"),
            ({"front_wide": np.zeros((64, 64, 3), np.uint8)}, "1.750 times as wide as high"),
        ],
    )
    def test_images_that_do_not_fit_are_refused(
        self, engine: WorldEngine, images: dict[str, np.ndarray], words: str
    ) -> None:
        options = SessionOptions(cameras=("front_wide",))
        with pytest.raises(EngineError, match=words):
            engine.open(OpenRequest("urban_cruise", "front3", 0, options, images))
        assert not engine.sessions

    def test_a_compile_mode_that_does_not_exist_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"expected a compile mode of default, .* got 'warp'"):
            DiffusionEngine(small_model(), compile="warp")

    def test_a_model_for_other_layouts_is_refused_with_the_way_out(self) -> None:
        narrow = replace(CONFIG, dit=replace(CONFIG.dit, layout_channels=23))
        with pytest.raises(
            ConfigError, match=r"expected a model for layouts of 26 channels, got one for 23 .*widen"
        ):
            DiffusionEngine(build_world_model(narrow))

    def test_a_chunk_with_nan_fails_alone_and_is_not_committed(self, engine: WorldEngine) -> None:
        assert isinstance(engine, DiffusionEngine)
        healthy, sick, witness = (self.open(engine).session for _ in range(3))
        for session in (healthy, sick, witness):
            self.drive(engine, session, 1)
        engine.flush()
        kv, slot = engine._loop.pool(engine._sessions[sick]).kv, engine._sessions[sick].generator.slot
        good = kv.slot_state(slot)
        kv.load_slot_state(slot, {**good, "v": torch.full_like(good["v"], torch.nan)})
        results = engine.step({healthy: controls(0.0), sick: controls(0.0)})
        assert isinstance(results[healthy], ChunkResult)
        assert isinstance(results[sick], EngineError)
        assert "NaN" in str(results[sick])
        kv.load_slot_state(slot, good)  # nothing else: the failed chunk must have left everything in place
        again = engine.step({sick: controls(0.0)})[sick]
        expected = engine.step({witness: controls(0.0)})[witness]
        assert isinstance(again, ChunkResult)
        assert isinstance(expected, ChunkResult)
        assert np.abs(again.frames.astype(int) - expected.frames.astype(int)).max() <= 1
