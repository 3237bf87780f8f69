import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodel.layout import CHANNELS as LAYOUT
from worldmodel.model.checkpoint import CheckpointError, load_checkpoint
from worldmodel.model.config import ConfigError, DepthConfig, DiTConfig, TokenizerConfig
from worldmodel.model.depth import load_depth
from worldmodel.model.tokenizer import Tokenizer
from worldmodel.model.world_model import load_world_model
from worldmodel.rig import Rig
from worldmodel.rig.camera import Camera
from worldmodel.training.assemble import assemble
from worldmodel.training.average import average
from worldmodel.training.batches import (
    Place,
    blind,
    draw_sequences,
    draw_views,
    load_row,
    stack_rows,
)
from worldmodel.training.clips import Clip, ClipError, open_clips
from worldmodel.training.config import (
    DecoderRun,
    DepthRun,
    DynamicsRun,
    OptimizerConfig,
    TokenizerRun,
    load_run,
)
from worldmodel.training.decoder_task import DecoderTask
from worldmodel.training.depth_task import DepthTask
from worldmodel.training.dynamics_task import DynamicsTask
from worldmodel.training.encode import encode_clips
from worldmodel.training.judge import judge, row
from worldmodel.training.progress import STATE_FILE
from worldmodel.training.rollout import RolledClip, RolloutOptions, roll_out
from worldmodel.training.runs import check_encoded
from worldmodel.training.scores import rollout_scores
from worldmodel.training.synthetic import CHANNELS, write_synthetic_clips
from worldmodel.training.tokenizer_file import load_tokenizer
from worldmodel.training.tokenizer_task import TokenizerTask
from worldmodel.training.trainer import WEIGHTS_FILE, train
from worldmodel.training.widen import widen

FRONT = Camera("front", "pinhole", 48, 32, 30.0, 30.0, 24.0, 16.0, (1.5, 0.0, 1.6), 0.0, -0.2, 0.0, "front")
RIG = Rig("pair", (FRONT, replace(FRONT, name="left", yaw_rad=0.8, group="side")))
TOKENIZER = TokenizerConfig(channels=8, widths=(16, 16, 16), decoder_blocks=1, guide_channels=CHANNELS)
DIT = DiTConfig(width=64, depth=2, layout_channels=CHANNELS, trunk=(8, 16), window=3)
LATENTS = 10


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoded clips that keep their frames."""
    folder = tmp_path_factory.mktemp("clips")
    clips = write_synthetic_clips(folder / "clips", RIG, 3, LATENTS)
    torch.manual_seed(0)
    tokenizer = Tokenizer(TOKENIZER).eval().requires_grad_(False)
    task = TokenizerTask(TokenizerRun("", "", steps=1, tokenizer=TOKENIZER), clips, clips, [0])
    task.export(tokenizer.state_dict(), folder / "tokenizer.safetensors", {})
    path = folder / "tokenizer.safetensors"
    encode_clips(clips, load_tokenizer(path), keep_frames=True)
    return folder


@pytest.fixture
def clips(data: Path) -> list[Clip]:
    return open_clips(data / "clips", encoded=True)


def decoder_run(data: Path, out: Path) -> DecoderRun:
    return DecoderRun(
        str(data), str(out), steps=4, batch=2, views=2, tokenizer=str(data / "tokenizer.safetensors")
    )


def dynamics_run(data: Path, out: Path, **changes: object) -> DynamicsRun:
    run = DynamicsRun(
        data=str(data),
        out=str(out),
        tokenizer=str(data / "tokenizer.safetensors"),
        steps=30,
        batch=4,
        dit=DIT,
        latents=3,
        views=2,
        wide_every=0,
        cycles=(1, 2),
        recycle_chunks=2,
        guess_until=0.0,
        recycle_every=4,
        log_every=5,
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=5, ema_decay=0.9),
    )
    return replace(run, **changes)


def column(folder: Path, name: str) -> list[float]:
    """One column of a run's log."""
    with (folder / "log.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def test_thirty_steps_of_dynamics_lower_the_loss_and_leave_a_loadable_model(
    data: Path, clips: list[Clip], tmp_path: Path
) -> None:
    run = dynamics_run(data, tmp_path / "run")
    path = train(DynamicsTask(run, clips, clips), run)
    seen = column(tmp_path / "run", "loss_fine")
    assert seen[-1] < 0.8 * seen[0]
    model = load_world_model(str(path))
    assert model.config.dit == DIT
    assert list((tmp_path / "run").glob("rollout_*.png"))


