"""Flow on the latent grid: what cached residuals are moved by, from known depth and ego motion."""

import math

import pytest
import torch

from worldmodel.diffusion.flow import cell_flow
from worldmodel.model.rays import CameraTensors
from worldmodel.rig import load_rig
from xcache_core import FlowBank

HEIGHT, WIDTH = 96, 160
ROWS, COLUMNS = HEIGHT // 16, WIDTH // 16


@pytest.fixture(scope="module")
def camera() -> CameraTensors:
    """The front camera, as a batch of one rig."""
    return CameraTensors.stack([CameraTensors.from_rig(load_rig("front1").scaled(HEIGHT, WIDTH))])


def flow_of(camera: CameraTensors, depth_m: float, pose: tuple[float, float, float]) -> tuple:
    depth = torch.full((1, 1, HEIGHT // 4, WIDTH // 4), depth_m)
    flow, valid = cell_flow(depth, torch.tensor([[pose]]), camera)
    assert flow.shape == (1, 1, 1, ROWS * COLUMNS, 2)
    return flow.reshape(ROWS, COLUMNS, 2), valid.reshape(ROWS, COLUMNS)


def test_nothing_moves_while_the_car_stands(camera: CameraTensors) -> None:
    flow, valid = flow_of(camera, 20.0, (0.0, 0.0, 0.0))
    assert flow.abs().max() < 1e-3
    assert valid.all()


def test_driving_ahead_content_was_nearer_to_the_middle(camera: CameraTensors) -> None:
    flow, valid = flow_of(camera, 20.0, (3.0, 0.0, 0.0))
    left, right = flow[:, 0, 0], flow[:, -1, 0]
    assert (left > 0.1).all()  # what is at the left edge now was further right, so towards the middle
    assert (right < -0.1).all()
    assert valid.all()


def test_turning_left_moves_everything_and_what_came_into_sight_has_no_source(camera: CameraTensors) -> None:
    flow, valid = flow_of(camera, math.inf, (0.0, 0.0, 0.2))
    middle = flow[ROWS // 2, COLUMNS // 2, 0]
    assert middle < -0.5  # what is in the middle now was to the left
    assert not valid[:, 0].any()
    assert valid[:, -1].all()


def test_moving_features_by_the_flow_puts_them_where_they_are_seen_now(camera: CameraTensors) -> None:
    depth = torch.full((1, 1, HEIGHT // 4, WIDTH // 4), math.inf)
    flow, valid = cell_flow(depth, torch.tensor([[[0.0, 0.0, -0.2]]]), camera)
    bank = FlowBank(flow.movedim(2, 0), valid.movedim(2, 0), (1, ROWS, COLUMNS))
    column = torch.arange(COLUMNS, dtype=torch.float32).repeat(ROWS)[None, None, :, None]
    moved, known = bank(column, torch.ones(1, 1, ROWS * COLUMNS))
    shift = (moved - column)[..., 0][known]
    assert (shift > 0.5).all()  # turning right, everything was further right
