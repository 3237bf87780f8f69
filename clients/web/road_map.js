/** The roads of a world as paths that are stroked in metres, made once and drawn from above twelve times a second. */

import { colour } from "./dom.js";

const LINE_M = 0.3; // wider than painted, to be seen
const LIGHT_COLOURS = { red: "bad", yellow: "warn", green: "good" };

export class RoadMap {
  /** @param map as `GET v1/sessions/{id}/map` gives it. */
  constructor({ lanes, boundaries, crosswalks, lights, route }) {
    this.lanes = byWidth(lanes.map(({ centre, width_m }) => [centre, width_m + 0.4]));
    this.crosswalks = byWidth(crosswalks.map(({ points, width_m }) => [points, width_m]));
    this.edges = path(boundaries.filter(({ kind }) => kind === "road_edge" || kind === "kerb").map(({ points }) => points));
    const painted = boundaries.filter(({ kind }) => kind === "lane_line" || kind === "centre_line" || kind === "stop_line");
    this.dashed = path(painted.filter(({ dashed }) => dashed).map(({ points }) => points));
    this.solid = path(painted.filter(({ dashed }) => !dashed).map(({ points }) => points));
    this.lights = lights.map(({ stop_line }) => path([stop_line]));
    this.route = path([route]);
  }

  /** Draw in a context whose unit is one metre; `states` are those of the lights. */
  draw(context, states = []) {
    context.lineJoin = "round";
    for (const [width, lanes] of this.lanes) stroke(context, lanes, colour("road"), width);
    for (const [width, crosswalks] of this.crosswalks) stroke(context, crosswalks, colour("crosswalk"), width, [0.5, 0.5]);
    stroke(context, this.edges, colour("kerb"), LINE_M);
    stroke(context, this.solid, colour("paint"), LINE_M);
    stroke(context, this.dashed, colour("paint"), LINE_M, [3, 4.5]);
    stroke(context, this.route, colour("route-band"), 1.6);
    for (const [i, line] of this.lights.entries()) stroke(context, line, colour(LIGHT_COLOURS[states[i]] ?? "muted"), 1.2);
  }
}

function stroke(context, lines, style, width, dash = []) {
  Object.assign(context, { strokeStyle: style, lineWidth: width });
  context.setLineDash(dash);
  context.stroke(lines);
  context.setLineDash([]);
}

/** Lines of the same width as one path: `Map width -> Path2D`. */
function byWidth(lines) {
  const widths = new Map();
  for (const [points, width] of lines) widths.set(width, [...(widths.get(width) ?? []), points]);
  return new Map([...widths].map(([width, group]) => [width, path(group)]));
}

function path(lines) {
  const made = new Path2D();
  for (const points of lines) {
    for (const [i, [x, y]] of points.entries()) i ? made.lineTo(x, y) : made.moveTo(x, y);
  }
  return made;
}
