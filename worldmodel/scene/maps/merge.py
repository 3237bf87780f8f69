"""A carriageway that takes up an on-ramp from the right.

Nodes: `w.in` -> `merge.start` -> `merge.end` -> `e.out`; the ramp is `r.in` -> `merge.start`, and between start and end
the rightmost lane is the acceleration lane. The opposite carriageway is `e.in` -> `w.out`. Routes: `ramp`, and
`keep_0` ... one per lane of the carriageway.
"""

import numpy as np

from . import ramp
from .plan import Plan
from .road import lay_road
from .routes import follow
from .spec import MergeSpec

BEFORE_M, AFTER_M = 280.0, 160.0
RAMP_STRAIGHT_M = 110.0


def build(plan: Plan, spec: MergeSpec) -> None:
    """Fill the plan; the acceleration lane begins at x = 0."""
    end = spec.acceleration_lane_m
    main = ramp.carriageway(spec.lanes, spec.lane_width_m, spec.speed_limit_mps)
    wide = ramp.carriageway(spec.lanes + 1, spec.lane_width_m, spec.speed_limit_mps)
    after = ramp.along_x(end, end + spec.length_m + AFTER_M)
    lay_road(plan, ramp.along_x(-BEFORE_M, 0.0), main, ("w.in", "merge.start"))
    lay_road(plan, ramp.along_x(0.0, end), wide, ("merge.start", "merge.end"))
    narrowing = ramp.taper(after, end, end + ramp.TAPER_M, spec.lane_width_m)
    lay_road(plan, after, main, ("merge.end", "e.out"), widened_m=narrowing)

    side = ramp.ramp_profile(spec.lane_width_m, spec.ramp_radius_m)
    away = ramp.ramp_line((0.0, -main.centre_m(spec.lanes)), np.pi, spec.ramp_radius_m, 1, RAMP_STRAIGHT_M)
    edges = ramp.lay_ramp(plan, away[::-1], side, ("r.in", "merge.start"))
    whole = ramp.along_x(-BEFORE_M, after[-1, 0])
    verges = [
        (-BEFORE_M, -ramp.GORE_M, 0.0),
        (0.0, end + ramp.TAPER_M, spec.lane_width_m),
        (end + ramp.TAPER_M, after[-1, 0], 0.0),
    ]
    ramp.finish_roadside(plan, whole, main, verges, edges, spec.density)
    _add_routes(plan, spec)


def _add_routes(plan: Plan, spec: MergeSpec) -> None:
    last, length = spec.lanes - 1, spec.acceleration_lane_m
    for lane in range(spec.lanes):
        lanes = [
            ("w.in", "merge.start", lane),
            ("merge.start", "merge.end", lane),
            ("merge.end", "e.out", lane),
        ]
        plan.routes[f"keep_{lane}"] = follow(plan.network, lanes, 60.0, spec.length_m)
    lanes = [("r.in", "merge.start", 0), ("merge.start", "merge.end", last + 1)]
    lanes += [("merge.start", "merge.end", last), ("merge.end", "e.out", last)]
    change = (0.25 * length, min(0.65 * length, 4.0 * spec.speed_limit_mps))
    plan.routes["ramp"] = follow(plan.network, lanes, 10.0, spec.length_m, change)
