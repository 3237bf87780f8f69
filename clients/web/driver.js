/**
 * Drives one session, or two with the same actions: hello, reset, step after step, snapshots to go back to.
 *
 * In lockstep the world waits for the next action, and this module keeps it at the pace of the pictures; in real time
 * the server keeps the pace. The world stands still from a reset, a rewind or a pause until `go()`.
 */

import { Connection, asProblem } from "./connection.js";
import { LockstepPace, RealtimePace } from "./pacing.js";
import { Problem } from "./rest.js";
import { Snapshots } from "./snapshots.js";

const SNAPSHOT_EVERY_S = 1;

export class Driver {
  /**
   * @param rest for tickets and for finding out what is wrong.
   * @param on `state(name, problem, retryInS)` of the connection; `started(sessions)`; `chunk(index, reply)` for each
   *   session's frames; `phase()` after any change of `waiting` or `over`; `problem(problem)` for refused requests;
   *   `lost()` when the sessions are gone and must be started again; `actions()` gives the rows of the next chunk.
   */
  constructor(rest, on) {
    this.rest = rest;
    this.on = on;
    this.sessions = []; // {session, token, nextChunk, cameras}
    this.mode = "lockstep";
    this.waiting = true; // the world stands still until go()
    this.over = null; // {outcome, reason} of an episode that ended
    this.snapshots = new Snapshots((handle) => rest.remove(`v1/snapshots/${handle}`).catch(() => null));
    this.awaiting = null; // when the request that is under way was sent [ms]
    this.asked = null; // type of that request
    this.unanswered = null; // actions of a step whose reply did not come: sent again unchanged, it runs once only
    this.turn = Promise.resolve(); // operations run one after the other
  }

  /** Connect. `resume` are sessions to attach to; without them one of `engine` is opened. */
  open(engine, resume = []) {
    this.engine = engine;
    this.sessions = resume.map(({ session, token, nextChunk = 0, cameras = [] }) => ({ session, token, nextChunk, cameras }));
    return this.#connect();
  }

