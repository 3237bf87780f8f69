/** One line that says how things stand, and a card over the pictures when somebody has to know or do something. */

import { $, el, setText } from "./dom.js";

/** What each error means for the person at the wheel: `[title, what to do]`. */
const EXPLANATIONS = {
  UNREACHABLE: ["The server does not answer", "It may have been stopped, or the network is down. Trying again by itself."],
  LOST: ["The connection was lost", "Trying again by itself."],
  UNAUTHENTICATED: ["A token is needed", "This server asks for a bearer token. `roadloop token create NAME` makes one."],
  FORBIDDEN: ["This token may not do that", "It lacks the scope that driving or watching needs."],
  CAPACITY: ["The server is full", "All session slots are taken. Trying again by itself; closing a session frees a slot."],
  TOO_MANY: ["A limit is reached", "This token, address or session has all that it may have."],
  DRAINING: ["The server is going away", "It takes no new sessions. Trying again by itself."],
  TAKEN_OVER: ["Another window drives this session now", "This one can watch it, or take the wheel back."],
  UNKNOWN_SESSION: ["The session has ended", "Its world is gone: it was closed, its lease ran out, or the server was restarted."],
  WORKER_LOST: ["The worker that ran this world ended", "Without a snapshot the world is gone."],
  UNSUPPORTED: ["Page and server speak different versions", "Reload the page."],
  BAD_REQUEST: ["The server refused this choice", ""],
  NO_SNAPSHOT: ["Nothing to go back to yet", ""],
};

export class Status {
  constructor(line, card, toast) {
    Object.assign(this, { line, card, toast });
  }

  /** The line in the bar: `level` is good, busy or bad. */
  say(level, text) {
    this.line.dataset.level = level;
    setText($("span", this.line), text);
  }

  /** A card over the pictures. `actions` are `[label, onClick]`, the first one is the main one; `form` comes before. */
  show(title, text, actions = [], form = null) {
    const key = JSON.stringify([title, text, actions.map(([label]) => label)]);
    if (this.key === key && !this.card.hidden) return;
    this.key = key;
    const buttons = actions.map(([label, onclick], i) => el("button", { type: "button", className: i ? "" : "primary", onclick }, label));
    const parts = [el("h2", {}, title), el("p", {}, text)];
    if (form) parts.push(form);
    if (buttons.length) parts.push(el("div", { className: "actions" }, ...buttons));
    this.card.replaceChildren(...parts);
    this.card.hidden = false;
  }

  hide() {
    this.card.hidden = true;
    this.key = null;
  }

  /** A problem as a card. */
  problem(problem, actions = [], form = null) {
    const [title, advice] = EXPLANATIONS[problem.code] ?? ["Something went wrong", ""];
    this.show(title, [advice, capital(problem.message)].filter(Boolean).join(" "), actions, form);
  }

  /** A short note that goes away. */
  note(text, seconds = 6) {
    setText(this.toast, text);
    this.toast.hidden = false;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => (this.toast.hidden = true), seconds * 1000);
  }

  noteProblem(problem) {
    const [title] = EXPLANATIONS[problem.code] ?? [problem.code];
    this.note(`${title}: ${problem.message}`, 10);
  }
}

function capital(text) {
  return text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "";
}