def test_thirty_steps_of_the_tokeniser_lower_the_loss(data: Path, clips: list[Clip], tmp_path: Path) -> None:
    run = TokenizerRun(
        str(data),
        str(tmp_path),
        steps=30,
        log_every=5,
        batch=4,
        tokenizer=TOKENIZER,
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=5, ema_decay=0.8),
    )
    task = TokenizerTask(run, clips, clips, [0])
    train(task, run)
    seen = column(tmp_path, "loss")
    assert seen[-1] < 0.9 * seen[0]
    assert load_checkpoint(tmp_path / WEIGHTS_FILE).notes["steps"] == 30


def test_polishing_the_decoder_leaves_every_latent_as_it_was(
    data: Path, clips: list[Clip], tmp_path: Path
) -> None:
    before = load_tokenizer(data / "tokenizer.safetensors")
    run = decoder_run(data, tmp_path)
    after = load_tokenizer(train(DecoderTask(run, clips, clips, [0]), run))
    frames, latents = torch.rand(2, 4, 3, 32, 48), torch.randn(2, 8, 2, 3)
    torch.testing.assert_close(after.encode(frames), before.encode(frames))
    assert not torch.equal(after.decode(latents), before.decode(latents))


def test_an_encoder_may_move_with_its_decoder_and_goes_into_a_model_when_told_to(
    data: Path, clips: list[Clip], tmp_path: Path
) -> None:
    run = dynamics_run(data, tmp_path / "model", steps=1)
    model = train(DynamicsTask(run, clips, clips), run)
    polish = replace(decoder_run(data, tmp_path / "p"), move_encoder=True, square_weight=10.0)
    polished = train(DecoderTask(polish, clips, clips, [0]), polish)
    assert column(tmp_path / "p", "latents_moved")[-1] > 0
    with pytest.raises(CheckpointError, match="expected the encoder that the model was trained with"):
        assemble(model, tmp_path / "bad.safetensors", polished)
    assemble(model, tmp_path / "new.safetensors", polished, moved_encoder=True)
    before, after = load_world_model(str(model)), load_world_model(str(tmp_path / "new.safetensors"))
    frames = torch.rand(2, 4, 3, 32, 48)
    moved = (after.tokenizer.encode(frames) - before.tokenizer.encode(frames)).abs().max()
    assert 0 < moved < 1
    assert not (tmp_path / "bad.safetensors").exists()


def test_a_polished_decoder_moves_into_a_model_and_another_encoder_is_refused(
    data: Path, clips: list[Clip], tmp_path: Path
) -> None:
    run = dynamics_run(data, tmp_path / "model", steps=1)
    model = train(DynamicsTask(run, clips, clips), run)
    shipped = data / "tokenizer.safetensors"
    polish = decoder_run(data, tmp_path / "p")
    polished = train(DecoderTask(polish, clips, clips, [0]), polish)
    assemble(model, tmp_path / "new.safetensors", polished)
    before, after = load_world_model(str(model)), load_world_model(str(tmp_path / "new.safetensors"))
    frames, latents = torch.rand(2, 4, 3, 32, 48), torch.randn(2, 8, 2, 3)
    torch.testing.assert_close(after.tokenizer.encode(frames), before.tokenizer.encode(frames))
    assert not torch.equal(after.tokenizer.decode(latents), before.tokenizer.decode(latents))

    other = TokenizerRun(
        str(data), str(tmp_path / "o"), steps=2, batch=2, tokenizer=TOKENIZER, init=str(shipped)
    )
    with pytest.raises(CheckpointError, match="expected the encoder that the model was trained with"):
        assemble(model, tmp_path / "bad.safetensors", train(TokenizerTask(other, clips, clips, [0]), other))


