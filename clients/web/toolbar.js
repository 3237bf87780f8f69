/** Buttons, pickers and shortcuts of the page; what they do is the page's and its role's. */

import { $ } from "./dom.js";

export class Toolbar {
  constructor(page) {
    this.page = page;
    this.#buttons();
    this.#pickers();
    addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show what can be done now. */
  showPhase({ waiting, over, mode }) {
    $("#pause").firstChild.textContent = waiting ? "Go " : "Wait ";
    $("#pause").disabled = Boolean(over) || (!waiting && mode === "realtime");
    $("#beside").disabled = mode === "realtime";
  }

  /** Who has the wheel. */
  showWheel(borrowed, watching) {
    $("#swap").hidden = !borrowed && !watching;
    $("#swap").firstChild.textContent = borrowed ? "Give the wheel back " : "Take the wheel ";
    $("#leave").textContent = watching ? "Stop watching" : "End session";
    $("#leave").hidden = borrowed;
  }

  showRewind(possible) {
    $("#rewind").disabled = !possible;
  }

  showFilm(recording) {
    $("#film").setAttribute("aria-pressed", String(recording));
    $("#film").textContent = recording ? "Stop and save" : "Record video";
  }

  /** What may stand beside a world of this engine and tier: a copy, other tiers, other engines. */
  offerBeside(choices, engine, tier) {
    const tiers = choices.tiersOf(engine).filter((name) => name !== tier).map((name) => `tier:${name}`);
    const engines = [...choices.engines.keys()].filter((name) => name !== engine).map((name) => `engine:${name}`);
    const starts = [...tiers, ...engines].map((name) => [name, `${name.replace(/^\w+:/, "")}, from the start`]);
    const offers = [["", "nothing"], ["copy", "a copy, from here"], ...starts];
    const { value } = $("#beside");
    $("#beside").replaceChildren(...offers.map(([name, label]) => new Option(label, name)));
    if (offers.some(([name]) => name === value)) $("#beside").value = value;
  }

  showBeside(choice) {
    $("#beside").value = choice;
  }

  #buttons() {
    const { page } = this;
    const clicks = {
      pause: () => page.driving?.pauseOrGo(),
      rewind: () => page.driving?.rewind(),
      again: () => page.driving?.again(),
      film: () => page.film(),
      log: () => page.recorder.saveLog(),
      swap: () => page.attempt(page.swapTheWheel()),
      copy: () => page.attempt(page.driveCopy()),
      leave: () => page.idle(),
    };
    for (const [id, act] of Object.entries(clicks)) $(`#${id}`).addEventListener("click", act);
    this.keys = { KeyP: clicks.pause, KeyB: clicks.rewind, KeyR: clicks.again, KeyT: clicks.swap };
    $("#film").hidden = !page.recorder.canFilm;
  }

  #pickers() {
    const { page } = this;
    $("#choices").addEventListener("submit", (event) => {
      event.preventDefault();
      document.activeElement?.blur?.(); // the keys drive now
      page.attempt(page.drive(page.choices.setup()));
    });
    $("#choices [name=rig]").addEventListener("change", () => page.role === null && page.idle());
    $("#choices [name=tier]").addEventListener("change", ({ target }) => page.driving && target.blur());
    $("#beside").addEventListener("change", ({ target }) => {
      target.blur();
      page.driving?.beside(target.value);
    });
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target instanceof HTMLElement && event.target.matches("input, select, textarea")) return;
    this.keys[event.code]?.();
    const number = /^Digit([1-9])$/.exec(event.code)?.[1];
    if (number) this.page.enlarge(Number(number) - 1);
  }
}
