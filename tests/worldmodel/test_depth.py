"""Depth estimated from pictures: the network, its shipped weights, and how it is trained."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from worldmodel.diffusion import DiffusionEngine
from worldmodel.layout import LayoutRenderer
from worldmodel.model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from worldmodel.model.config import DepthConfig
from worldmodel.model.depth import DepthNet, camera_geometry, load_depth, log_depth, shipped_depth
from worldmodel.model.rays import CameraTensors, ground_depth
from worldmodel.model.reproject import FAR_M, agree, inverse_depth
from worldmodel.model.world_model import load_world_model
from worldmodel.reference.renderer import ReferenceRenderer
from worldmodel.rig import load_rig
from worldmodel.scene.scenario import load_scenario
from worldmodel.scene.scene import Scene
from worldmodel.training.depth_task import agreement, harmed, mirrored

SMALL = DepthConfig(widths=(8, 8, 8))


def test_fresh_weights_say_flat_ground() -> None:
    cameras = CameraTensors.stack([CameraTensors.from_rig(load_rig("front3").scaled(48, 80))])
    made = DepthNet(SMALL).estimate(torch.rand(1, 3, 3, 48, 80), cameras)
    assert made.shape == (1, 3, 12, 20)
    expected = ground_depth(cameras).clamp(0.5, FAR_M)
    torch.testing.assert_close(made, expected, rtol=0.2, atol=0)  # but for the fresh bias


@pytest.mark.parametrize("size", [(96, 160), (112, 176), (192, 320)])
def test_any_size_and_any_rig_will_do(size: tuple[int, int]) -> None:
    rig = load_rig("front3").scaled(*size)
    cameras = CameraTensors.stack([CameraTensors.from_rig(rig)] * 2)
    made = shipped_depth().estimate(torch.rand(2, 3, 3, *size), cameras)
    assert made.shape == (2, 3, size[0] // 4, size[1] // 4)
    assert (made > 0).all()
    assert (made <= FAR_M * 1.01).all()


@pytest.mark.parametrize("name", ["urban_busy_dusk", "roundabout_back"])
def test_shipped_weights_see_what_stands_in_places_they_were_not_trained_on(name: str) -> None:
    rig = load_rig("surround7").scaled(96, 160)
    scene = Scene(load_scenario(name), 5)
    picture = ReferenceRenderer(rig).render(scene.world, scene.atmosphere, [scene.frame])
    images = torch.from_numpy(picture).reshape(1, 7, 96, 160, 3).movedim(-1, 2).float() / 255
    cameras = CameraTensors.stack([CameraTensors.from_rig(rig)])
    true = torch.as_tensor(LayoutRenderer(rig).render(scene.world, [scene.frame]).depth_m).float()
    true = true.reshape(1, 7, 24, 40).clamp(max=FAR_M)

    def right(made: torch.Tensor) -> float:
        return float(agree(inverse_depth(made), true).float().mean())

    seen, flat = right(shipped_depth().estimate(images, cameras)), right(ground_depth(cameras))
    assert seen > flat + 0.1
    assert (
        right(shipped_depth().estimate(0 * images, cameras)) < seen - 0.1
    )  # it looks, and does not just know streets


def test_a_mirrored_place_is_the_place_in_a_mirrored_camera() -> None:
    rig = load_rig("front3").scaled(48, 80)
    camera = rig.cameras[0]
    image, depth = torch.rand(3, 48, 80), torch.rand(12, 20)
    geometry = camera_geometry(CameraTensors.from_rig(rig))[0]
    _, turned, _ = mirrored(image, geometry, depth)
    (x, y, z) = camera.position_m
    other = replace(camera, position_m=(x, -y, z), yaw_rad=-camera.yaw_rad)
    expected = camera_geometry(CameraTensors.from_rig(rig.__class__("mirror", (other,))))[0]
    torch.testing.assert_close(turned, expected, rtol=1e-4, atol=1e-4)


def test_harm_keeps_pictures_pictures_and_leaves_a_share_alone() -> None:
    images = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    made = harmed(images, 0.5, torch.Generator().manual_seed(2))
    assert made.shape == images.shape
    assert float(made.min()) >= 0
    assert float(made.max()) <= 1
    same = (made - images).abs().amax((1, 2, 3)) < 1e-6
    assert 16 < int(same.sum()) < 48
    assert torch.equal(harmed(images, 0.0, torch.Generator().manual_seed(2)), images)


def test_agreement_is_that_of_reprojection() -> None:
    true = log_depth(torch.tensor([[10.0, 10.0, 10.0, 1e9]]))
    told = log_depth(torch.tensor([[10.5, 20.0, 9.5, 900.0]]))
    assert agreement(told, true) == pytest.approx(0.75)


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "d.safetensors", SMALL, DepthNet(DepthConfig(widths=(8, 8, 16))).state_dict())
    with pytest.raises(CheckpointError, match="expected"):
        load_depth(tmp_path / "d.safetensors")
    with pytest.raises(CheckpointError, match="no such file"):
        load_depth(tmp_path / "none.safetensors")


def test_loading_draws_no_random_numbers() -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    load_depth()
    assert torch.equal(torch.rand(3), expected)


def test_a_model_may_bring_its_own(tmp_path: Path) -> None:
    tiny, path = load_world_model("tiny"), tmp_path / "own.safetensors"
    own = DepthNet(SMALL)
    torch.nn.init.constant_(own.leave.bias, 0.25)  # type: ignore[arg-type]
    parts = {"tokenizer": tiny.tokenizer, "dit": tiny.dit, "depth": own}
    tensors = {f"{n}.{k}": t for n, part in parts.items() for k, t in part.state_dict().items()}
    save_checkpoint(path, replace(tiny.config, depth=SMALL), tensors)
    assert load_world_model(str(path)).depth.config == SMALL
    assert float(load_world_model(str(path)).depth.leave.bias) == 0.25  # type: ignore[arg-type]
    versions = {DiffusionEngine(model).state_version for model in (tiny, load_world_model(str(path)))}
    assert len(versions) == 2
    assert load_depth().digest[:8] in DiffusionEngine(tiny).state_version
    assert load_world_model("tiny").depth.config == DepthConfig()
    assert load_checkpoint(path).config["depth"]["widths"] == [8, 8, 8]
