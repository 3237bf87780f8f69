/** The role of a page that drives: one session, or two side by side with the same actions. */

import { planActions } from "./actions.js";
import { compare } from "./difference.js";
import { Driver } from "./driver.js";
import { Watcher } from "./watcher.js";

const MEMORY = "roadloop.driving"; // of this tab: a reload goes on with its session
const STALL_S = 3;
const LOST_RECENTLY_MS = 60_000;
const ENDINGS = { success: "You are there", failure: "The episode is over", timeout: "Time is up" };

/** The session that this tab drove before it was loaded again: `{sessions, setup, borrowed}`, or null. */
export function keptDriving() {
  return JSON.parse(sessionStorage.getItem(MEMORY) ?? "null");
}

export class Driving {
  /**
   * @param engine what makes the pictures of the first session.
   * @param borrowed whether another driver had the wheel and gets it back.
   */
  constructor(page, engine, borrowed = false) {
    Object.assign(this, { page, engine, borrowed });
    this.setup = null; // fields of the reset that made the world
    this.difference = null; // {engine} or {tier} in which the second world differs from the first
    this.pictures = null; // in real time: where pictures come from
    this.lastActions = null;
    this.lastChunk = -Infinity;
  }

  /** Connect, opening a session or attaching to `resume`; `setup` is what those were started with. */
  async open(resume = [], setup = null) {
    const driver = new Driver(this.page.rest, {
      state: (...news) => this.#connection(...news),
      started: (index, started) => this.#started(index, started),
      chunk: (index, reply, roundTripMs) => this.#chunk(index, reply, roundTripMs),
      phase: () => this.#showPhase(),
      problem: (problem) => this.page.status.noteProblem(problem),
      lost: (problem) => this.#lost(problem),
      actions: () => this.#actions(),
    });
    this.driver = driver;
    this.setup = setup;
    if (setup) driver.mode = setup.mode;
    this.page.status.say("busy", "connecting");
    await driver.open(this.engine, resume);
    for (const [index, { cameras, session }] of resume.entries()) this.page.newWorld(index, cameras, session);
    this.#watchIfRealtime();
    this.#showPhase();
    if (this.borrowed && driver.mode === "realtime") driver.go(); // that world does not wait
  }

  close() {
    sessionStorage.removeItem(MEMORY);
    this.pictures?.close();
    this.closed = true;
    this.driver.close(this.borrowed ? 1 : 0);
  }

  get sessions() {
    return this.driver.sessions.map(({ session }) => session);
  }

  // What the driver may ask for --------------------------------------------------------------------------------

  /** Start the world, or both; the second one may have another tier or engine. */
  async start(setup) {
    this.setup = setup;
    this.page.status.hide();
    this.page.status.say("busy", "building the world");
    const tiers = this.page.choices.tiersOf(this.difference?.engine ?? this.engine);
    const tier = this.difference?.tier ?? (tiers.includes(setup.options.tier) ? setup.options.tier : tiers[0]);
    await this.page.attempt(this.driver.reset(setup, [{}, { options: { ...setup.options, tier } }]));
  }

  /** Another X-Cache tier from the next chunk on; the world goes on as it is. The second world keeps its own. */
  async setTier(tier) {
    if (!this.setup || !(await this.page.attempt(this.driver.setTier(tier)))) return;
    this.setup = { ...this.setup, options: { ...this.setup.options, tier } };
    this.page.toolbar.offerBeside(this.page.choices, this.engine, tier);
    this.#remember();
  }

  again() {
    return this.setup && this.start(this.setup);
  }

  pauseOrGo() {
    if (this.driver.waiting) this.driver.go();
    else this.driver.pause();
  }

  async rewind() {
    if (!this.driver.canRewind) return;
    const seconds = await this.page.attempt(this.driver.rewind(3));
    if (seconds) this.page.status.note(`Back by ${seconds.toFixed(1)} s. A driving key goes on from here.`);
  }

  /** A second world: `copy` of the first as it is, `tier:NAME` or `engine:NAME` to start both again with, or none. */
  async beside(choice) {
    const { page, driver } = this;
    const [, kind, name] = /^(\w+):(.+)$/.exec(choice) ?? [];
    this.difference = null;
    if (driver.sessions.length > 1) await page.attempt(driver.join());
    page.views.forEach((view) => view.title(""));
    const second = () => page.attempt(kind === "engine" ? driver.openBeside(name) : driver.fork());
    const there = choice !== "" && (await second());
    page.views[1].visible = Boolean(there);
    page.toolbar.showBeside(there ? choice : "");
    if (there) {
      page.newWorld(1, driver.sessions[0].cameras, null);
      if (page.views[0].last) page.show(1, page.views[0].last);
      if (choice !== "copy") {
        this.difference = { [kind]: name };
        await this.start(this.setup);
      }
    }
    page.sessionList.setCurrent(this.sessions);
  }

  // What comes from the server ---------------------------------------------------------------------------------

