import numpy as np
import pytest
import torch

from worldmodel.reference import faces
from worldmodel.reference.faces import Kind
from worldmodel.reference.gbuffer import MIN_COVERAGE, GBuffer, geometry
from worldmodel.reference.pairs import find_pairs, to_tensors
from worldmodel.reference.view import build_view
from worldmodel.rig import load_rig

HERE = torch.tensor([[0.0, 0.0, 1.0, 0.0]])


@pytest.fixture(scope="module", params=["front1", "fisheye4"])
def view(request):
    return build_view(load_rig(request.param).scaled(24, 40))


def wall(x, y0, y1, z0, z1, kind=Kind.PAINT):
    """A face across the view, looking back along x."""
    corners = [[[x, y1, z0], [x, y0, z0], [x, y0, z1], [x, y1, z1]]]
    return faces.make(np.array(corners), kind, (200, 100, 50))


def random_faces(seed, count=40):
    """Quads of all sizes and directions around the car."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(count):
        length, width, height = rng.uniform(0.05, 6.0, 3)
        box = faces.prism((0, length), (0, 0.8 * length), (0.0, height), (width, 0.7 * width))
        angle, distance = rng.uniform(-np.pi, np.pi), rng.uniform(2.5, 40.0)
        at = faces.placed(box, distance * np.cos(angle), distance * np.sin(angle), rng.uniform(-3, 3))
        parts.append(faces.make(at, Kind.PAINT, rng.uniform(0, 255, 3)))
    return faces.concat(parts)


def run(view, *face_sets, poses=None):
    poses = HERE.repeat(len(face_sets), 1) if poses is None else poses
    return geometry(view, to_tensors(face_sets, poses), len(face_sets))


def painted(view, buffer: GBuffer, snapshots=1):
    """Per layer: pair, share and distance in every slot."""
    out = []
    for layer in buffer.layers:
        pair = torch.full((snapshots * view.slots,), -1)
        share, distance = torch.zeros(len(pair)), torch.zeros(len(pair))
        pair[layer.pixel], share[layer.pixel], distance[layer.pixel] = (
            layer.pair,
            layer.coverage,
            layer.distance,
        )
        out.append((pair, share, distance))
    return out


def naive(view, face_set):
    """Every pixel against every face, in float64, without tiles, culling by tiles, or keys."""
    pairs = find_pairs(view, to_tensors([face_set], HERE))
    rays = view.rays.transpose(2, 3).reshape(len(view.rig), -1, 3).double().numpy()
    pixel = view.pixel_rad.reshape(len(view.rig), -1).double().numpy()
    edges, inverse, farthest = (t.double().numpy() for t in (pairs.edges, pairs.inverse, pairs.farthest))
    layers = [[], []]
    for slot in range(view.slots):
        camera, inside = divmod(slot, rays.shape[1])
        seen = []
        for k in np.flatnonzero(pairs.camera.numpy() == camera):
            ray = rays[camera, inside]
            shares = np.clip(edges[k] @ ray / pixel[camera, inside] + 0.5, 0, 1)
            share = max(shares[0] + shares[2] - 1, 0) * max(shares[1] + shares[3] - 1, 0)
            if share >= MIN_COVERAGE:
                seen.append((1 / max(inverse[k] @ ray, farthest[k]), k, share))
        seen.sort()
        first, second = (*seen, *[(0.0, -1, 0.0)] * 2)[:2]
        left = 1 - first[2]
        layers[0].append(first)
        layers[1].append(
            (second[0], second[1], min(second[2], left)) if left > MIN_COVERAGE else (0.0, -1, 0.0)
        )
    return [np.array(layer) for layer in layers]


@pytest.mark.parametrize("seed", [0])
def test_the_tiled_pass_equals_every_pixel_against_every_face(view, seed):
    face_set = random_faces(seed)
    for (pair, share, distance), expected in zip(
        painted(view, run(view, face_set)), naive(view, face_set), strict=True
    ):
        # Pixels where two faces are equally near, or a share is at the threshold, may fall either way.
        clear = np.abs(expected[:, 2] - MIN_COVERAGE) > 1e-3
        same = pair.numpy() == expected[:, 1]
        assert same[clear].mean() > 0.998
        np.testing.assert_allclose(share.numpy()[same], expected[same, 2], atol=2e-3)
        np.testing.assert_allclose(distance.numpy()[same], expected[same, 0], rtol=1e-3, atol=1e-3)


def test_distance_is_measured_along_the_ray(view):
    _, share, distance = painted(view, run(view, wall(12.0, -30, 30, -1, 20)))[0]
    rays = view.rays.transpose(2, 3).reshape(-1, 3)
    camera_x = view.position[:, 0].repeat_interleave(view.slots // len(view.rig))
    hit = share == 1
    assert hit.sum() > 100
    np.testing.assert_allclose((camera_x + distance * rays[:, 0])[hit], 12.0, rtol=1e-3)


def test_a_pole_thinner_than_a_pixel_covers_its_share(view):
    pole = wall(30.0, -0.2, 0.2, -50, 50)
    _, share, _ = painted(view, run(view, pole))[0]
    image = view.to_images(share[None])[0, 0]
    columns = 0.4 / (30.0 - view.rig.cameras[0].position_m[0]) * view.rig.cameras[0].fx
    assert columns < 0.4
    assert image.sum(1)[4:16].mean() == pytest.approx(columns, rel=0.2)


def test_the_faces_of_a_box_leave_no_seam_between_them(view):
    """A pixel whose surroundings are all box is box entirely."""
    box = faces.make(
        faces.placed(faces.prism((0, 4), (0, 4), (-1, 3), (2, 2)), 8.0, 0.3, 0.5), Kind.PAINT, (9, 9, 9)
    )
    covered = sum(share for _, share, _ in painted(view, run(view, box)))
    image = view.to_images(covered[None])[0, 0]
    inner = -torch.nn.functional.max_pool2d(-(image > 0.02).float()[None], 5, 1, 2)[0] > 0
    assert inner.sum() > 20
    assert image[inner].min() > 0.99


def test_a_face_that_passes_the_camera_is_cut_nowhere(view):
    """A wall on the left, from far ahead to far behind, fills its side of the picture."""
    corners = [[[80, 3, -5], [-40, 3, -5], [-40, 3, 9], [80, 3, 9]]]
    mirrored = np.array(corners)[:, [1, 0, 3, 2]]
    for wall_corners in (np.array(corners), mirrored):
        share = painted(view, run(view, faces.make(wall_corners, Kind.PAINT, (9, 9, 9))))[0][1]
        image = view.to_images(share[None])[0, 0]
        left = (image[image.shape[0] // 2, : image.shape[1] // 3] == 1).all()
        assert left == (wall_corners is mirrored)


def test_faces_that_look_away_are_not_seen(view):
    behind = wall(12.0, -3, 3, 0, 3)
    turned = faces.Faces(**(vars(behind) | {"corners": behind.corners[:, ::-1].copy()}))
    assert len(run(view, turned).layers[0].pixel) < len(run(view, behind).layers[0].pixel)
    front = find_pairs(view, to_tensors([turned], HERE))
    assert 0 not in front.camera


def test_the_nearest_face_wins_whatever_the_order(view):
    far, near = wall(20.0, -5, 5, 0, 8), wall(10.0, -1, 1, 0, 2)
    one = painted(view, run(view, faces.concat([far, near])))[0]
    other = painted(view, run(view, faces.concat([near, far])))[0]
    assert torch.equal(one[2], other[2])
    assert torch.equal(one[1], other[1])


def test_a_snapshot_does_not_depend_on_its_batch(view):
    sets = [random_faces(seed, 12) for seed in range(3)]
    poses = torch.tensor([[0.0, 0, 1, 0], [1.0, 2.0, 0.6, 0.8], [-3.0, 1.0, 0.0, 1.0]])
    together = painted(view, run(view, *sets, poses=poses), 3)
    for k in range(3):
        alone = painted(view, run(view, sets[k], poses=poses[k : k + 1]))
        part = slice(k * view.slots, (k + 1) * view.slots)
        for layer, (_, share, distance) in zip(together, alone, strict=True):
            assert torch.equal(layer[1][part], share)
            assert torch.equal(layer[2][part], distance)


def test_billboards_turn_to_every_camera(view):
    tree = faces.make(faces.upright(12.0, 0.0, 3.0, 0.0, 6.0)[None], Kind.POLE, (9, 9, 9), billboard=True)
    pairs = find_pairs(view, to_tensors([tree], HERE))
    toward = -pairs.normal[:2].T
    base = torch.tensor([12.0, 0.0]) - view.position[pairs.camera, :2]
    np.testing.assert_allclose(toward, base / base.norm(dim=1, keepdim=True), atol=1e-5)


def test_nothing_to_see_gives_empty_layers(view):
    buffer = run(view, faces.empty())
    assert [len(layer.pixel) for layer in buffer.layers] == [0, 0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_sees_the_same_faces():
    rig = load_rig("front1").scaled(32, 56)
    face_set = random_faces(3)
    cpu = painted(build_view(rig), run(build_view(rig), face_set))
    on_gpu = build_view(rig, "cuda")
    buffer = geometry(on_gpu, to_tensors([face_set], HERE.cuda()), 1)
    layer = buffer.layers[0]
    share = torch.zeros(on_gpu.slots, device="cuda")
    share[layer.pixel] = layer.coverage
    assert (share.cpu() - cpu[0][1]).abs().gt(1e-3).float().mean() < 0.002
