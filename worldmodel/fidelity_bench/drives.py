"""The truth: expert drives through held-out scenarios, rendered at the moments that are looked at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import torch
from torch import Tensor

from ..benchmarking import HELD_OUT_SEED
from ..data.drivers import make_driver
from ..layout import LayoutRenderer, standing_depth
from ..layout.renderer import LayoutShot
from ..reference.renderer import ReferenceRenderer
from ..rig import Rig
from ..scene.actions import ActionChunk
from ..scene.clock import CHUNK_DT_S, FRAMES_PER_CHUNK
from ..scene.scenario import load_scenario
from ..scene.scene import Scene
from ..scene.state import SceneFrame

LONG = "long_country_road"  # three minutes of bends: no preset lasts that long
_LONG_YAML = """\
name: long_country_road
title: Three minutes of winding country road
group: highway
split: heldout
map: {kind: rural, length_m: 3000, speed_limit_mps: 14}
route: keep
ego: {s_m: 40, speed_mps: [11, 13]}
traffic: {per_km: 5}
duration_s: 200
success: {distance_m: 2900}
"""


@dataclass(frozen=True)
class Window:
    """One chunk of the truth and the frame before it: 5 frames."""

    chunk: int
    states: list[SceneFrame]
    frames: Tensor  # uint8 [V, 5, H, W, 3]
    empty: Tensor  # uint8 [V, H, W, 3], the last frame without road users
    layout: Tensor  # [V, 4, C, h, w] of the chunk's own frames
    depth_m: Tensor  # [5, V, h, w] at raster resolution
    standing_depth_m: Tensor  # [2, V, H, W] of the last two frames; NaN where road users are
    warped: Tensor  # float [V, 4, H, W, 3]: the opening frame by bare warp


@dataclass(frozen=True)
class Truth:
    """A whole drive."""

    scenario: str  # preset or file
    scene: Scene  # as it ended
    views: "Renderers"
    actions: list[ActionChunk]
    opening: Tensor  # uint8 [V, H, W, 3]
    windows: dict[int, Window]

    @property
    def rig(self) -> Rig:
        """The cameras at the model's resolution."""
        return self.views.rig


def scenario_file(name: str) -> str:
    """What an engine opens: a preset's name, or the file of the one scenario that is none."""
    if name != LONG:
        return name
    path = Path(gettempdir()) / f"{LONG}.yaml"
    path.write_text(_LONG_YAML, encoding="utf-8")
    return str(path)


def marks(horizons_s: Sequence[float], per_horizon: int) -> dict[float, list[int]]:
    """The chunks that stand for each horizon: the last ones before it."""
    ends = {h: round(h / CHUNK_DT_S) for h in horizons_s}
    return {h: list(range(max(0, end - per_horizon), end)) for h, end in ends.items()}


def record(name: str, views: "Renderers", chunks: Sequence[int]) -> Truth:
    """Let the expert drive until the last wanted chunk, or to the end, and render the wanted chunks that there are."""
    scenario = scenario_file(name)
    scene = Scene(load_scenario(scenario), HELD_OUT_SEED)
    driver = make_driver("expert", scene, HELD_OUT_SEED)
    states, actions = [scene.frame], list[ActionChunk]()
    while len(actions) <= max(chunks) and scene.outcome == "running":
        actions.append(driver.act())
        states += scene.step(actions[-1])
    (opening,), _, _ = views.draw(scene, states[:1])
    wanted = [chunk for chunk in chunks if chunk < len(actions)]
    windows = {chunk: _window(views, scene, states, chunk, opening) for chunk in wanted}
    return Truth(scenario, scene, views, actions, opening, windows)


class Renderers:
    """Pictures and geometry of one rig; made once, they precompute what every pixel sees."""

    def __init__(self, rig: Rig, device: str) -> None:
        self.rig = rig
        self._pictures = ReferenceRenderer(rig, device)
        self._layouts = LayoutRenderer(rig, device=device)
        self._fine = LayoutRenderer(rig, stride=1, device=device)

    def draw(self, scene: Scene, states: Sequence[SceneFrame]) -> tuple[Tensor, Tensor, Tensor]:
        """Frames uint8 [F, V, H, W, 3], layouts [F, V, C, h, w], depth [F, V, h, w]."""
        frames = torch.from_numpy(self._pictures.render(scene.world, scene.atmosphere, states))
        shots: list[LayoutShot] = [(scene.world, states)]
        (drawn,) = self._layouts.render_batch(shots)
        return frames.transpose(0, 1), torch.from_numpy(drawn.rasters), torch.from_numpy(drawn.depth_m)

    def fine_depth(self, scene: Scene, states: Sequence[SceneFrame]) -> Tensor:
        """[F, V, H, W]."""
        return torch.from_numpy(self._fine.render(scene.world, states).depth_m)

    def standing_depth(self, scene: Scene, states: Sequence[SceneFrame]) -> Tensor:
        """The same; NaN where road users are."""
        return torch.from_numpy(standing_depth(self._fine, scene.world, states))


def _window(
    views: Renderers, scene: Scene, states: Sequence[SceneFrame], chunk: int, opening: Tensor
) -> Window:
    from ..diffusion.conditions import poses_from
    from ..fidelity import bare_warp

    start = FRAMES_PER_CHUNK * chunk
    shown = list(states[start : start + FRAMES_PER_CHUNK + 1])
    frames, layout, depth = views.draw(scene, shown)
    (empty,), _, _ = views.draw(scene, [replace(shown[-1], agents=())])
    fine = views.fine_depth(scene, [states[0], *shown[1:]])
    poses: np.ndarray = poses_from(states[0].ego, shown[1:])
    warped = bare_warp(opening, fine[0], fine[1:], poses, views.rig)
    layout = layout[1:].transpose(0, 1)
    standing = views.standing_depth(scene, shown[-2:])
    return Window(chunk, shown, frames.transpose(0, 1), empty, layout, depth, standing, warped)
