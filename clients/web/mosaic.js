/** The camera pictures of one session, laid out like its rig. Shows the newest frame that is due, and skips the rest. */

import { el, humanName } from "./dom.js";
import { Playback } from "./playback.js";
import { layoutRig } from "./rig_layout.js";

const RATE_WINDOW_MS = 2000;

export class Mosaic {
  /** @param onFocus called with a camera's name, or null when none fills the mosaic. */
  constructor(element, onFocus = () => {}) {
    this.element = element;
    this.onFocus = onFocus;
    this.tiles = new Map(); // name -> {button, canvas, context, drawn}
    this.narrow = matchMedia("(max-width: 720px)");
    this.narrow.addEventListener("change", () => this.#place());
    this.focused = null;
    this.shown = null; // the frame that was drawn last
    this.busy = false; // a frame is being decoded
    this.times = []; // when the last frames were drawn
    requestAnimationFrame((now) => this.#tick(now));
  }

  /** Make tiles for a rig's cameras, unless they are there. */
  setCameras(cameras, dtMs) {
    this.playback = new Playback(dtMs);
    const key = JSON.stringify(cameras);
    if (this.key === key) return;
    [this.key, this.cameras, this.focused] = [key, cameras, null];
    this.tiles = new Map(cameras.map((camera) => [camera.name, this.#tile(camera)]));
    this.element.replaceChildren(...[...this.tiles.values()].map(({ button }) => button));
    this.#place();
  }

  /** Show a chunk: `frames` maps cameras to their F encoded images. */
  put(frames, encoding, chunk, now = performance.now()) {
    const count = Math.max(...Object.values(frames).map((images) => images.length));
    const type = { jpeg: "image/jpeg", png: "image/png" }[encoding];
    const moments = Array.from({ length: count }, (_, k) => ({ id: `${chunk}.${k}`, chunk, k, frames, type }));
    this.playback.put(moments, now);
  }

  /** Show nothing. */
  blank() {
    for (const { canvas, context } of this.tiles.values()) context.clearRect(0, 0, canvas.width, canvas.height);
  }

  /** Frames per second that were really drawn, on every camera. */
  rate(now = performance.now()) {
    this.times = this.times.filter((time) => now - time <= RATE_WINDOW_MS);
    return (this.times.length * 1000) / RATE_WINDOW_MS;
  }

  /** Let one camera fill the mosaic; null brings all back. */
  focus(name) {
    this.focused = this.focused === name ? null : name;
    this.#place();
    this.onFocus(this.focused);
  }

  /** The canvases in the order of the cameras, for recordings. */
  canvases() {
    return [...this.tiles].map(([name, { canvas }]) => ({ canvas, ...this.layout.tiles.find((tile) => tile.name === name) }));
  }

  #tile(camera) {
    const { name, width, height } = camera;
    const canvas = el("canvas", { width, height });
    const label = el("span", { className: "label" }, humanName(name));
    const button = el("button", { type: "button", className: "tile", title: `${humanName(name)}: enlarge` }, canvas, label);
    button.dataset.camera = name;
    button.addEventListener("click", () => this.focus(name));
    return { button, canvas, context: canvas.getContext("2d"), drawn: 0 };
  }

  #place() {
    if (!this.cameras) return;
    this.layout = layoutRig(this.cameras, this.narrow.matches);
    this.element.style.setProperty("--aspect", this.layout.width / this.layout.height);
    for (const { name, x, y, width, height } of this.layout.tiles) {
      const { button } = this.tiles.get(name);
      const whole = this.focused === name;
      button.classList.toggle("focused", whole);
      button.hidden = this.focused !== null && !whole;
      button.setAttribute("aria-pressed", String(whole));
      const [l, t, w, h] = whole ? [0, 0, 1, 1] : [x, y, width, height];
      Object.assign(button.style, { left: pct(l), top: pct(t), width: pct(w), height: pct(h) });
    }
  }

  #tick(now) {
    requestAnimationFrame((next) => this.#tick(next));
    const moment = this.playback?.at(now);
    if (!moment || moment === this.shown || this.busy) return;
    this.shown = moment;
    this.busy = true;
    this.#draw(moment).finally(() => (this.busy = false));
  }

  /** All cameras of one moment together, so that neighbours agree. */
  async #draw({ id, chunk, k, frames, type }) {
    const entries = Object.entries(frames).filter(([name]) => this.tiles.has(name));
    const bitmaps = await Promise.all(entries.map(([, images]) => decode(images[Math.min(k, images.length - 1)], type)));
    for (const [i, [name]] of entries.entries()) {
      const tile = this.tiles.get(name);
      if (tile && bitmaps[i]) paint(tile, bitmaps[i]);
      bitmaps[i]?.close();
    }
    this.drawnId = id;
    this.element.dataset.chunk = String(chunk);
    this.times.push(performance.now());
  }
}

/** A picture that cannot be decoded is left out: the next one is 83 ms away. */
async function decode(bytes, type) {
  try {
    return await createImageBitmap(new Blob([bytes], { type }));
  } catch {
    return null;
  }
}

function paint(tile, bitmap) {
  const { canvas, context } = tile;
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  }
  context.drawImage(bitmap, 0, 0);
  canvas.dataset.drawn = String(++tile.drawn);
}

function pct(share) {
  return `${(share * 100).toFixed(4)}%`;
}