  #started(index, started) {
    const opening = { ...started, chunk: -1 };
    this.page.newWorld(index, started.cameras, started.session);
    this.page.show(index, opening);
    if (index > 0) return;
    this.page.instruments.opening(opening);
    this.page.recorder.forget();
    this.#watchIfRealtime();
  }

  /** In real time the world also makes chunks that nobody asked for; only viewers get those. */
  #watchIfRealtime() {
    this.pictures?.close();
    this.pictures = null;
    if (this.driver.mode !== "realtime") return;
    this.pictures = new Watcher(this.page.rest, this.sessions[0], { chunk: (message) => this.page.show(0, message) });
  }

  #chunk(index, reply, roundTripMs) {
    const { page } = this;
    if (this.closed) return;
    if (!this.pictures || reply.restored) page.show(index, reply);
    if (index > 0) return;
    page.instruments.show(reply, this.driver.mode === "realtime" ? null : roundTripMs);
    if (!reply.restored) page.recorder.log(reply, this.lastActions);
    this.ego = reply.ego.row(-1);
    this.lastChunk = performance.now();
  }

  /** What the hands say, as the rows of the next chunk. */
  #actions() {
    const { space, frames, dtS } = this.driver;
    const [, , , speedMps = 0, , steering = 0] = this.page.views[0].last?.ego?.row(-1) ?? [];
    this.lastActions = planActions(this.page.hands.intent(), steering, { speedMps }, space, frames, dtS);
    return this.lastActions;
  }

  /** The sessions are gone: begin again by itself if somebody was driving just now. */
  async #lost(problem) {
    if (this.closed) return;
    const { page, setup } = this;
    if (setup && performance.now() - this.lastChunk < LOST_RECENTLY_MS) {
      page.status.note("The session was gone, probably with a restart of the server. The scenario began again.", 10);
      await page.drive(setup);
    } else {
      page.status.say("bad", "the session has ended");
      page.status.problem(problem, [["Drive again", () => page.drive(setup)], ["Close", () => page.idle()]]);
    }
  }

  #connection(name, problem, retryInS) {
    if (this.closed) return;
    const { page, setup } = this;
    const ours = this.driver.sessions.map((session) => ({ ...session }));
    const taken = problem?.code === "TAKEN_OVER" && ours.length;
    const actions = [["Watch it", () => page.watch(ours[0].session)], ["Take it back", () => page.attach(ours, setup)]];
    page.showConnection(name, problem, retryInS, taken ? actions : [["Close", () => page.idle()]]);
  }

  // What the page shows of it ----------------------------------------------------------------------------------

  #showPhase() {
    const { page, driver } = this;
    if (this.closed || driver.connection.state !== "open") return;
    const running = !driver.waiting;
    page.toolbar.showPhase(driver);
    page.toolbar.showRewind(driver.canRewind);
    if (!running) page.instruments.rest();
    if (driver.over) this.#showEnd(driver.over);
    else page.status.hide();
    if (running) page.sayPace("driving");
    else if (!driver.over) page.status.say("good", "waiting for you: a driving key goes");
    this.#remember();
  }

  #showEnd({ outcome, reason }) {
    const why = reason.replaceAll("_", " ");
    this.page.status.say("good", `${outcome}: ${why}`);
    const actions = [["Again", () => this.again()]];
    if (this.driver.canRewind) actions.push(["Back 3 s", () => this.rewind()]);
    this.page.status.show(ENDINGS[outcome] ?? outcome, `Outcome: ${outcome}, ${why}.`, actions);
  }

  /** The second session is not kept: a reload leaves it to its lease. */
  #remember() {
    const sessions = this.driver.sessions.slice(0, 1).map(({ session, token }) => ({ session, token }));
    if (sessions.length && this.setup) sessionStorage.setItem(MEMORY, JSON.stringify({ sessions, setup: this.setup, borrowed: this.borrowed }));
  }

  tick(now) {
    const { page, driver } = this;
    const waited = driver.waitedS(now);
    page.toolbar.showRewind(driver.canRewind);
    if (driver.waiting && page.hands.gamepadActive()) driver.go();
    if (waited > 1 && driver.asked === "reset") page.status.say("busy", `building the world: ${waited.toFixed(0)} s`);
    else if (waited > STALL_S) page.status.say("bad", `no answer for ${waited.toFixed(0)} s: the server or the network is slow`);
    else if (!driver.waiting && driver.connection.state === "open") page.sayPace("driving");
    if (driver.sessions.length > 1) this.#compare();
  }

  #compare() {
    const [a, b] = this.page.views;
    const tier = this.setup?.options?.tier ?? "exact";
    const { engine: otherEngine, tier: otherTier } = this.difference ?? {};
    a.title(`A · ${otherEngine ? this.engine : tier}`);
    if (a.mosaic.drawnId !== b.mosaic.drawnId) return;
    const db = compare(a.mosaic, b.mosaic);
    const distance = db === Infinity ? " · equal to A" : ` · ${db?.toFixed(1)} dB from A`;
    b.title(`B · ${otherEngine ?? otherTier ?? `copy, ${tier}`}${db === null ? "" : distance}`);
  }
}
