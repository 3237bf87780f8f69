"""Driving checks: what is wrong (or fine) with the ego's driving at one frame."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FrameChecks:
    """The judgement of one frame. Formulas and sources stand with the functions that fill each field."""

    collision_with: int | None  # agent id; -1 is static structure; None is no contact
    collision_at_fault: bool
    off_road: bool  # some corner of the ego box lies outside the drivable area
    wrong_way: bool  # driving against the lane's direction
    red_light: bool  # crossed a stop line on red in this frame
    ttc_s: float  # time to collision at constant velocities; inf where none within the horizon
    lane_offset_m: float  # from the reference path, left positive
    heading_error_rad: float
    route_progress_m: float  # arc length along the reference path
    route_completion: float  # 0..1
    speed_limit_mps: float