  /** A fresh connection, which attaches to all sessions. Resolves with its welcome. */
  #connect() {
    this.connection?.close();
    const ready = new Promise((resolve, reject) => (this.ready = { resolve, reject }));
    this.connection = new Connection(this.rest.socketUrl("v1/drive"), {
      greet: () => this.#hello(),
      greeted: (welcome) => this.#welcome(welcome),
      message: (message) => message.type === "notice" && this.#notice(message),
      state: (name, problem, retryInS) => this.#state(name, problem, retryInS),
      explain: () => this.rest.get("v1/server").then(() => null, (problem) => problem),
    });
    this.connection.open();
    return ready;
  }

  /** End the connection and the sessions, all but the first `kept`: those wait for another driver while their lease runs. */
  async close(kept = 0) {
    this.stopped = true;
    const connection = this.connection;
    const ending = this.sessions.slice(kept);
    const ends = ending.map(({ session }) => connection?.request({ type: "close", session }).catch(() => null));
    await Promise.race([Promise.all(ends), sleep(1000)]);
    connection?.close();
  }

  /** Start every session's world; `choices[i]` overrides the common `setup` (scenario, seed, rig, options, mode). */
  reset(setup, choices = [{}]) {
    return this.#exclusive(async () => {
      this.waiting = true;
      for (const [index, car] of this.sessions.entries()) {
        const started = await this.#ask({ type: "reset", session: car.session, ...setup, ...choices[index] });
        Object.assign(car, { nextChunk: started.next_chunk, cameras: started.cameras });
        this.mode = started.mode;
        this.on.started(index, started);
      }
      this.snapshots.clear();
      this.#fresh();
    });
  }

  /** Copy the first session; the copy is driven with the same actions from now on. */
  fork() {
    return this.#exclusive(async () => {
      const [car] = this.sessions;
      const forked = await this.#ask({ type: "fork", session: car.session, count: 1 });
      const copy = forked.sessions[0];
      this.sessions.push({ session: copy.session, token: copy.resume_token, nextChunk: copy.next_chunk, cameras: car.cameras });
      this.snapshots.clear();
      return this.sessions[1];
    });
  }

  /** A second session of another engine, to be driven with the same actions. */
  openBeside(engine) {
    return this.#exclusive(async () => {
      const { session, resume_token: token } = await this.rest.post("v1/sessions", { engine });
      this.sessions.push({ session, token, nextChunk: 0, cameras: [] });
      this.snapshots.clear();
      this.waiting = true;
      await this.#connect(); // a socket drives what its hello names
      return this.sessions[1];
    });
  }

  /** End the second session. */
  join() {
    return this.#exclusive(async () => {
      const [, copy] = this.sessions.splice(1);
      this.snapshots.clear();
      if (copy) await this.#ask({ type: "close", session: copy.session });
    });
  }

  /** Another tier for the first session, between two chunks. */
  setTier(tier) {
    return this.#exclusive(() => this.#ask({ type: "set_tier", session: this.sessions[0].session, tier }));
  }

  /** Let the world run. */
  go() {
    if (!this.waiting || this.over || !this.sessions.length) return;
    this.waiting = false;
    this.pace.reset();
    this.on.phase();
    this.#run();
  }

  /** Let the world wait; in real time it does not. */
  pause() {
    if (this.waiting || this.mode === "realtime") return;
    this.waiting = true;
    this.on.phase();
  }

  /** Go back by at least `seconds`, or as far as snapshots reach. Resolves to the seconds that it was. */
  rewind(seconds) {
    return this.#exclusive(async () => {
      const now = this.sessions[0].nextChunk;
      const target = this.snapshots.back(now, seconds / this.chunkS);
      if (!target) throw new Problem("NO_SNAPSHOT", "there is no snapshot to go back to yet");
      this.waiting = true;
      for (const [index, car] of this.sessions.entries()) {
        const restored = await this.#ask({ type: "restore", session: car.session, handle: target.handles[index] });
        car.nextChunk = restored.next_chunk;
        this.on.chunk(index, { ...restored, chunk: restored.next_chunk - 1, timing: null, cache: null, restored: true });
      }
      this.snapshots.rewind(target.nextChunk);
      this.#fresh();
      return (now - target.nextChunk) * this.chunkS;
    });
  }

  /** Seconds that the running request has been waiting. */
  waitedS(now) {
    return this.awaiting === null ? 0 : (now - this.awaiting) / 1000;
  }

  get canRewind() {
    return this.sessions.length > 0 && this.snapshots.reachesBefore(this.sessions[0].nextChunk);
  }

  // The conversation -------------------------------------------------------------------------------------------

  async #hello() {
    const resume = this.sessions.map(({ session, token }) => ({ session, token }));
    const ticket = await this.rest.ticket("drive");
    return { type: "hello", client: "viewer", capabilities: [], sessions: resume.length ? 0 : 1, engine: this.engine, resume, ticket };
  }

  #welcome(welcome) {
    this.welcome = welcome;
    this.frames = welcome.frames_per_chunk;
    this.dtS = welcome.dt_us / 1e6;
    this.chunkS = this.frames * this.dtS;
    this.space = welcome.action_spaces.find(({ name }) => name === "controls");
    this.sessions = welcome.sessions.map(({ session, resume_token, next_chunk, state }, index) => ({
      cameras: [],
      ...this.sessions[index],
      session,
      token: resume_token,
      nextChunk: this.unanswered ? this.sessions[index].nextChunk : next_chunk,
      state,
    }));
    this.#choosePace();
    this.ready?.resolve(welcome);
    this.ready = null;
    this.on.phase();
    if (!this.waiting) this.#run();
  }

  #state(name, problem, retryInS) {
    if (name !== "open") this.awaiting = null;
    const gone = name === "refused" && problem.code === "UNKNOWN_SESSION";
    if (name === "refused") this.ready?.reject(problem);
    if (gone) {
      this.sessions = [];
      this.unanswered = null;
      this.on.lost(problem);
    } else this.on.state(name, problem, retryInS);
  }

  #notice({ code, message, details }) {
    if (code === "WORKER_LOST" && Number.isInteger(details?.next_chunk)) this.#adopt(details.next_chunk);
    this.on.problem(new Problem(code, message, { details }));
  }

  async #ask(message) {
    this.awaiting = performance.now();
    this.asked = message.type;
    try {
      return await this.connection.request(message);
    } finally {
      this.awaiting = null;
    }
  }

  /** Operations take turns: a step and a rewind never cross. */
  #exclusive(work) {
    const result = this.turn.then(work);
    this.turn = result.catch(() => null);
    return result;
  }

  // Stepping ---------------------------------------------------------------------------------------------------

  async #run() {
    if (this.running) return;
    this.running = true;
    try {
      while (!this.waiting && !this.stopped && this.connection.state === "open") {
        await sleep(this.pace.delay(performance.now()));
        await this.#exclusive(() => this.#step());
      }
    } catch (problem) {
      this.#stumble(problem);
    } finally {
      this.running = false;
    }
  }

  async #step() {
    if (this.waiting || this.stopped) return; // something else had its turn meanwhile
    const actions = (this.unanswered ??= this.on.actions());
    const sent = performance.now();
    const steps = this.sessions.map(({ session, nextChunk }) => ({ session, chunk: nextChunk, actions, space: "controls" }));
    const { results } = await this.#ask({ type: "step_many", steps });
    this.unanswered = null;
    const error = results.find(({ type }) => type === "error");
    if (error) throw asProblem(error);
    this.#arrived(results, performance.now() - sent);
    await this.#snapshotIfDue();
  }

  #arrived(results, roundTripMs) {
    const [first] = results;
    if (this.mode === "realtime") this.pace.replied(first.action_age_ms, first.held_chunks);
    else this.pace.arrived(performance.now(), roundTripMs);
    for (const [index, reply] of results.entries()) {
      this.sessions[index].nextChunk = reply.chunk + 1;
      this.on.chunk(index, reply, roundTripMs);
    }
    const ended = results.find(({ terminated, truncated }) => terminated || truncated);
    if (ended) {
      this.over = { outcome: ended.outcome, reason: ended.reason };
      this.waiting = true;
      this.on.phase();
    }
  }

  async #snapshotIfDue() {
    const { nextChunk } = this.sessions[0];
    if (this.over || !this.snapshots.isDue(nextChunk, Math.round(SNAPSHOT_EVERY_S / this.chunkS))) return;
    const taken = [];
    for (const { session } of this.sessions) taken.push(await this.#ask({ type: "snapshot", session }));
    this.snapshots.add(taken[0].next_chunk, taken.map(({ handle }) => handle));
  }

  /** A step was refused: go on from where the server says it is, or wait. */
  #stumble(problem) {
    const next = problem.details?.next_chunk;
    if (["NOT_CONNECTED", "LOST", "UNREACHABLE", "CLOSED"].includes(problem.code)) return; // the connection tells
    this.on.problem(problem);
    if (problem.fatal && ["WORKER_LOST", "UNKNOWN_SESSION"].includes(problem.code)) {
      this.sessions = [];
      this.on.lost(problem);
    } else if (Number.isInteger(next)) {
      this.#adopt(next);
      queueMicrotask(() => this.#run());
    } else {
      this.waiting = true;
      this.on.phase();
    }
  }

  #adopt(nextChunk) {
    for (const car of this.sessions) car.nextChunk = nextChunk;
    this.snapshots.rewind(nextChunk);
  }

  /** The world was moved: no episode is over, no step is under way. */
  #fresh() {
    this.over = null;
    this.unanswered = null;
    this.#choosePace();
    this.on.phase();
  }

  #choosePace() {
    this.pace = new (this.mode === "realtime" ? RealtimePace : LockstepPace)(this.chunkS * 1000);
  }
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
