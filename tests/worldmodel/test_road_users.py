"""Boxes carry their points along."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldmodel.model.reproject import moved
from worldmodel.model.road_users import COLUMNS, COUNT, carried_poses, pixel_poses, user_boxes
from worldmodel.scene.state import AgentState, EgoState, SceneFrame, pose_delta

near = st.floats(-30, 30)
angle = st.floats(-math.pi, math.pi)


def frame(ego: EgoState, *agents: AgentState) -> SceneFrame:
    return SceneFrame(0, 0.0, ego, agents, ())


def agent(id: int, x: float, y: float, yaw: float = 0.0) -> AgentState:
    return AgentState(id, "car", x, y, yaw, 5.0, 4.0, 2.0, 1.5, (200, 0, 0))


def boxes(*frames: SceneFrame) -> torch.Tensor:
    return torch.from_numpy(np.stack([user_boxes(one) for one in frames]))


def test_boxes_are_those_of_the_nearest_in_the_ego_frame() -> None:
    ego = EgoState(10.0, 5.0, math.pi / 2, 0.0)
    crowd = [agent(k, 10.0, 10.0 + 3 * k, math.pi / 2) for k in range(COUNT + 5)]
    found = user_boxes(frame(ego, *crowd[::-1]))
    assert found.shape == (COUNT, COLUMNS)
    np.testing.assert_allclose(found[0], [5, 0, 0, 4, 2, 1.5, 0], atol=1e-5)
    assert found[:, 6].tolist() == list(range(COUNT))
    assert (user_boxes(frame(ego))[:, 6] == -1).all()


@given(near, near, angle, near, near, angle)
def test_a_road_user_that_stands_is_carried_as_the_world_is(
    x: float, y: float, yaw: float, ex: float, ey: float, eyaw: float
) -> None:
    start, later = EgoState(0.0, 0.0, 0.3, 0.0), EgoState(ex, ey, eyaw, 0.0)
    before, after = boxes(frame(start, agent(3, x, y, yaw)), frame(later, agent(3, x, y, yaw)))
    poses, known = carried_poses(before[None], after[None, None])
    assert bool(known[0, 0, 0])
    assert not bool(known[0, 0, 1])
    expected = torch.from_numpy(pose_delta(start, later)).float()
    here = torch.tensor([4.0, -2.0, 1.0])
    torch.testing.assert_close(moved(here, poses[0, 0, 0]), moved(here, expected), atol=1e-3, rtol=1e-4)


@given(near, near, angle)
def test_a_road_user_that_keeps_its_place_beside_the_ego_looks_the_same(
    x: float, y: float, yaw: float
) -> None:
    both = boxes(frame(EgoState(0.0, 0.0, 0.0, 0.0), agent(1, x, y, yaw)))
    poses, _ = carried_poses(both, both[:, None])
    here = torch.tensor([4.0, -2.0, 1.0])
    torch.testing.assert_close(moved(here, poses[0, 0, 0]), here, atol=1e-4, rtol=1e-4)


def test_points_on_a_road_user_follow_it_and_others_the_ego() -> None:
    start, later = EgoState(0.0, 0.0, 0.0, 0.0), EgoState(2.0, 0.0, 0.0, 0.0)
    before, after = boxes(
        frame(start, agent(1, 10.0, 0.0)), frame(later, agent(1, 15.0, 0.0), agent(2, 8, 6))
    )
    # In the coming ego frame: on the moving car, on the road below it, on one that was not there, in the open.
    points = torch.tensor([[11.0, 0.0, 1.0], [13.0, 0.0, 0.0], [6.0, 6.0, 1.0], [20.0, -5.0, 0.0]])
    ego = torch.from_numpy(pose_delta(start, later)).float()[None, None]
    poses, seen = pixel_poses(
        points[None, None, None, :, None], ego, before[None], after[None, None]
    )  # one view, one frame, 4 x 1 pixels
    then = moved(points, poses[0, 0, 0, :, 0])
    assert seen[0, 0, 0, :, 0].tolist() == [True, True, False, True]
    torch.testing.assert_close(then[0], torch.tensor([8.0, 0.0, 1.0]))  # 2 m behind its middle, as now
    torch.testing.assert_close(then[[1, 3]], points[[1, 3]] + torch.tensor([2.0, 0.0, 0.0]))