def test_a_hundred_steps_of_depth_lower_the_loss_and_go_into_a_model(
    data: Path, clips: list[Clip], tmp_path: Path
) -> None:
    shutil.copytree(data / "clips", tmp_path / "walled")
    for path in (tmp_path / "walled").rglob("depth.npy"):
        np.save(path, np.load(path).clip(max=12))  # a wall behind what fresh weights know: flat ground
    clips = open_clips(tmp_path / "walled")
    run = DepthRun(
        str(data),
        str(tmp_path / "d"),
        steps=100,
        log_every=5,
        batch=8,
        depth=DepthConfig(widths=(8, 8, 8)),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=5, ema_decay=0.8),
    )
    weights = train(DepthTask(run, clips, clips), run)
    seen = column(tmp_path / "d", "loss")
    assert seen[-1] < 0.5 * seen[0]
    assert column(tmp_path / "d", "held_out_agree")[-1] > column(tmp_path / "d", "ground_agree")[-1]
    assert list((tmp_path / "d").glob("sample_*.png"))
    dynamics = dynamics_run(data, tmp_path / "model", steps=1)
    model = train(DynamicsTask(dynamics, clips, clips), dynamics)
    assemble(model, tmp_path / "new.safetensors", depth=weights)
    made, own = load_world_model(str(tmp_path / "new.safetensors")).depth, load_depth(weights)
    torch.testing.assert_close(made.state_dict(), own.state_dict())
    with pytest.raises(ConfigError, match="DepthConfig: expected keys among widths, blocks"):
        assemble(model, tmp_path / "bad.safetensors", depth=model)
    with pytest.raises(ValueError, match="got neither"):
        assemble(model, tmp_path / "bad.safetensors")
    assert not (tmp_path / "bad.safetensors").exists()


def test_averaging_goes_a_share_of_the_way_from_one_network_to_another(
    data: Path, clips: list[Clip], tmp_path: Path
) -> None:
    start = dynamics_run(data, tmp_path / "a", steps=1)
    first = train(DynamicsTask(start, clips, clips), start)
    further = replace(start, out=str(tmp_path / "b"), init=str(first), seed=1, steps=3)
    second = train(DynamicsTask(further, clips, clips), further)
    average(first, second, tmp_path / "mixed.safetensors", network=0.25)
    before, after, mixed = (
        load_checkpoint(path).tensors for path in (first, second, tmp_path / "mixed.safetensors")
    )
    name = "dit.embed.guess.weight"
    assert not torch.equal(before[name], after[name])
    wanted = 0.75 * before[name].float() + 0.25 * after[name].float()
    torch.testing.assert_close(mixed[name].float(), wanted, rtol=1e-2, atol=1e-4)
    load_world_model(str(tmp_path / "mixed.safetensors"))

    wider = dynamics_run(data, tmp_path / "c", steps=1, dit=replace(DIT, depth=1))
    other = train(DynamicsTask(wider, clips, clips), wider)
    with pytest.raises(CheckpointError, match="expected DiTConfig"):
        average(first, other, tmp_path / "bad.safetensors")
    assert not (tmp_path / "bad.safetensors").exists()


def test_a_widened_model_makes_the_same_pictures_and_reads_more_channels(
    data: Path, clips: list[Clip], tmp_path: Path
) -> None:
    run = dynamics_run(data, tmp_path / "a", steps=2)
    first = train(DynamicsTask(run, clips, clips), run)
    widen(first, tmp_path / "wide.safetensors", CHANNELS + 2)
    narrow, wide = load_world_model(str(first)), load_world_model(str(tmp_path / "wide.safetensors"))
    latents, layout = torch.randn(2, 8, 2, 3), torch.rand(2, 4, CHANNELS, 8, 12)
    more = torch.cat([layout, torch.rand(2, 4, 2, 8, 12)], dim=2)
    torch.testing.assert_close(wide.tokenizer.decode(latents, more), narrow.tokenizer.decode(latents, layout))
    history, vector = torch.rand(2, 16, 8, 12), torch.randn(2, DIT.width)
    inputs = [torch.cat([rasters.flatten(1, 2), history], dim=1) for rasters in (layout, more)]
    seen, same = (m.dit.embed.trunk(x, vector) for m, x in zip((narrow, wide), inputs, strict=True))
    torch.testing.assert_close(same, seen)
    with pytest.raises(CheckpointError, match="expected fewer than 3 layout channels"):
        widen(first, tmp_path / "same.safetensors", CHANNELS)


