/** All panels under the pictures, fed by one chunk at a time. */

import { BirdsEye } from "./birdseye.js";
import { $, setText } from "./dom.js";
import { Hud } from "./hud.js";
import { RateMeter } from "./pacing.js";
import { StageChart } from "./stages.js";
import { XCachePanel } from "./xcache.js";

export class Instruments {
  constructor() {
    this.hud = new Hud($("#hud"));
    this.above = new BirdsEye($("#above canvas"));
    this.stages = new StageChart($("#timing canvas"), $("#timing .legend"));
    this.cache = new XCachePanel({
      canvas: $("#cache-map"), history: $("#cache-history"), rate: $("#skip-rate"), tier: $("#cache-tier"),
      reasons: $("#cache-reasons"), shadow: $("#shadow-error"), absent: $("#xcache .absent"), present: $("#xcache .present"),
    });
    const redraw = () => [this.above, this.stages, this.cache].forEach((panel) => panel.draw());
    new ResizeObserver(redraw).observe($("#panels"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    this.clear();
  }

  /** Another world, or none. */
  clear(chunkMs = 1000 / 3) {
    this.chunkMs = chunkMs;
    this.meter = new RateMeter(chunkMs);
    this.chunk = null;
    this.heldTotal = 0;
    for (const panel of [this.hud, this.above, this.stages, this.cache]) panel.clear();
    for (const id of ["factor", "age", "held", "fps"]) setText($(`#${id}`), "–");
  }

  /** The first frame of a world: no chunk was made yet. */
  opening(message) {
    this.hud.show(message);
    this.above.show(message);
  }

  /** A chunk of the world that the instruments show. `roundTripMs` where this page asked for it and did not wait on purpose. */
  show(message, roundTripMs = null) {
    this.hud.show(message);
    this.above.show(message);
    if (message.restored) {
      this.meter.reset();
      this.chunk = null;
      return;
    }
    this.cache.show(message.cache);
    this.stages.show(message.timing, this.chunkMs, roundTripMs);
    this.#rate(message.chunk);
    if (message.action_age_ms !== undefined) this.#lateness(message);
  }

  /** The world stands still on purpose: that time does not count. */
  rest() {
    this.meter.reset();
    this.chunk = null;
  }

  /** Real-time factor, or null. */
  get factor() {
    return this.meter.factor;
  }

  showFps(fps) {
    setText($("#fps"), `${fps.toFixed(1)} fps`);
  }

  /** Chunks that this page did not get count as well: the world made them. */
  #rate(chunk) {
    const factor = this.meter.came(performance.now(), this.chunk === null ? 1 : Math.max(chunk - this.chunk, 1));
    this.chunk = chunk;
    if (factor !== null) setText($("#factor"), `${factor.toFixed(2)} ×`);
  }

  #lateness({ action_age_ms, held_chunks }) {
    this.heldTotal += held_chunks;
    setText($("#age"), `${action_age_ms.toFixed(0)} ms`);
    setText($("#held"), `${this.heldTotal} chunks`);
  }
}
