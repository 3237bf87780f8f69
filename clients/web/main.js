/** The page: finds the server, then drives a session, watches one, or waits for somebody to choose. */

import { Choices } from "./choices.js";
import { $, setText } from "./dom.js";
import { Driving, keptDriving } from "./driving.js";
import { enter, keptToken } from "./entrance.js";
import { Hands } from "./hands.js";
import { Instruments } from "./instruments.js";
import { Recorder } from "./recorder.js";
import { Rest } from "./rest.js";
import { SessionList } from "./session_list.js";
import { Status } from "./status.js";
import { Toolbar } from "./toolbar.js";
import { View } from "./view.js";
import { Watching } from "./watching.js";

class Page {
  constructor() {
    this.kept = null; // {session, message} of a world whose driver changes
    this.role = null; // Driving, Watching, or null while nobody has chosen
    this.rest = new Rest();
    this.rest.token = keptToken();
    this.status = new Status($("#status"), $("#card"), $("#toast"));
    this.choices = new Choices($("#choices"), (tier) => this.driving?.setTier(tier));
    this.instruments = new Instruments();
    this.recorder = new Recorder();
    this.views = [$("#view-a"), $("#view-b")].map((element) => new View(element, (name) => this.#pointAt(name)));
    this.hands = new Hands(() => this.#wake());
    this.hands.attachTouch($("#wheel"), [[$("#go-pedal"), 0.6], [$("#brake-pedal"), -0.7]]);
    this.sessionList = new SessionList($("#sessions ul"), $("#sessions .absent"), this.rest, (name) => this.watch(name));
    this.toolbar = new Toolbar(this);
    setInterval(() => this.#tick(), 500);
  }

  async begin() {
    this.info = await enter(this.rest, this.status);
    this.dtMs = this.info.dt_us / 1000;
    this.chunkMs = this.info.frames_per_chunk * this.dtMs;
    const scenarios = await this.rest.get("v1/scenarios");
    this.hasMaps = scenarios.some(({ map }) => map);
    this.choices.fill(this.info, scenarios);
    const { engine, model, model_digest: digest, determinism } = this.info;
    $("header h1").title = `${engine} · model ${model} ${digest.slice(0, 12)} · ${determinism}`;
    await this.#route();
  }

  /** Watch the session in the address, go on with this tab's own, watch whoever drives, or wait for a choice. */
  async #route() {
    const watched = new URLSearchParams(location.hash.slice(1)).get("watch");
    if (watched) return this.watch(watched);
    const sessions = await this.rest.get("v1/sessions").catch(() => []);
    const kept = keptDriving();
    const driven = newestDriven(sessions);
    if (this.role !== null) return null; // somebody was quicker
    const own = kept && sessions.find(({ session, scenario }) => session === kept.sessions[0].session && scenario);
    if (own) {
      const cameras = this.info.rigs[own.rig].filter(({ name }) => own.cameras.includes(name));
      const attached = kept.sessions.map((session) => ({ ...session, cameras }));
      return this.attempt(this.attach(attached, kept.setup, own.engine, kept.borrowed));
    }
    return driven ? this.watch(driven, false) : this.idle();
  }

  // Roles ------------------------------------------------------------------------------------------------------

  /** Nobody drives or watches here. */
  idle() {
    this.#take(null);
    const { rigs, default_rig } = this.info;
    this.views[0].setCameras(rigs[this.choices.setup().rig] ?? rigs[default_rig], this.dtMs);
    this.views[0].mosaic.blank();
    this.status.say("good", `ready: ${this.info.engine}`);
    const drive = () => this.attempt(this.drive(this.choices.setup()));
    this.status.show("Take the wheel", "Choose a scenario above and drive it, or watch a session below.", [["Drive", drive]]);
  }

  /** Drive a scenario, in the session of this page if it has one. */
  async drive(setup) {
    const { engine } = this.choices;
    this.choices.touched = false;
    this.toolbar.offerBeside(this.choices, engine, setup.options.tier);
    if (!this.driving?.driver.sessions.length || this.driving.engine !== engine) {
      this.#take(new Driving(this, engine));
      await this.role.open();
    }
    this.views[1].visible = false;
    if (this.driving.driver.sessions.length > 1) await this.driving.beside("");
    this.sessionList.setCurrent(this.role.sessions);
    await this.role.start(setup);
  }

  /** Drive sessions that exist: `{session, token, cameras}` each; `borrowed` ones go back to their driver afterwards. */
  async attach(sessions, setup, engine, borrowed = false) {
    this.choices.show(setup, engine);
    this.#take(new Driving(this, engine, borrowed));
    this.toolbar.offerBeside(this.choices, engine, setup.options.tier);
    await this.role.open(sessions, setup);
    this.sessionList.setCurrent(this.role.sessions);
  }

  /** Watch a session that is driven elsewhere; `named` puts it into the address. */
  watch(session, named = true) {
    this.#take(null);
    if (named) history.replaceState(null, "", `#watch=${session}`);
    this.#take(new Watching(this, session), true);
    this.sessionList.setCurrent([session]);
  }

  /** What was watched has ended: whoever drives next, if somebody does soon. */
  async watchAnother() {
    history.replaceState(null, "", location.pathname + location.search);
    this.role?.close();
    this.role = null;
    this.status.say("busy", "waiting for the next world");
    for (let tries = 0; tries < 8 && this.role === null; tries++) {
      const driven = newestDriven(await this.rest.get("v1/sessions").catch(() => []));
      if (this.role === null && driven) return this.watch(driven, false);
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
    return this.role === null ? this.idle() : null;
  }

  /** Drive the watched session in its driver's place, or give it back. */
  async swapTheWheel() {
    if (this.driving?.borrowed) {
      this.#keepShowing(this.driving.sessions[0]);
      this.watch(this.driving.sessions[0], false);
    } else if (this.watching) await this.#steer((session) => this.rest.post(`v1/sessions/${session}/wheel`), true);
  }

  /** Copy the watched session and drive the copy. */
  async driveCopy() {
    await this.#steer(async (session) => (await this.rest.post(`v1/sessions/${session}/fork`, { count: 1 }))[0], false);
  }

  /** Attach to the watched session or to what `obtain` makes of it. */
  async #steer(obtain, borrowed) {
    const { session } = this.watching;
    const { cameras } = this.views[0].mosaic;
    this.#keepShowing(session);
    const { setup, engine } = await this.describe(session);
    const taken = await obtain(session);
    this.kept.session = taken.session;
    await this.attach([{ session: taken.session, token: taken.resume_token, cameras }], setup, engine, borrowed);
  }

  /** A session's engine, and the reset that would make its world again. */
  async describe(session) {
    const seen = await this.rest.get(`v1/sessions/${encodeURIComponent(session)}`);
    const { scenario, rig, mode, seed, tier, weather, time_of_day, engine } = seen;
    return { setup: { scenario, rig, mode, seed, options: { tier, weather, time_of_day } }, engine };
  }

  /** The world stays the same while its driver changes: its last chunk is shown until the next one comes. */
  #keepShowing(session) {
    this.kept = { session, message: this.views[0].last };
  }

  /** The driver's role, or null. */
  get driving() {
    return this.role instanceof Driving ? this.role : null;
  }

  /** The viewer's role, or null. */
  get watching() {
    return this.role instanceof Watching ? this.role : null;
  }

  /** A driving key or pedal was touched. */
  #wake() {
    if (this.watching) this.status.note("Somebody else is driving. T takes the wheel.", 3);
    this.driving?.driver.go();
  }

  #take(role, keepAddress = false) {
    this.role?.close();
    if (this.recorder.recording) this.film();
    this.role = role;
    document.body.dataset.role = role === null ? "idle" : this.driving ? "drive" : "watch";
    this.toolbar.showWheel(this.driving?.borrowed ?? false, this.watching !== null);
    this.views[1].visible = false;
    this.views.forEach((view) => view.title(""));
    this.instruments.clear(this.chunkMs);
    this.recorder.forget();
    if (!keepAddress) history.replaceState(null, "", location.pathname + location.search);
    this.sessionList.setCurrent([]);
    if (role === null) this.status.hide();
  }

