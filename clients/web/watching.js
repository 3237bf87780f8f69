/** The role of a page that watches a session which somebody else drives. */

import { Watcher } from "./watcher.js";

const SILENT_S = 3;

export class Watching {
  constructor(page, session) {
    Object.assign(this, { page, session });
    this.lastChunk = null; // when it came
    page.status.say("busy", "connecting");
    this.watcher = new Watcher(page.rest, session, {
      state: (...news) => this.#connection(...news),
      watching: ({ cameras }) => cameras.length && this.#newWorld(cameras),
      chunk: (message) => this.#show(message),
      notice: ({ code, message }) => page.status.note(`${code.toLowerCase().replaceAll("_", " ")}: ${message}`),
    });
  }

  get sessions() {
    return [this.session];
  }

  close() {
    this.watcher.close();
  }

  tick(now) {
    if (this.watcher.connection.state !== "open" || this.lastChunk === null) return;
    const silentS = (now - this.lastChunk) / 1000;
    const silence = `no new pictures for ${silentS.toFixed(0)} s: its driver waits, or the network stalls`;
    if (silentS > SILENT_S) this.page.status.say("busy", silence);
    else this.page.sayPace("watching");
  }

  /** The pickers say what is watched. */
  async #newWorld(cameras) {
    const { page, session } = this;
    page.newWorld(0, cameras, session);
    const seen = await page.describe(session).catch(() => null);
    if (seen && page.role === this && !page.choices.touched) page.choices.show(seen.setup, seen.engine);
  }

  #connection(name, problem, retryInS) {
    if (name === "refused" && problem.code === "UNKNOWN_SESSION" && this.lastChunk !== null) {
      this.page.status.note("The world that was shown has ended.");
      this.page.watchAnother();
    } else this.page.showConnection(name, problem, retryInS, [["Close", () => this.page.idle()]]);
  }

  #show(message) {
    const { page } = this;
    const [view] = page.views;
    if (!Object.keys(message.frames).every((name) => view.mosaic.tiles.has(name))) {
      page.watch(this.session); // reset with another rig: ask for its cameras
      return;
    }
    if (message.chunk < (view.last?.chunk ?? -1)) this.#newWorld(view.mosaic.cameras);
    page.show(0, message);
    if (message.chunk < 0) page.instruments.opening(message);
    else page.instruments.show(message);
    page.recorder.log(message, null);
    this.lastChunk = performance.now();
  }
}
