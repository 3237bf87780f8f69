/** Where the time of each chunk went: a bar per chunk, a colour per stage, a line at what real time allows. */

import { colour, context2d, el } from "./dom.js";

const CHUNKS = 60;
const ORDER = ["queue", "scene", "condition", "denoise", "decode", "render", "kv_update", "engine", "encode", "flush", "network"];
const WHOLE = "engine"; // contains the engine's own stages
const AFTER = "flush"; // of the chunk before, after its reply: nobody waited for it

/**
 * The stages of one chunk, disjoint: `engine` becomes what its parts do not explain, `network` what the server does
 * not. Pure.
 */
export function splitStages(timing, roundTripMs = null) {
  const parts = Object.entries(timing).filter(([name]) => !["queue", "encode", AFTER, WHOLE].includes(name));
  const explained = parts.reduce((sum, [, ms]) => sum + ms, 0);
  const stages = { ...timing, [WHOLE]: Math.max(0, (timing[WHOLE] ?? explained) - explained) };
  const total = Object.values(stages).reduce((sum, ms) => sum + ms, 0) - (timing[AFTER] ?? 0);
  if (roundTripMs !== null) stages.network = Math.max(0, roundTripMs - total);
  const known = ORDER.filter((name) => name in stages);
  const others = Object.keys(stages).filter((name) => !ORDER.includes(name));
  return [...known, ...others].map((name) => [name, stages[name]]).filter(([, ms]) => ms >= 0.05);
}

export class StageChart {
  constructor(canvas, legend) {
    Object.assign(this, { canvas, legend });
    this.clear();
  }

  clear() {
    this.chunks = [];
    this.draw();
    this.legend.replaceChildren();
  }

  /** A chunk's timing; `budgetMs` is its media time; the round trip counts only where the client does not pace. */
  show(timing, budgetMs, roundTripMs = null) {
    this.budgetMs = budgetMs;
    this.chunks.push(splitStages(timing, roundTripMs));
    if (this.chunks.length > CHUNKS) this.chunks.shift();
    this.draw();
    this.#names();
  }

  draw() {
    const [context, width, height] = context2d(this.canvas);
    if (!this.chunks.length || !width) return;
    const totals = this.chunks.map((stages) => stages.reduce((sum, [, ms]) => sum + ms, 0));
    const scale = height / (1.1 * Math.max(this.budgetMs, ...totals));
    const w = width / CHUNKS;
    for (const [i, stages] of this.chunks.entries()) {
      let y = height;
      for (const [name, ms] of stages) {
        context.fillStyle = stageColour(name);
        context.fillRect(width - (this.chunks.length - i) * w, y - ms * scale, Math.max(w - 1, 1), ms * scale);
        y -= ms * scale;
      }
    }
    this.#budget(context, width, height - this.budgetMs * scale);
  }

  #budget(context, width, y) {
    Object.assign(context, { strokeStyle: colour("text"), fillStyle: colour("text"), lineWidth: 1, font: "10px system-ui" });
    context.setLineDash([3, 3]);
    context.beginPath();
    context.moveTo(0, y);
    context.lineTo(width, y);
    context.stroke();
    context.setLineDash([]);
    context.fillText(`${Math.round(this.budgetMs)} ms: real time`, 2, y > 12 ? y - 3 : y + 11);
  }

  /** Medians of what is shown. */
  #names() {
    const byStage = new Map();
    for (const stages of this.chunks) for (const [name, ms] of stages) byStage.set(name, [...(byStage.get(name) ?? []), ms]);
    const texts = [...byStage].map(([name, values]) => [name, `${name.replaceAll("_", " ")} ${rounded(median(values))}`]);
    this.legend.replaceChildren(...texts.map(([name, text]) => {
      const swatch = el("i");
      swatch.style.background = stageColour(name);
      return el("li", {}, swatch, text);
    }));
  }
}

/** One hue per stage; stages that only some engine has share the rest. */
function stageColour(name) {
  const index = ORDER.indexOf(name);
  return colour(`stage-${index < 0 ? "other" : name.replaceAll("_", "-")}`);
}

function median(values) {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

function rounded(ms) {
  return ms < 10 ? ms.toFixed(1) : ms.toFixed(0);
}
