/**
 * What X-Cache did in a chunk: the map of (step t, block b), the skip rate, and why blocks were computed.
 *
 * Telemetry of a chunk: `reasons` (names; index is the code; 0 is skipped), `reason` [S, L] or [S, L, R] codes (R tiles
 * of a block), and where a skip was checked `error` of the same shape (NaN elsewhere). `tier` is its name.
 */

import { colour, context2d, el, setText } from "./dom.js";

// Computed because the schedule says so, before anything was compared: drawn quietly.
const SCHEDULED = new Set(["step0", "anchor", "warm_up", "kv_update", "off"]);
const HISTORY = 120;

/** Shares of one chunk: `{skipRate, counts: Map name -> blocks, cells: [S][L] {skipped, scheduled}, error}`. Pure. */
export function summarize({ reasons, reason, error }) {
  const [steps, blocks, tiles = 1] = reason.shape;
  const counts = new Map();
  const cells = [];
  for (let t = 0; t < steps; t++) {
    cells.push([]);
    for (let b = 0; b < blocks; b++) {
      const codes = Array.from(reason.data.subarray((t * blocks + b) * tiles, (t * blocks + b + 1) * tiles), Number);
      const names = codes.map((code) => reasons[code] ?? `code ${code}`);
      for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1 / tiles);
      const share = (test) => names.filter(test).length / tiles;
      cells[t].push({
        skipped: share((name) => name === reasons[0]), scheduled: share((name) => SCHEDULED.has(name)), why: names[0],
      });
    }
  }
  const known = error ? Array.from(error.data).filter(Number.isFinite) : [];
  const mean = known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  return { skipRate: (counts.get(reasons[0]) ?? 0) / (steps * blocks), counts, cells, error: mean };
}

export class XCachePanel {
  constructor({ canvas, history, rate, tier, reasons, shadow, absent, present }) {
    Object.assign(this, { canvas, history, rate, tier, reasons, shadow, absent, present });
    this.canvas.addEventListener("pointermove", (event) => this.#explain(event));
    this.clear();
  }

  clear() {
    this.rates = [];
    this.last = null;
    setText(this.shadow, "");
    this.#visible(false);
  }

  /** A chunk's telemetry, or null while the engine sends none. */
  show(cache) {
    const present = Boolean(cache?.reason && cache?.reasons);
    this.#visible(present);
    if (!present) return;
    this.last = summarize(cache);
    this.rates.push(this.last.skipRate);
    if (this.rates.length > HISTORY) this.rates.shift();
    setText(this.rate, `${(100 * this.last.skipRate).toFixed(0)} %`);
    setText(this.tier, cache.tier ?? "");
    if (this.last.error !== null) setText(this.shadow, `shadow error ${(100 * this.last.error).toFixed(1)} %`);
    this.#list();
    this.draw();
  }

  draw() {
    if (!this.last) return;
    this.#map();
    this.#strip();
  }

  #visible(present) {
    this.present.hidden = !present;
    this.absent.hidden = present;
  }

  #map() {
    const [context, width, height] = context2d(this.canvas);
    const { cells } = this.last;
    const [h, w] = [height / cells.length, width / cells[0].length];
    for (const [t, row] of cells.entries()) {
      for (const [b, cell] of row.entries()) {
        const gap = Math.min(1, w / 8);
        context.fillStyle = colour("computed");
        context.fillRect(b * w, t * h, w - gap, h - gap);
        part(context, colour("scheduled"), cell.scheduled, b * w, t * h, w - gap, h - gap);
        part(context, colour("skipped"), cell.skipped, b * w, t * h, w - gap, h - gap);
      }
    }
  }

  #strip() {
    const [context, width, height] = context2d(this.history);
    context.fillStyle = colour("skipped");
    const w = width / HISTORY;
    for (const [i, rate] of this.rates.entries()) {
      const x = width - (this.rates.length - i) * w;
      context.fillRect(x, height - rate * height, Math.max(w - 0.5, 0.5), rate * height);
    }
  }

  /** Computed blocks by reason, most frequent first. */
  #list() {
    const { counts } = this.last;
    const rows = [...counts].filter(([name]) => name !== "skipped").sort((a, b) => b[1] - a[1]);
    const texts = rows.map(([name, blocks]) => `${name.replaceAll("_", " ")} ${Math.round(blocks)}`);
    if (this.reasons.textContent === texts.join("")) return;
    this.reasons.replaceChildren(...texts.map((text) => el("li", {}, text)));
  }

  #explain(event) {
    if (!this.last) return;
    const { cells } = this.last;
    const box = this.canvas.getBoundingClientRect();
    const t = Math.floor(((event.clientY - box.top) / box.height) * cells.length);
    const b = Math.floor(((event.clientX - box.left) / box.width) * cells[0].length);
    const cell = cells[t]?.[b];
    if (cell) this.canvas.title = `step ${t}, block ${b}: ${cell.why.replaceAll("_", " ")}, ${Math.round(100 * cell.skipped)} % skipped`;
  }
}

/** Fill a share of a cell from below. */
function part(context, style, share, x, y, width, height) {
  if (share <= 0) return;
  context.fillStyle = style;
  context.fillRect(x, y + height * (1 - share), width, height * share);
}
