/**
 * The ego and everybody round it from above, heading up: roads, route, boxes, speeds, where the ego has been.
 *
 * Until the map has come, or where the engine has none, the route is known at the ego only (offset and heading error):
 * it is drawn as its tangent there, and as the points that it has passed.
 */

import { colour, context2d } from "./dom.js";
import { RoadMap } from "./road_map.js";

const EGO = { length: 4.7, width: 1.9, toCentre: 1.4 };
const AHEAD_M = 42;
const BEHIND_M = 18;
const TRAIL_POINTS = 400;

export class BirdsEye {
  constructor(canvas) {
    this.canvas = canvas;
    this.clear();
  }

  clear() {
    this.trail = []; // [x, y] of the rear axle
    this.route = []; // [x, y] of the route beside it
    this.scene = null;
    this.map = null;
    this.draw();
  }

  /** The roads of this world, as the server gives them. */
  showMap(map) {
    this.map = new RoadMap(map);
    this.draw();
  }

  /** A chunk came; `camera` is the one in focus, whose field of view is shown. */
  show(message) {
    for (const [i, ego] of message.ego.rows().entries()) {
      const [x, y, yaw] = ego;
      const offset = message.metrics.lane_offset_m[i] ?? 0;
      const across = yaw - message.metrics.heading_error_rad[i] + Math.PI / 2;
      keep(this.trail, [x, y]);
      keep(this.route, [x - offset * Math.cos(across), y - offset * Math.sin(across)]);
    }
    this.scene = message;
    this.draw();
  }

  draw() {
    const [context, width, height] = context2d(this.canvas);
    if (!this.scene || !width) return;
    const metres = height / (AHEAD_M + BEHIND_M);
    const [x, y, yaw, speed] = this.scene.ego.row(-1);
    const turn = Math.PI / 2 - yaw; // heading up
    const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
    const toPixel = (px, py) => {
      const [dx, dy] = [px - x, py - y];
      return [width / 2 + (cos * dx - sin * dy) * metres, AHEAD_M * metres - (sin * dx + cos * dy) * metres];
    };
    this.#roads(context, width, metres, turn, x, y);
    this.#rings(context, width, metres);
    if (!this.map) {
      this.#path(context, this.route.map((point) => toPixel(...point)), colour("route"), 1.5, [4, 3]);
      this.#routeAhead(context, toPixel);
    }
    this.#path(context, this.trail.map((point) => toPixel(...point)), colour("trail"), 2);
    this.#agents(context, toPixel, yaw, metres);
    this.#camera(context, width, metres);
    const centre = toPixel(x + EGO.toCentre * Math.cos(yaw), y + EGO.toCentre * Math.sin(yaw));
    box(context, centre, 0, EGO.length * metres, EGO.width * metres, colour("ego"));
    velocity(context, centre, 0, speed * metres, colour("ego"));
  }

  #roads(context, width, metres, turn, x, y) {
    if (!this.map) return;
    context.save();
    context.translate(width / 2, AHEAD_M * metres);
    context.scale(metres, -metres);
    context.rotate(turn);
    context.translate(-x, -y);
    this.map.draw(context, this.scene.metrics.lights);
    context.restore();
  }

  /** Distances, so that a glance gives metres. */
  #rings(context, width, metres) {
    context.strokeStyle = colour("line");
    context.fillStyle = colour("muted");
    context.font = "10px system-ui";
    context.lineWidth = 1;
    for (const radius of [10, 20, 40]) {
      context.beginPath();
      context.arc(width / 2, AHEAD_M * metres, radius * metres, 0, 2 * Math.PI);
      context.stroke();
      context.fillText(`${radius} m`, width / 2 + 3, (AHEAD_M - radius) * metres + 11);
    }
  }

  #path(context, points, style, lineWidth, dash = []) {
    if (points.length < 2) return;
    Object.assign(context, { strokeStyle: style, lineWidth });
    context.setLineDash(dash);
    context.beginPath();
    for (const [k, [px, py]] of points.entries()) k ? context.lineTo(px, py) : context.moveTo(px, py);
    context.stroke();
    context.setLineDash([]);
  }

  #routeAhead(context, toPixel) {
    const [, , yaw] = this.scene.ego.row(-1);
    const from = this.route.at(-1);
    const along = yaw - this.scene.metrics.heading_error_rad.at(-1);
    const to = [from[0] + 12 * Math.cos(along), from[1] + 12 * Math.sin(along)];
    this.#path(context, [toPixel(...from), toPixel(...to)], colour("route"), 1.5, [4, 3]);
  }

  #agents(context, toPixel, egoYaw, metres) {
    const hit = this.scene.metrics.collision_with.at(-1);
    for (const [i, agent] of this.scene.agents.rows().entries()) {
      const [id, px, py, yaw, speed, length, width] = agent;
      const kind = this.scene.agent_kinds[i];
      const at = toPixel(px, py);
      const person = kind === "pedestrian" || kind === "cyclist";
      const style = id === hit ? colour("bad") : colour(person ? "person" : "agent");
      box(context, at, yaw - egoYaw, Math.max(length * metres, 4), Math.max(width * metres, 4), style);
      velocity(context, at, yaw - egoYaw, speed * metres, style);
    }
  }

  /** What the enlarged or pointed-at camera sees. */
  #camera(context, width, metres) {
    if (!this.camera) return;
    const { x_m, y_m, yaw_rad, width: pixels, fx } = this.camera;
    const half = Math.atan(pixels / (2 * fx));
    const [cx, cy] = [width / 2 - y_m * metres, (AHEAD_M - x_m) * metres];
    const heading = -Math.PI / 2 - yaw_rad;
    context.fillStyle = colour("wedge");
    context.beginPath();
    context.moveTo(cx, cy);
    context.arc(cx, cy, 30 * metres, heading - half, heading + half);
    context.fill();
  }
}

/** A rectangle `length` along its heading; angle counter-clockwise from up. */
function box(context, [x, y], angle, length, width, style) {
  context.save();
  context.translate(x, y);
  context.rotate(-angle);
  context.fillStyle = style;
  context.fillRect(-width / 2, -length / 2, width, length);
  context.restore();
}

/** One second of travel. */
function velocity(context, [x, y], angle, length, style) {
  if (length < 2) return;
  Object.assign(context, { strokeStyle: style, lineWidth: 1 });
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(x - Math.sin(angle) * length, y - Math.cos(angle) * length);
  context.stroke();
}

function keep(points, point) {
  points.push(point);
  if (points.length > TRAIL_POINTS) points.shift();
}
