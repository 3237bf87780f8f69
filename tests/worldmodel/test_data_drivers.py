"""Drivers by name: deterministic, within the limits of actions, and the perturbed one really errs and recovers."""

import numpy as np
import pytest

from worldmodel.data.drive import achieved_deltas, drive
from worldmodel.data.drivers import DRIVERS, make_driver
from worldmodel.data.perturbed import DISTURBANCES
from worldmodel.scene.actions import validate
from worldmodel.scene.scenario import load_scenario
from worldmodel.scene.scene import Scene
from worldmodel.scene.state import pose_delta


@pytest.mark.parametrize("name", list(DRIVERS))
def test_every_driver_gives_valid_actions_and_the_same_ones_again(name: str) -> None:
    first, second = (drive("u_turn", 3, name, 2.0) for _ in range(2))
    np.testing.assert_array_equal(first.actions, second.actions)
    chunks = list(first.chunks())
    assert len(chunks) == 6
    for action in chunks:
        validate(action)
    assert len(first.frames) == len(first.checks) == len(first.actions) == 25


def test_playing_the_actions_again_gives_the_same_drive() -> None:
    driven = drive("u_turn", 3, "perturbed", 4.0)
    scene = Scene(load_scenario("u_turn"), 3)
    frames = [scene.frame] + [frame for action in driven.chunks() for frame in scene.step(action)]
    assert frames == driven.frames


def test_deltas_carry_the_ego_from_frame_to_frame() -> None:
    driven = drive("u_turn", 3, "expert", 1.0)
    deltas = achieved_deltas(driven.frames)
    assert not deltas[0].any()
    np.testing.assert_allclose(deltas[7], pose_delta(driven.frames[6].ego, driven.frames[7].ego), atol=1e-6)


def test_a_perturbed_expert_strays_from_what_the_expert_does() -> None:
    expert, perturbed = (drive("u_turn", 3, name, 8.0) for name in ("expert", "perturbed"))
    count = min(len(expert.actions), len(perturbed.actions))
    differs = (np.abs(expert.actions[:count] - perturbed.actions[:count]) > 1e-6).any(axis=1)
    assert not differs[:12].any()  # calm for a second at least
    assert differs.any()


@pytest.mark.parametrize("name", list(DISTURBANCES))
def test_every_disturbance_changes_something(name: str) -> None:
    from worldmodel.data.perturbed import CALM

    assert DISTURBANCES[name](np.random.default_rng(0)) != CALM


def test_an_unknown_driver_is_refused_with_the_valid_names() -> None:
    with pytest.raises(ValueError, match=r"expected a driver of expert, .*got 'chauffeur'"):
        make_driver("chauffeur", Scene(load_scenario("u_turn"), 0), 0)