def test_a_run_that_was_killed_and_resumed_ends_as_if_it_had_never_stopped(
    data: Path, clips: list[Clip], tmp_path: Path
) -> None:
    flat = OptimizerConfig(learning_rate=1e-3, warmup_steps=1, decay_share=1e-9, muon="blocks.")

    def run(name: str, steps: int) -> DynamicsRun:
        return dynamics_run(
            data, tmp_path / name, steps=steps, optimizer=flat, shortcut_start=2.0, recycle_start=2.0
        )

    def go(name: str, steps: int, resume: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        task = DynamicsTask(run(name, steps), clips, clips)
        train(task, run(name, steps), resume)
        return {n: t.clone() for n, t in task.model.state_dict().items()}

    go("stopped", 2, False)
    assert (tmp_path / "stopped" / STATE_FILE).exists()
    stopped, straight = go("stopped", 4, True), go("straight", 4, False)
    assert load_checkpoint(tmp_path / "stopped" / WEIGHTS_FILE).notes["steps"] == 4
    for name, tensor in straight.items():
        torch.testing.assert_close(stopped[name], tensor, atol=1e-5, rtol=1e-4, msg=name)


def test_a_run_can_start_from_shipped_weights_alone(data: Path, clips: list[Clip], tmp_path: Path) -> None:
    run = dynamics_run(data, tmp_path / "first", steps=2)
    path = train(DynamicsTask(run, clips, clips), run)
    second = DynamicsTask(dynamics_run(data, tmp_path / "second", init=str(path)), clips, clips)
    shipped = load_world_model(str(path)).dit.state_dict()
    torch.testing.assert_close(second.model.state_dict(), shipped)


def test_the_first_part_of_a_run_trains_only_what_the_conditions_tell(
    data: Path, clips: list[Clip], tmp_path: Path
) -> None:
    run = dynamics_run(data, tmp_path, steps=4, guess_until=1.0, optimizer=OptimizerConfig(muon="blocks."))
    task = DynamicsTask(run, clips, clips)
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    train(task, run)
    changed = {
        name for name, tensor in task.model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert any(name.startswith("embed.trunk.") for name in changed)
    assert not any(name.startswith(("blocks.", "head.")) for name in changed)


def test_clips_of_another_tokeniser_are_refused(data: Path, clips: list[Clip], tmp_path: Path) -> None:
    torch.manual_seed(1)  # other weights than the fixture has
    task = TokenizerTask(TokenizerRun("", "", steps=1, tokenizer=TOKENIZER), clips, clips, [0])
    task.export(task.model.state_dict(), tmp_path / "other.safetensors", {})
    with pytest.raises(CheckpointError, match="got 3 of another tokeniser"):
        check_encoded(clips, tmp_path / "other.safetensors")
    check_encoded(clips, data / "tokenizer.safetensors")


def test_a_folder_without_clips_and_a_run_without_an_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="expected clips in"):
        open_clips(tmp_path)
    (tmp_path / "run.yaml").write_text("{data: x, out: y}")
    with pytest.raises(ConfigError, match="expected steps or minutes"):
        load_run(TokenizerRun, str(tmp_path / "run.yaml"))


def test_rows_of_a_batch_agree_in_shape_and_history_matches_its_frames(data: Path, clips: list[Clip]) -> None:
    run = dynamics_run(data, Path("unused"), drop_history=0.0, degrade=0.0)
    batch = draw_sequences(clips, run, np.random.default_rng(0), wide=False)
    cond = batch.conditions
    views, latents = batch.clean.shape[1:3]
    assert cond.history is not None
    assert cond.history.shape == (4, views, latents, 4, 4, 8, 12)
    assert cond.layout is not None
    assert cond.layout.shape == (4, views, latents, 4, CHANNELS, 8, 12)
    assert batch.times.shape == batch.given.shape == (4, latents)
    assert (batch.times.diff(dim=1) > 0).all()


def test_a_blind_row_knows_neither_depth_nor_road_users(data: Path, clips: list[Clip]) -> None:
    places = [Place(2, False, 1), Place(4, False, 2)]
    row = load_row(clips[0], places, np.arange(2), sink=False)
    wrong = replace(
        row, depth=row.depth / 3, source_depth=row.source_depth / 2, boxes=torch.zeros_like(row.boxes)
    )
    seen, other = stack_rows([blind(row)], sink=False), stack_rows([blind(wrong)], sink=False)
    torch.testing.assert_close(seen.carried.pictures, other.carried.pictures, rtol=0, atol=0)
    assert not torch.allclose(seen.carried.pictures, stack_rows([row], sink=False).carried.pictures)
    standing = replace(row, poses=torch.zeros_like(row.poses))  # whatever depth says, then it is where it was
    assert float(stack_rows([blind(standing)], sink=False).carried.valid.mean()) > 0.8
    assert seen.conditions.keep_layout is not None
    assert not seen.conditions.keep_layout.any()
    assert stack_rows([row], sink=False).conditions.keep_layout.all()  # type: ignore[union-attr]


def test_newcomers_are_painted_into_rows_that_see_the_layout(data: Path, clips: list[Clip]) -> None:
    row = load_row(clips[0], [Place(2, False, 1), Place(4, False, 2)], np.arange(2), sink=False)
    views, latents, frames, _, *size = row.layout.shape
    crowd = torch.zeros(views, latents, frames, len(LAYOUT), *size, dtype=torch.int8)
    looks = [LAYOUT.index("heading_cos"), LAYOUT.index("color_red")]
    crowd[:, :, :, looks] = 127  # a red car wherever one looks
    seen, painted = stack_rows([row], False).carried, stack_rows([replace(row, layout=crowd)], False).carried
    unseen = seen.valid == 0
    assert unseen.any()
    assert (painted.valid == 1).all()
    change = (
        (painted.pictures - seen.pictures)
        .abs()
        .unflatten(-1, (-1, 4))
        .unflatten(-3, (-1, 4))
        .amax((-1, -3, -5))
    )
    assert (change[unseen] > 0).all()
    assert float(change[unseen].max()) > 0.2
    unpainted = stack_rows([blind(replace(row, layout=crowd))], False).carried
    assert torch.equal(unpainted.valid, stack_rows([blind(row)], False).carried.valid)


def test_views_of_a_row_are_neighbours_and_distinct(clips: list[Clip]) -> None:
    assert sorted(draw_views(clips[0], 2, np.random.default_rng(0))) == [0, 1]
    assert draw_views(clips[0], None, np.random.default_rng(0)).tolist() == [0, 1]


def test_rollouts_are_scored_and_become_the_past_of_training_rows(data: Path, clips: list[Clip]) -> None:
    task = DynamicsTask(dynamics_run(data, Path("unused")), clips, clips)
    views = [np.array([0, 1])] * 2
    rollouts = roll_out(
        task.model, task._tokenizer, clips[:2], [0, 3], views, RolloutOptions(6, steps=2, cycle=2)
    )
    assert rollouts[0].frames.shape == (24, 2, 32, 48, 3)
    scores = rollout_scores(rollouts, task._tokenizer)
    assert {"psnr_1", "psnr_4", "copy_psnr_1", "tokenizer_psnr", "motion_energy_ratio"} <= set(scores)
    rolled = RolledClip(rollouts[1])
    assert rolled.latents == 6
    assert rolled.arrays.latents is not None
    np.testing.assert_array_equal(rolled.truth.latents, clips[1].arrays.latents[3:9])
    assert not np.array_equal(rolled.arrays.latents, rolled.truth.latents)
    batch = draw_sequences([rolled], dynamics_run(data, Path("unused")), np.random.default_rng(0), wide=False)
    assert not torch.equal(batch.clean, batch.context)


def test_judging_changes_one_thing_at_a_time(data: Path, clips: list[Clip], tmp_path: Path) -> None:
    run = dynamics_run(data, tmp_path, steps=1)
    model = load_world_model(str(train(DynamicsTask(run, clips, clips), run)))
    found = dict(judge(model, clips, 4))
    assert next(iter(found)) == "4 steps, cycle 1, window 3"
    assert {"1 steps", "cycle 4", "window 1", "without layout", "fresh noise in every chunk"} <= set(found)
    assert all(np.isfinite(list(scores.values())).all() for scores in found.values())
    assert len({scores["psnr_4"] for scores in found.values()}) > len(found) // 2
    assert model.dit.config.window == 3
    assert row("cycle 4", found["cycle 4"]).count("|") == 7
