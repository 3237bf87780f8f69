"""What happened in an episode as plain number tables, and back. The round trip is exact."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import get_args

import numpy as np

from ..scene.checks import FrameChecks
from ..scene.state import AgentKind, AgentState, EgoState, LightState, SceneFrame

EGO_COLUMNS = tuple(field.name for field in fields(EgoState))
CHECK_COLUMNS = tuple(field.name for field in fields(FrameChecks))
AGENT_COLUMNS = (
    *("id", "kind", "x_m", "y_m", "yaw_rad", "speed_mps", "length_m", "width_m", "height_m"),
    *("red", "green", "blue", "braking", "parked"),
)
AGENT_KINDS: tuple[AgentKind, ...] = get_args(AgentKind)
LIGHT_STATES: tuple[LightState, ...] = get_args(LightState)

_CHECK_FLAGS = ("collision_at_fault", "off_road", "wrong_way", "red_light")


def frames_to_tables(frames: Sequence[SceneFrame]) -> dict[str, np.ndarray]:
    """The world at F frames.

    Returns:
        `time_s` float64 [F]; `ego` float64 [F, 7] (EGO_COLUMNS); `agents` float64 [N, 14] (AGENT_COLUMNS), those of all
        frames one after another; `agents_end` int64 [F], where each frame's agents end; `lights` uint8 [F, L],
        positions in LIGHT_STATES.
    """
    agents = [_agent_row(agent) for frame in frames for agent in frame.agents]
    return {
        "index": np.array([frame.index for frame in frames], np.int64),
        "time_s": np.array([frame.time_s for frame in frames], np.float64),
        "ego": np.array([[getattr(frame.ego, name) for name in EGO_COLUMNS] for frame in frames], np.float64),
        "agents": np.array(agents, np.float64).reshape(-1, len(AGENT_COLUMNS)),
        "agents_end": np.cumsum([len(frame.agents) for frame in frames], dtype=np.int64),
        "lights": np.array(
            [[LIGHT_STATES.index(state) for state in frame.lights] for frame in frames], np.uint8
        ).reshape(len(frames), -1),
    }


def tables_to_frames(tables: Mapping[str, np.ndarray]) -> list[SceneFrame]:
    """The inverse of `frames_to_tables`."""
    ends = tables["agents_end"].tolist()
    return [
        SceneFrame(
            index=int(tables["index"][k]),
            time_s=float(tables["time_s"][k]),
            ego=EgoState(*tables["ego"][k].tolist()),
            agents=tuple(_agent(row) for row in tables["agents"][start:end].tolist()),
            lights=tuple(LIGHT_STATES[code] for code in tables["lights"][k].tolist()),
        )
        for k, (start, end) in enumerate(zip([0, *ends], ends, strict=False))
    ]


def checks_to_table(checks: Sequence[FrameChecks]) -> np.ndarray:
    """float64 [F, 11] (CHECK_COLUMNS); no collision is NaN, flags are 0 and 1, times may be infinite."""
    rows = [[math.nan if value is None else value for value in asdict(check).values()] for check in checks]
    return np.array(rows, np.float64).reshape(-1, len(CHECK_COLUMNS))


def table_to_checks(table: np.ndarray) -> list[FrameChecks]:
    """The inverse of `checks_to_table`."""
    return [_checks(dict(zip(CHECK_COLUMNS, row, strict=True))) for row in table.tolist()]


def _checks(values: dict[str, float]) -> FrameChecks:
    flags = {name: bool(values[name]) for name in _CHECK_FLAGS}
    other = values["collision_with"]
    return FrameChecks(**{**values, **flags, "collision_with": None if math.isnan(other) else int(other)})  # type: ignore[arg-type]


def _agent_row(agent: AgentState) -> list[float]:
    kind = AGENT_KINDS.index(agent.kind)
    box = (
        agent.x_m,
        agent.y_m,
        agent.yaw_rad,
        agent.speed_mps,
        agent.length_m,
        agent.width_m,
        agent.height_m,
    )
    return [agent.id, kind, *box, *agent.color_rgb, agent.braking, agent.parked]


def _agent(row: list[float]) -> AgentState:
    id, kind, x, y, yaw, speed, length, width, height = row[:9]
    red, green, blue, braking, parked = (int(value) for value in row[9:])
    box = (x, y, yaw, speed, length, width, height)
    return AgentState(int(id), AGENT_KINDS[int(kind)], *box, (red, green, blue), bool(braking), bool(parked))
