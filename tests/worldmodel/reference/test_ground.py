import gc
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from worldmodel.reference.ground import build_ground_view, ground_textures
from worldmodel.reference.materials import TEXEL_M, material
from worldmodel.reference.paint import MARK_CHANNELS, GroundPainter
from worldmodel.reference.strips import marking_quads, strip
from worldmodel.reference.view import build_view
from worldmodel.reference.weak_cache import WeakCache
from worldmodel.rig import load_rig
from worldmodel.scene.world import Marking


@pytest.fixture(scope="module")
def textures(street):
    return ground_textures(street, "cpu")


def at(texture, x, y, level=0):
    """Unpacked texel at a world position."""
    scale = TEXEL_M * 2**level
    column, row = ((np.asarray(p) - o) / scale for p, o in zip((x, y), texture.origin_m, strict=True))
    column, row = (torch.as_tensor(np.floor(p)).to(torch.int32) for p in (column, row))
    packed = texture.fetch(column, row, torch.full_like(column, level))
    return packed.numpy().view(np.uint8).reshape(*packed.shape, 4)


def area(quads):
    return sum(cv2.contourArea(quad.astype(np.float32)) for quad in quads)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_as_much_is_painted_as_the_vectors_cover_at_every_level(street, textures, level):
    step = TEXEL_M * 2**level
    x, y = np.meshgrid(np.arange(-29.6, 69.6, step), np.arange(-12.4, 12.4, step))
    marks = at(textures.marks, x, y, level).astype(float) / 255
    painted = dict(zip(MARK_CHANNELS, marks.sum(axis=(0, 1)) * step**2, strict=True))
    for name in ("crossing", "stop_line"):
        quads = [q for m in street.markings if m.kind == name for q in marking_quads(m)]
        assert painted[name] == pytest.approx(area(quads), rel=0.08)


def test_paint_lies_where_the_map_says(textures):
    assert at(textures.marks, [5.0, 5.0], [0.0, 1.0])[:, 0].tolist() == [255, 0]
    colour = at(textures.colour, [5.0, 5.0, 5.0], [0.0, 1.0, 20.0])
    assert colour[0, :3].min() > 150 > colour[1, :3].max()
    assert colour[:, 3].tolist() == [255, 255, 0]  # paved, paved, grass


def test_grass_goes_on_without_a_seam_beyond_the_painted_pages(textures):
    x = np.arange(-200, 300, 0.1)
    grass = at(textures.colour, x, np.full_like(x, 11.0)).astype(float)[:, 1]
    far = at(textures.colour, x, np.full_like(x, 60.0)).astype(float)[:, 1]
    assert np.abs(np.diff(grass)).max() < 1.2 * np.abs(np.diff(material("grass")[..., 1])).max()
    assert far.std() > 2


def test_a_strip_keeps_its_width_in_a_bend():
    angles = np.linspace(0, np.pi / 2, 60)
    line = 20 * np.stack([np.cos(angles), np.sin(angles)], 1)
    assert area(strip(line, 0.5)) == pytest.approx(20 * np.pi / 2 * 0.5, rel=0.01)


def test_dashes_paint_their_share_of_the_line():
    line = np.array([[0.0, 0.0], [50.0, 0.0], [90.0, 0.0]])
    dashed = marking_quads(Marking("lane_line", line, 0.2, (3.0, 6.0)))
    assert area(dashed) == pytest.approx(10 * 3.0 * 0.2)


def test_a_crossing_is_stripes_along_the_traffic():
    quads = marking_quads(Marking("crossing", np.array([[20.0, -3.5], [20.0, 3.5]]), 3.0))
    assert len(quads) == 7
    extent = np.ptp(quads, axis=1)
    np.testing.assert_allclose(extent[:, 0], 3.0)  # along x, the traffic
    np.testing.assert_allclose(extent[:, 1], 0.5)


def test_a_world_without_surfaces_is_refused(street):
    with pytest.raises(ValueError, match="expected a world with surfaces"):
        GroundPainter(replace(street, surfaces=(), markings=()))


def test_ground_pixels_sample_the_texture_under_them(textures):
    """The mean over a pixel's samples is the colour of the place where its ray meets the ground."""
    view = build_view(load_rig("front1").scaled(64, 112))
    ground = build_ground_view(view)
    pose = torch.tensor([[3.0, -1.75, np.cos(0.3), np.sin(0.3)]], dtype=torch.float32)
    paved = ground.sample(textures.colour, pose)[3, 0].numpy() / 255
    x, y = (p[0].numpy() for p in ground.world(pose))
    near = ground.distance.numpy() < 30
    on_road = (np.abs(y) < 5.0) & (np.abs(x - 20) < 40) & near
    off_road = (np.abs(y) > 9.0) & near
    assert paved[on_road].min() > 0.97
    assert paved[off_road].max() < 0.03


def test_ground_pixels_are_all_those_that_look_down(rig):
    view = build_view(rig)
    ground = build_ground_view(view)
    rays = view.rays.transpose(2, 3).reshape(-1, 3)
    assert (rays[ground.slot, 2] < 0).all()
    assert (
        len(ground.slot)
        == (view.position[:, 2].repeat_interleave(view.slots // 3) < -rays[:, 2] * 2000).sum()
    )


def test_what_was_made_for_a_world_goes_with_it():
    class World:
        pass

    cache, world, made = WeakCache(keep=2), World(), []
    for key in ("a", "b", "a", "c", "a"):
        cache.get(world, key, lambda key=key: made.append(key) or key)
    assert made == ["a", "b", "c", "a"]
    del world
    gc.collect()
    assert not cache._made
