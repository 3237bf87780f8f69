"""A carriageway that an off-ramp leaves to the right.

Nodes: `w.in` -> `exit.start` -> `exit.end` -> `e.out`; the ramp is `exit.end` -> `r.out`, and between start and end the
rightmost lane is the deceleration lane. The opposite carriageway is `e.in` -> `w.out`. Routes: `exit`, and `keep_0` ...
one per lane of the carriageway.
"""

from . import ramp
from .arrows import paint_arrow
from .plan import Plan
from .road import lay_road
from .routes import follow
from .spec import ExitSpec

BEFORE_M, AFTER_M = 60.0, 460.0
RAMP_STRAIGHT_M, RAMP_END_M = 200.0, 110.0  # the route ends where the ramp goes on for a while


def build(plan: Plan, spec: ExitSpec) -> None:
    """Fill the plan; the deceleration lane begins at x = 0."""
    end = spec.deceleration_lane_m
    main = ramp.carriageway(spec.lanes, spec.lane_width_m, spec.speed_limit_mps)
    wide = ramp.carriageway(spec.lanes + 1, spec.lane_width_m, spec.speed_limit_mps)
    before = ramp.along_x(-BEFORE_M - spec.length_m, 0.0)
    widening = ramp.taper(before, 0.0, -ramp.TAPER_M, spec.lane_width_m)
    lay_road(plan, before, main, ("w.in", "exit.start"), widened_m=widening)
    lay_road(plan, ramp.along_x(0.0, end), wide, ("exit.start", "exit.end"))
    lay_road(plan, ramp.along_x(end, end + AFTER_M), main, ("exit.end", "e.out"))

    side = ramp.ramp_profile(spec.lane_width_m, spec.ramp_radius_m)
    away = ramp.ramp_line((end, -main.centre_m(spec.lanes)), 0.0, spec.ramp_radius_m, -1, RAMP_STRAIGHT_M)
    edges = ramp.lay_ramp(plan, away, side, ("exit.end", "r.out"))
    start, stop = before[0, 0], end + AFTER_M
    verges = [
        (start, -ramp.TAPER_M, 0.0),
        (-ramp.TAPER_M, end, spec.lane_width_m),
        (end + ramp.GORE_M, stop, 0.0),
    ]
    ramp.finish_roadside(plan, ramp.along_x(start, stop), main, verges, edges, spec.density)
    for s in (0.3, 0.75):
        paint_arrow(plan, (s * end, -main.centre_m(spec.lanes), 0.0), "right")
    _add_routes(plan, spec)


def _add_routes(plan: Plan, spec: ExitSpec) -> None:
    last, length = spec.lanes - 1, spec.deceleration_lane_m
    for lane in range(spec.lanes):
        lanes = [("w.in", "exit.start", lane), ("exit.start", "exit.end", lane), ("exit.end", "e.out", lane)]
        plan.routes[f"keep_{lane}"] = follow(plan.network, lanes, BEFORE_M, AFTER_M - 160.0)
    lanes = [("w.in", "exit.start", last), ("exit.start", "exit.end", last)]
    lanes += [("exit.start", "exit.end", last + 1), ("exit.end", "r.out", 0)]
    ramp_end = plan.network.get_lane(lanes[-1]).length - RAMP_END_M
    change = (0.05 * length, min(0.6 * length, 4.0 * spec.speed_limit_mps))
    plan.routes["exit"] = follow(plan.network, lanes, BEFORE_M, ramp_end, change)
