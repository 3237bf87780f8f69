"""The pieces of training that need no clip: what is drawn, what is lost, how the rate goes."""

import numpy as np
import pytest
import torch

from worldmodel.training.batches import Place, draw_places
from worldmodel.training.config import OptimizerConfig
from worldmodel.training.forcing import draw_levels, forcing_loss
from worldmodel.training.losses import energy_loss
from worldmodel.training.optimizer import Ema, learning_rate


@pytest.mark.parametrize("seed", range(20))
def test_drawn_sequences_stay_inside_the_clip_and_keep_their_gaps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = draw_places(30, 6, (1, 2, 4), True, rng)
    sink, first, *others = places
    assert sink.still
    assert 0 <= sink.index <= 30
    assert all(0 <= p.index < 30 for p in places if not p.still)
    before = first.index - 1 if first.still else first.index
    for place in others:
        assert place.index - before == place.gap
        assert 1 <= place.gap <= 4
        before = place.index


def test_noise_levels_leave_given_frames_alone_and_put_coarse_rows_on_their_grid() -> None:
    given = torch.zeros(64, 5, dtype=torch.bool)
    given[:, 0] = True
    levels = draw_levels(given, 16, 0.875, False, torch.Generator().manual_seed(0))
    assert not levels.target[:, 0].any()
    assert (levels.tau[:, 0] >= 0.85).all()
    coarse = levels.target[:16]
    ratio = (levels.tau[:16] / levels.size[:16])[coarse]
    torch.testing.assert_close(ratio, ratio.round())
    assert (levels.size[16:] == 0.125).all()
    assert (levels.tau <= 1).all()


def test_the_loss_of_a_perfect_network_is_zero_also_for_coarse_steps() -> None:
    clean, noise = torch.randn(4, 2, 3, 8, 2, 3), torch.randn(4, 2, 3, 8, 2, 3)
    levels = draw_levels(
        torch.zeros(4, 3, dtype=torch.bool), 2, 0.875, False, torch.Generator().manual_seed(1)
    )
    loss, _ = forcing_loss(lambda x, tau, size: clean[: len(x)], clean, clean, noise, levels, 2, 0.5)
    assert loss.item() < 1e-8


def test_the_learning_rate_warms_up_holds_and_decays_to_its_end() -> None:
    config = OptimizerConfig(learning_rate=1.0, final_learning_rate=0.0, warmup_steps=10, decay_share=0.5)
    rates = [
        learning_rate(config, step, progress)
        for step, progress in ((0, 0.0), (9, 0.1), (99, 0.5), (150, 0.75), (200, 1.0))
    ]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.0])


def test_the_moving_average_follows_the_weights() -> None:
    model = torch.nn.Linear(2, 2)
    ema = Ema.of(model, 0.5)
    start = ema.weights["weight"].clone()
    model.weight.data += 1.0
    for _ in range(60):
        ema.update(model)
    torch.testing.assert_close(ema.weights["weight"], start + 1.0)


def test_a_place_names_what_it_is() -> None:
    assert Place(3, False, 2) == Place(index=3, still=False, gap=2)


def test_energy_minds_how_strong_texture_is_and_not_where_its_lines_are() -> None:
    ramp = torch.arange(64.0)
    frames = (0.5 + 0.5 * torch.sin(ramp * np.pi / 4)).expand(1, 4, 3, 64, 64)
    moved = torch.stack([frames[:, k].roll(k, -1) for k in range(4)], dim=1)  # a stripe passes by
    shifted = moved.roll(4, -1)
    blurred = 0.3 * (moved - 0.5) + 0.5
    frozen = frames
    assert energy_loss(moved, moved) == 0
    assert float((moved - shifted).abs().mean()) > 0.5
    assert energy_loss(shifted, moved) < 0.02 < 0.1 < energy_loss(blurred, moved)
    assert energy_loss(frozen, moved) > 0.1
