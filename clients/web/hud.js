/** How the ego drives and how it is judged, in numbers, bars and lamps. */

import { $, el, setText } from "./dom.js";

const STEERING_RAD = 0.6;
const ACCEL_MPS2 = 8;
const TTC_WARN_S = 2;

const LAMPS = [
  { key: "collision", label: "collision", lit: (m) => m.collision_with.some((id) => id !== null) },
  { key: "off_road", label: "off road", lit: (m) => m.off_road.some(Boolean) },
  { key: "wrong_way", label: "wrong way", lit: (m) => m.wrong_way.some(Boolean) },
  { key: "red_light", label: "red light", lit: (m) => m.red_light.some(Boolean) },
  { key: "speeding", label: "too fast", lit: (m, speed) => speed > m.speed_limit_mps.at(-1) * 1.1 },
  { key: "ttc", label: "close", lit: (m) => Math.min(...m.ttc_s.map((s) => s ?? Infinity)) < TTC_WARN_S },
];

export class Hud {
  constructor(element) {
    this.root = element;
    this.lamps = new Map(LAMPS.map(({ key, label }) => [key, el("span", { className: "lamp" }, label)]));
    $(".lamps", element).append(...this.lamps.values());
    this.clear();
  }

  clear() {
    for (const name of ["speed", "limit", "ttc", "lane", "time", "chunk", "route"]) this.#put(name, "–");
    this.#bar("steering", 0);
    this.#bar("accel", 0);
    $("progress", this.root).value = 0;
    for (const lamp of this.lamps.values()) lamp.classList.remove("lit");
  }

  /** A chunk came: its last frame, and what went wrong in any of its frames. */
  show({ ego, metrics, chunk }) {
    const [, , , speed, accel, steering] = ego.row(-1);
    this.#put("speed", (speed * 3.6).toFixed(0));
    this.#put("limit", `limit ${(metrics.speed_limit_mps.at(-1) * 3.6).toFixed(0)}`);
    this.#put("ttc", seconds(metrics.ttc_s.at(-1)));
    this.#put("lane", `${metrics.lane_offset_m.at(-1).toFixed(1)} m`);
    this.#put("time", `${metrics.time_s.at(-1).toFixed(1)} s`);
    this.#put("chunk", String(chunk + 1));
    this.#put("route", `${(100 * metrics.route_completion.at(-1)).toFixed(0)} %`);
    $("progress", this.root).value = metrics.route_completion.at(-1);
    this.#bar("steering", -steering / STEERING_RAD);
    this.#bar("accel", accel / ACCEL_MPS2);
    for (const { key, lit } of LAMPS) this.lamps.get(key).classList.toggle("lit", lit(metrics, speed));
  }

  /** A bar from the middle: -1 left, 1 right. */
  #bar(name, value) {
    const share = Math.min(Math.max(value, -1), 1) / 2;
    const fill = $(`[data-bar=${name}] i`, this.root);
    fill.style.left = `${50 + Math.min(share, 0) * 100}%`;
    fill.style.width = `${Math.abs(share) * 100}%`;
    fill.classList.toggle("negative", value < 0);
  }

  #put(name, text) {
    setText($(`[data-value=${name}]`, this.root), text);
  }
}

function seconds(value) {
  return value === null || !Number.isFinite(value) ? "clear" : `${value.toFixed(1)} s`;
}