  // What the roles use -----------------------------------------------------------------------------------------

  /** Another world in view `index`. */
  newWorld(index, cameras, session) {
    this.views[index].setCameras(cameras, this.dtMs);
    if (index > 0) return;
    this.instruments.clear(this.chunkMs);
    this.#showMap(session);
    const kept = this.kept?.session === session ? this.kept.message : null;
    this.kept = null;
    if (!kept) return;
    this.views[0].last = kept;
    this.instruments.opening(kept);
  }

  /** The roads, where the engine has any and the world is still the same when they come. */
  async #showMap(session) {
    this.mapOf = session;
    if (!this.hasMaps) return;
    const map = await this.rest.get(`v1/sessions/${encodeURIComponent(session)}/map`).catch(() => null);
    if (map && this.mapOf === session) this.instruments.above.showMap(map);
  }

  /** A chunk's pictures; both views start a chunk at the same moment. */
  show(index, message) {
    if (index === 0) this.arrived = performance.now();
    this.views[index].show(message, this.arrived);
    if (index === 0) setText($("#speedo"), `${(message.ego.row(-1)[3] * 3.6).toFixed(0)} km/h`);
  }

  sayPace(doing) {
    const { factor } = this.instruments;
    this.status.say("good", factor === null ? doing : `${doing} at ${factor.toFixed(2)} × real time`);
  }

  /** How a socket stands; `actions` are offered when it is not open. */
  showConnection(name, problem, retryInS, actions) {
    if (name === "open") this.status.hide();
    else if (name === "connecting") this.status.say("busy", "connecting");
    else if (name === "waiting") {
      this.status.say("bad", `not connected; next try in ${Math.ceil(retryInS)} s`);
      this.status.problem(problem, actions);
    } else if (name === "refused" && problem.code === "UNAUTHENTICATED") this.begin();
    else if (name === "refused") {
      this.status.say("bad", problem.message);
      this.status.problem(problem, actions);
    }
  }

  /** Wait for an operation; show what went wrong. Resolves to null then. */
  async attempt(operation) {
    try {
      return (await operation) ?? true;
    } catch (problem) {
      if (problem.code === "BAD_REQUEST") this.status.problem(problem, [["Close", () => this.status.hide()]]);
      else this.status.noteProblem(problem);
      return null;
    }
  }

  film() {
    if (this.recorder.recording) this.recorder.stop();
    else this.recorder.start(this.views[0].mosaic, 1000 / this.dtMs);
    this.toolbar.showFilm(this.recorder.recording);
  }

  /** Let one camera fill the mosaics, or bring all back. */
  enlarge(index) {
    const name = this.views[0].mosaic.cameras?.[index]?.name;
    if (name) this.views.filter(({ mosaic }) => mosaic.tiles.size).forEach(({ mosaic }) => mosaic.focus(name));
  }

  #pointAt(name) {
    this.instruments.above.camera = this.views[0].mosaic.cameras.find((camera) => camera.name === name) ?? null;
    this.instruments.above.draw();
  }

  /** Twice a second: what only time can tell. */
  #tick() {
    this.instruments.showFps(this.views[0].mosaic.rate());
    this.role?.tick(performance.now());
  }
}

/** Name of the newest session with a world and a driver, or undefined. */
function newestDriven(sessions) {
  return sessions.filter(({ driven, scenario }) => driven && scenario).at(-1)?.session;
}

new Page().begin();
