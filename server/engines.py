"""From an engine's name to an engine. Imported by workers only: everything heavy is imported here, on demand."""

import importlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from worldmodel.engine import CHUNK_DT_S, FRAME_DT_S, FRAMES_PER_CHUNK, WorldEngine
from worldmodel.preset_files import preset_names
from worldmodel.rig import Rig, load_rig
from worldmodel.scene.actions import ACTION_SPACES
from worldmodel.scene.conditions import TIMES_OF_DAY, WEATHERS
from worldmodel.scene.scenario import Scenario, load_scenario

from .messages import WORKER_PROTOCOL, Ready
from .weights import choose_model

DEFAULT_RIG = "surround7"
WORLD_MODEL_OPTIONS = ("model", "dtype", "compile")


@dataclass(frozen=True)
class EngineChoice:
    """Which engine a worker runs: `zero`, `reference`, `worldmodel`, or `module:callable` for one of your own."""

    name: str = "reference"
    device: str = "cpu"
    options: dict[str, Any] = field(default_factory=dict)


def build_engine(choice: EngineChoice) -> WorldEngine:
    """Import and construct.

    Raises:
        ValueError: unknown name or option, the message lists the valid ones; weights that there are not.
    """
    engine: WorldEngine
    if ":" in choice.name:
        module, _, attribute = choice.name.partition(":")
        engine = getattr(importlib.import_module(module), attribute)(**choice.options)
    elif choice.name == "zero":
        from .zero_engine import ZeroEngine

        engine = ZeroEngine(**choice.options)
    elif choice.name == "reference":
        from worldmodel.reference.engine import ReferenceEngine

        engine = ReferenceEngine(device=choice.device, **choice.options)
    elif choice.name == "worldmodel":
        engine = _world_model(choice.device, **_known(choice.options, WORLD_MODEL_OPTIONS))
    else:
        raise ValueError(
            f"expected the engine zero, reference, worldmodel or module:callable, got {choice.name!r}"
        )
    return engine


def _world_model(
    device: str, model: str | None = None, dtype: str | None = None, compile: str = ""
) -> WorldEngine:
    """`model` names shipped weights or a .safetensors file; `dtype` is float32, bfloat16 or the device's own choice.

    `compile` is a mode of `torch.compile`; empty runs eagerly, which starts at once.
    """
    import torch

    from worldmodel.diffusion.engine import DiffusionEngine
    from worldmodel.model.world_model import load_world_model

    formats = {None: None, "float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in formats:
        raise ValueError(f"expected the dtype float32 or bfloat16, got {dtype!r}")
    return DiffusionEngine(load_world_model(choose_model(model)), device, formats[dtype], compile=compile)


def _known(options: dict[str, Any], valid: Sequence[str]) -> dict[str, Any]:
    if unknown := sorted(set(options) - set(valid)):
        raise ValueError(f"expected engine options of {', '.join(valid)}, got {', '.join(unknown)}")
    return options


def describe(engine: WorldEngine, choice: EngineChoice, worker: str, pid: int) -> Ready:
    """What clients may know of the engine."""
    return Ready(
        version=WORKER_PROTOCOL,
        worker=worker,
        pid=pid,
        engine=engine.name,
        model=engine.model_name,
        model_digest=getattr(engine, "state_version", ""),
        determinism=f"{choice.device.partition(':')[0]}-{platform.machine()}",
        frames_per_chunk=FRAMES_PER_CHUNK,
        dt_us=round(FRAME_DT_S * 1e6),
        action_spaces=[
            {"name": name, "columns": space.columns, "low": space.low, "high": space.high}
            for name, space in ACTION_SPACES.items()
        ],
        tiers=list(engine.tiers),
        weathers=list(WEATHERS),
        times_of_day=list(TIMES_OF_DAY),
        scenarios=_scenarios(engine),
        rigs={name: camera_dicts(load_rig(name)) for name in preset_names("rigs")},
        default_rig=DEFAULT_RIG,
    )


def camera_dicts(rig: Rig) -> list[dict[str, Any]]:
    """A rig's cameras as the wire wants them."""
    return [
        {
            "name": camera.name,
            "group": camera.group,
            "model": camera.model,
            "height": camera.height,
            "width": camera.width,
            "fx": camera.fx,
            "fy": camera.fy,
            "cx": camera.cx,
            "cy": camera.cy,
            **dict(zip(("x_m", "y_m", "z_m"), camera.position_m, strict=True)),
            "yaw_rad": camera.yaw_rad,
            "pitch_rad": camera.pitch_rad,
            "roll_rad": camera.roll_rad,
            "distortion": list(camera.distortion),
        }
        for camera in rig.cameras
    ]


def _scenarios(engine: WorldEngine) -> list[dict[str, Any]]:
    """What may be reset to: enough to group and filter by."""
    if engine.name == "zero":
        from .zero_engine import SCENARIOS

        unknown = {"group": "", "split": "", "map": "", "weather": "", "time_of_day": ""}
        return [
            {"name": name, "title": "Prepared pictures", "duration_s": chunks * CHUNK_DT_S, **unknown}
            for name, chunks in SCENARIOS.items()
        ]
    return [_summary(load_scenario(name)) for name in preset_names("scenarios")]


def _summary(scenario: Scenario) -> dict[str, Any]:
    names = ("name", "title", "group", "split", "weather", "time_of_day", "duration_s")
    return {name: getattr(scenario, name) for name in names} | {"map": scenario.map.kind}
