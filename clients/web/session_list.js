/** The sessions of this server, each with a small live picture; watching one is a click. */

import { el, setText } from "./dom.js";
import { Watcher } from "./watcher.js";

const POLL_MS = 2500;
const THUMBNAILS = 8; // sockets that the list may hold
const THUMBNAIL_HZ = 1;

export class SessionList {
  /** @param onWatch called with a session's name. */
  constructor(element, empty, rest, onWatch) {
    Object.assign(this, { element, empty, rest, onWatch });
    this.rows = new Map(); // name -> {item, watcher, ...}
    this.current = new Set();
    addEventListener("pagehide", () => this.#keep([]));
    setInterval(() => this.refresh(), POLL_MS);
  }

  /** These are driven or watched on this page already. */
  setCurrent(names) {
    this.current = new Set(names);
    this.refresh();
  }

  async refresh() {
    if (document.hidden) return;
    const sessions = await this.rest.get("v1/sessions").catch(() => null);
    if (sessions) this.#show(sessions);
  }

  #show(sessions) {
    this.#keep(sessions.map(({ session }) => session));
    for (const session of sessions) this.#update(this.rows.get(session.session) ?? this.#add(session), session);
    this.empty.hidden = sessions.length > 0;
  }

  #add({ session }) {
    const canvas = el("canvas", { width: 112, height: 64 });
    const title = el("b");
    const detail = el("small");
    const button = el("button", { type: "button", onclick: () => this.onWatch(session) }, canvas, el("span", {}, title, detail));
    const item = el("li", {}, button);
    item.dataset.session = session;
    const row = { item, button, canvas, title, detail, watcher: null };
    this.rows.set(session, row);
    this.element.append(item);
    return row;
  }

  #update(row, { session, scenario, state, next_chunk, driven, viewers, cameras }) {
    const here = this.current.has(session);
    const who = here ? "this page" : driven ? "driven elsewhere" : "no driver";
    setText(row.title, (scenario ?? "no world yet").replaceAll("_", " "));
    setText(row.detail, `${who} · ${state} · chunk ${next_chunk} · ${viewers} watching`);
    row.button.setAttribute("aria-current", String(here));
    row.button.disabled = here || !scenario;
    const wanted = scenario && !here && cameras.length;
    if (wanted && !row.watcher && this.#open() < THUMBNAILS) row.watcher = this.#thumbnail(row.canvas, session, cameras[0]);
    if (!wanted && row.watcher) {
      row.watcher.close();
      row.watcher = null;
    }
  }

  #open() {
    return [...this.rows.values()].filter(({ watcher }) => watcher).length;
  }

  #thumbnail(canvas, session, camera) {
    const show = async ({ frames, encoding }) => {
      const images = Object.values(frames)[0];
      if (!images || encoding === "raw") return;
      const bitmap = await createImageBitmap(new Blob([images.at(-1)])).catch(() => null);
      if (!bitmap) return;
      canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      bitmap.close();
    };
    return new Watcher(this.rest, session, { chunk: show }, { cameras: [camera], maxRateHz: THUMBNAIL_HZ });
  }

  #keep(names) {
    for (const [name, { item, watcher }] of this.rows) {
      if (names.includes(name)) continue;
      watcher?.close();
      item.remove();
      this.rows.delete(name);
    }
  }
}
