"""Episodes from the scene: a driver drives it, the reference renderer and the layout draw what the cameras see."""

from dataclasses import replace

import numpy as np
import torch

from ..layout import CHANNELS, LayoutRenderer
from ..reference.renderer import ReferenceRenderer
from ..rig import Rig, load_rig
from ..scene.clock import FPS
from ..scene.scores import score_episode
from .drive import Drive, achieved_deltas, drive
from .episode import LAYOUT_STRIDE, Episode, EpisodeInfo, quantise_layout
from .plan import BuildSettings, EpisodePlan
from .tables import checks_to_table, frames_to_tables

_PIECE = 24  # frames drawn at a time


class Recorder:
    """Makes episodes. The builder and the live source both use it, so their episodes are the same.

    Args:
        settings: what to record.
        device: where to render.
    """

    def __init__(self, settings: BuildSettings, device: str | torch.device = "cpu"):
        self._settings, self._device = settings, torch.device(device)
        self._rig = load_rig(settings.rig).scaled(settings.height, settings.width)
        self._renderers: tuple[Rig, ReferenceRenderer, LayoutRenderer | None] | None = None

    def record(self, plan: EpisodePlan) -> Episode:
        """Drive and render one episode; a pure function of settings, plan, and the kind of device."""
        rig = jittered_rig(self._rig, self._settings.rig_jitter, plan.rig_seed)
        settings = self._settings
        driven = drive(
            plan.scenario,
            plan.seed,
            plan.driver,
            settings.seconds,
            settings.weather,
            settings.time_of_day,
        )
        pictures, layouts, depth_m = self._draw(rig, driven)
        return Episode(
            info=_info(plan, driven, rig, layouts is not None),
            frames=pictures,
            pose_deltas=achieved_deltas(driven.frames),
            actions=driven.actions,
            tables={**frames_to_tables(driven.frames), "checks": checks_to_table(driven.checks)},
            layouts=layouts,
            depth_m=depth_m,
        )

    def _draw(self, rig: Rig, driven: Drive) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Pictures, layouts and depth of a drive, a few frames at a time: raw layouts are large."""
        renderer, layout = self._renderers_of(rig)
        scene, frames = driven.scene, driven.frames
        pieces = [frames[k : k + _PIECE] for k in range(0, len(frames), _PIECE)]
        pictures = [renderer.render(scene.world, scene.atmosphere, piece) for piece in pieces]
        if layout is None:
            return np.concatenate(pictures, axis=1), None, None
        rasters, depths = [], []
        for piece in pieces:
            drawn = layout.render(scene.world, piece)
            rasters.append(quantise_layout(drawn.rasters).swapaxes(0, 1))
            depths.append(drawn.depth_m.astype(np.float16).swapaxes(0, 1))
        return tuple(np.concatenate(parts, axis=1) for parts in (pictures, rasters, depths))  # type: ignore[return-value]

    def _renderers_of(self, rig: Rig) -> tuple[ReferenceRenderer, LayoutRenderer | None]:
        if self._renderers is None or self._renderers[0] != rig:
            layout = LayoutRenderer(rig, LAYOUT_STRIDE, self._device) if self._settings.layout else None
            self._renderers = rig, ReferenceRenderer(rig, self._device), layout
        return self._renderers[1:]


def jittered_rig(rig: Rig, amount: float, seed: int) -> Rig:
    """The rig with every camera a little elsewhere: for `amount` 1 about 10 cm, 2 degrees, 4 % of the focal length."""
    if amount == 0.0:
        return rig
    draw = np.random.default_rng(seed)
    cameras = []
    for camera in rig.cameras:
        shift, turn, zoom = (
            draw.normal(size=3) * 0.1,
            np.deg2rad(draw.normal(size=3) * (2.0, 1.0, 0.5)),
            draw.normal(),
        )
        x, y, z = np.array(camera.position_m) + amount * shift
        focal = float(np.exp(0.04 * amount * zoom))
        yaw, pitch, roll = (camera.yaw_rad, camera.pitch_rad, camera.roll_rad) + amount * turn
        cameras.append(
            replace(
                camera,
                position_m=(float(x), float(y), max(float(z), 0.3)),
                yaw_rad=float(yaw),
                pitch_rad=float(pitch),
                roll_rad=float(roll),
                fx=camera.fx * focal,
                fy=camera.fy * focal,
            )
        )
    return replace(rig, cameras=tuple(cameras))


def _info(plan: EpisodePlan, driven: Drive, rig: Rig, layout: bool) -> EpisodeInfo:
    scene = driven.scene
    return EpisodeInfo(
        index=plan.index,
        scenario=plan.scenario,
        group=scene.scenario.group,
        split=scene.scenario.split,
        seed=plan.seed,
        driver=plan.driver,
        action_space=driven.action_space,
        fps=FPS,
        rig=rig,
        atmosphere=scene.atmosphere,
        outcome=scene.outcome,
        reason=scene.reason,
        layout_channels=CHANNELS if layout else (),
        layout_stride=LAYOUT_STRIDE if layout else 0,
        scores=score_episode(driven.record).to_dict(),
    )
