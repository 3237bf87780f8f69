"""Measures that need a scene: overlap of cameras, road users, the bare warp, and pooled errors."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldmodel.diffusion.conditions import poses_from
from worldmodel.fidelity import (
    agents_present,
    bare_warp,
    cross_view_error,
    mean_square,
    pair_is_right,
    psnr,
    psnr_of,
    relative_error,
)
from worldmodel.layout import LayoutRenderer
from worldmodel.reference.renderer import ReferenceRenderer
from worldmodel.rig import load_rig
from worldmodel.scene.scenario import load_scenario
from worldmodel.scene.scene import Scene
from worldmodel.testing import controls

RIG = load_rig("front3").scaled(64, 112)


@pytest.fixture(scope="module")
def scene() -> Scene:
    torch.set_num_threads(1)
    return Scene(load_scenario("urban_cruise"), 3)


@pytest.fixture(scope="module")
def states(scene):
    return [scene.frame, *scene.step(controls(0.0))]


@pytest.fixture(scope="module")
def pictures(scene, states):
    return torch.from_numpy(ReferenceRenderer(RIG).render(scene.world, scene.atmosphere, states))


@pytest.fixture(scope="module")
def depth(scene, states):
    return torch.from_numpy(LayoutRenderer(RIG, stride=1).render(scene.world, states).depth_m)


def test_true_pictures_agree_where_cameras_overlap_and_others_do_not(pictures, depth):
    true = cross_view_error(pictures[:, 0], depth[0], RIG)
    mixed = cross_view_error(pictures[[0, 2, 1], 0], depth[0], RIG)
    assert true < 12
    assert mixed > 2 * true
    alone = RIG.subset(("front_wide",))
    assert math.isnan(cross_view_error(pictures[:1, 0], depth[0, :1], alone))


def test_road_users_are_missed_where_they_are_painted_over(scene, states, pictures):
    moment, cameras = states[-1], RIG.cameras
    bare = ReferenceRenderer(RIG).render(scene.world, scene.atmosphere, [replace(moment, agents=())])
    there, empty = pictures[:, -1], torch.from_numpy(bare)[:, 0]
    present, visible = agents_present(there, there, empty, cameras, moment.ego, moment.agents)
    assert present == visible > 0
    assert agents_present(empty, there, empty, cameras, moment.ego, moment.agents) == (0, visible)


def test_the_bare_warp_beats_the_old_picture_and_knows_its_own_moment(states, pictures, depth):
    poses = poses_from(states[0].ego, [states[0], states[-1]])
    warped = bare_warp(pictures[:, 0], depth[0], depth[[0, -1]], poses, RIG)
    assert psnr(warped[:, 0], pictures[:, 0]).min() > 30
    assert psnr(warped[:, 1], pictures[:, -1]).mean() > psnr(pictures[:, 0], pictures[:, -1]).mean() + 1


def test_a_relative_error_is_pooled_and_has_a_floor():
    assert relative_error([1.0, 3.0], [1.0, 2.0], 0.1) == pytest.approx(1 / 3)
    assert relative_error([0.1], [0.0], 0.05) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="expected as many values found as wanted"):
        relative_error([], [], 1.0)


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_a_pair_is_right_when_it_moves_apart_the_right_way_and_far_enough(left: float, right: float):
    assert pair_is_right((left, right), (0.1, -0.1)) == (left - right >= 0.1)
    assert pair_is_right((right, left), (-0.1, 0.1)) == (left - right >= 0.1)


def test_pooled_psnr_is_that_of_the_mean_error():
    a, b = torch.full((1, 4, 4, 3), 10.0), torch.zeros(1, 4, 4, 3)
    assert psnr_of([mean_square(a, b)]) == pytest.approx(float(psnr(a, b)[0]), abs=1e-3)
    assert psnr_of([0.0, 100.0]) == pytest.approx(psnr_of([50.0, 50.0]))
    assert psnr_of([0.0]) == 100.0
