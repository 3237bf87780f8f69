"""How a session ends."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .checks import FrameChecks
from .clock import FRAME_DT_S
from .scenario import Failure

Outcome = Literal["running", "success", "failure", "timeout"]


@dataclass
class Verdict:
    """Watches the checks of every frame. The first outcome stays, whatever is driven after it."""

    rules: Failure
    duration_s: float
    outcome: Outcome = "running"
    reason: str = ""
    off_road_s: float = 0.0
    wrong_way_s: float = 0.0

    def judge(self, time_s: float, checks: FrameChecks) -> None:
        """Take in one frame."""
        self.off_road_s = self.off_road_s + FRAME_DT_S if checks.off_road else 0.0
        self.wrong_way_s = self.wrong_way_s + FRAME_DT_S if checks.wrong_way else 0.0
        if self.outcome != "running":
            return
        if reason := self._fault(checks):
            self.outcome, self.reason = "failure", reason
        elif checks.route_completion >= 1.0:
            self.outcome, self.reason = "success", "goal"
        elif time_s >= self.duration_s - 1e-6:
            self.outcome, self.reason = "timeout", "time_limit"

    def state_dict(self) -> dict[str, Any]:
        """Everything that can change."""
        return {key: getattr(self, key) for key in ("outcome", "reason", "off_road_s", "wrong_way_s")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        for key, value in state.items():
            setattr(self, key, value)

    def _fault(self, checks: FrameChecks) -> str:
        rules = self.rules
        collided = checks.collision_with is not None and rules.collision != "never"
        faults = {
            "collision": collided and (checks.collision_at_fault or rules.collision == "any"),
            "red_light": checks.red_light and rules.red_light,
            "off_road": rules.off_road_s is not None and self.off_road_s > rules.off_road_s,
            "wrong_way": rules.wrong_way_s is not None and self.wrong_way_s > rules.wrong_way_s,
            "off_route": rules.off_route_m is not None and abs(checks.lane_offset_m) > rules.off_route_m,
        }
        return next((name for name, happened in faults.items() if happened), "")
