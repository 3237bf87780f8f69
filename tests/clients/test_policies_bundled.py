"""What the bundled policies do with a world, and which actions of a policy are taken."""

from typing import Any

import numpy as np
import pytest

from clients.observation import Observation
from clients.policies import EpisodeInfo, PolicyError, checked_actions, load_policy, policy_names
from clients.policies.lane_keeper import LaneKeeper
from clients.protocol import ActionSpace

SPACES = {
    "controls": ActionSpace(
        name="controls", columns=["steering", "accel"], low=[-0.6, -8.0], high=[0.6, 4.0]
    ),
    "pose_delta": ActionSpace(
        name="pose_delta", columns=["dx", "dy", "dyaw"], low=[-1.0, -1.0, -0.4], high=[5.0, 1.0, 0.4]
    ),
}
INFO = EpisodeInfo("highway_cruise", 7, 4, 1 / 12, SPACES, ("front",), policy_seed=3)


def seen(speed: float = 10.0, offset: float = 0.0, heading: float = 0.0, **metrics: Any) -> Observation:
    """A car that goes straight along x, on a straight road along x."""
    ego = np.array([[(k - 3) * speed / 12, offset, heading, speed, 0.0, 0.0, 0.0] for k in range(4)])
    agents = np.array(metrics.pop("agents", []), np.float32).reshape(-1, 8)
    checks = {"lane_offset_m": [offset] * 4, "heading_error_rad": [heading] * 4}
    checks |= {"speed_limit_mps": [14.0] * 4, "time_s": [0.0] * 4}
    return Observation("s", 0, {}, "raw", {}, ego, agents, ["car"] * len(agents), checks | metrics)


def act(spec: str, observation: Observation) -> np.ndarray:
    policy = load_policy(spec).make()
    policy.reset(INFO)
    return checked_actions(policy.act(observation), INFO, getattr(policy, "space", "controls"))


def test_idle_commands_nothing_and_constant_what_it_is_told() -> None:
    assert not act("idle", seen()).any()
    np.testing.assert_allclose(act("constant?steering=0.1&accel=-2", seen()), np.tile([[0.1, -2.0]], (4, 1)))


def test_stop_brakes_while_it_moves_and_then_no_more() -> None:
    assert (act("stop?brake_mps2=4", seen(speed=10.0))[:, 1] == -4.0).all()
    assert not act("stop", seen(speed=0.0)).any()


def test_constant_speed_returns_to_its_speed() -> None:
    assert act("constant_speed?speed_mps=12", seen(speed=10.0))[0, 1] > 0
    assert act("constant_speed?speed_mps=8", seen(speed=10.0))[0, 1] < 0
    assert act("constant_speed", seen(speed=10.0))[0, 1] == 0


def test_random_repeats_with_the_episode_seed_and_stays_within_its_share_of_the_bounds() -> None:
    first, again = (act("random?scale=0.5", seen()) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (np.abs(first[:, 0]) <= 0.3).all()
    assert len(np.unique(first[:, 1])) == 4
    assert (act("random?scale=0.5&seed=1", seen()) != first).any()
    assert act("random?space=pose_delta", seen()).shape == (4, 3)


@pytest.mark.parametrize(("offset", "heading"), [(1.0, 0.0), (0.0, 0.1), (-1.0, -0.1)])
def test_the_lane_keeper_steers_back(offset: float, heading: float) -> None:
    assert np.sign(act("lane_keeper", seen(offset=offset, heading=heading))[0, 0]) == -np.sign(
        offset + heading
    )


def test_the_lane_keeper_brakes_for_who_is_ahead_and_not_for_who_is_beside() -> None:
    ahead = (1, 20.0, 0.0, 0.0, 0.0, 4.5, 1.9, 1.5)
    beside = (1, 20.0, 3.5, 0.0, 0.0, 4.5, 1.9, 1.5)
    assert act("lane_keeper", seen(agents=[ahead]))[0, 1] < -4
    assert act("lane_keeper", seen(agents=[beside]))[0, 1] == act("lane_keeper", seen())[0, 1] > 0
    assert act("lane_keeper?sees=false", seen(agents=[ahead]))[0, 1] > 0


def test_the_lane_keeper_feels_the_bend_that_it_is_in() -> None:
    keeper = LaneKeeper()
    keeper.reset(INFO)
    # The route turns left at 0.05 / m; a car that goes straight at 6 m/s falls behind by 0.025 rad a frame.
    for _ in range(6):
        steering = keeper.act(seen(speed=6.0, heading_error_rad=[0.0, -0.025, -0.05, -0.075]))[0, 0]
    assert steering == pytest.approx(np.arctan(2.8 * 0.05) + 0.075, abs=0.01)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.0, 1.0, 2.0], r"shape \(4, 2\) or \(2,\), got \(3,\)"),
        (np.zeros((3, 2)), r"got \(3, 2\)"),
        ([0.0, np.nan], "finite"),
        ([0.0, 9.0], r"accel in \[-8, 4\], got 9"),
        ("fast", "numbers, got str"),
        (None, "shape"),
    ],
)
def test_what_is_no_action_is_the_policys_error(values: Any, words: str) -> None:
    with pytest.raises(PolicyError, match=words if values is not None else "expected"):
        checked_actions(values, INFO, "controls")


def test_actions_out_of_bounds_are_clipped_only_if_asked() -> None:
    np.testing.assert_allclose(
        checked_actions([1.0, -20.0], INFO, "controls", clip=True), np.tile([[0.6, -8.0]], (4, 1))
    )
    with pytest.raises(PolicyError, match="expected an action space of controls, pose_delta, got 'wishes'"):
        checked_actions([0.0], INFO, "wishes")


def test_every_bundled_policy_that_needs_no_file_server_or_picture_acts() -> None:
    for name in set(policy_names()) - {"schedule", "replay", "remote", "expert", "vision"}:
        assert act(name, seen()).shape == (4, 2), name
