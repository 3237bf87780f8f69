/**
 * One WebSocket that stays: it opens, greets, pairs replies with requests, and comes back after a loss.
 *
 *     connecting --greeted--> open --lost--> waiting --> connecting ...
 *     any --fatal error--> refused        any --close()--> closed
 *
 * Knows the envelope of the protocol (`id`, `error`, `notice`) and nothing of driving.
 */

import { pack, unpack } from "./msgpack.js";
import { Problem } from "./rest.js";

const SUBPROTOCOL = "roadloop.v1.msgpack";
const BACKOFF_S = [0.3, 0.6, 1, 2, 3, 5];
// After these, trying again with the same words leads to the same answer.
const FINAL = new Set(["UNAUTHENTICATED", "FORBIDDEN", "UNSUPPORTED", "TAKEN_OVER", "UNKNOWN_SESSION", "TOO_MANY"]);

export class Connection {
  /**
   * @param {string} url of the socket.
   * @param {object} on
   *   `greet()`: resolves to the first message, without id;
   *   `greeted(reply)`: its reply came, the socket is open;
   *   `message(message)`: anything that answers no request;
   *   `state(name, problem, retryInS)`: see above;
   *   `explain()`: called when the socket could not open: resolves to the Problem behind it.
   */
  constructor(url, on) {
    this.url = url;
    this.on = on;
    this.state = "closed";
    this.pending = new Map(); // id -> {resolve, reject}
    this.nextId = 1;
    this.failures = 0;
  }

  open() {
    this.#connect();
  }

  close() {
    clearTimeout(this.retry);
    this.#enter("closed");
    this.#drop(new Problem("CLOSED", "the connection was closed here"));
  }

  /** Send a request and wait for its one reply. Rejects with a Problem. */
  request(message) {
    if (this.state !== "open") {
      return Promise.reject(new Problem("NOT_CONNECTED", "there is no connection", { retryable: true }));
    }
    return this.#ask(message);
  }

  #ask(message) {
    const id = this.nextId++;
    const reply = new Promise((resolve, reject) => this.pending.set(id, { resolve, reject }));
    this.socket.send(pack({ ...message, id }));
    return reply;
  }

  #connect() {
    this.#enter("connecting");
    const socket = new WebSocket(this.url, SUBPROTOCOL);
    socket.binaryType = "arraybuffer";
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.#greet(socket);
    };
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.socket === socket && this.#lost(opened, event);
    this.socket = socket;
  }

  async #greet(socket) {
    try {
      const greeting = await this.on.greet();
      if (this.socket !== socket || socket.readyState !== WebSocket.OPEN) return;
      const reply = await this.#ask(greeting);
      this.failures = 0;
      this.#enter("open");
      this.on.greeted?.(reply);
    } catch (problem) {
      if (this.socket === socket) this.#fail(problem);
    }
  }

  #receive(data) {
    const message = unpack(data);
    if (message.type === "error" && message.fatal) this.fatal = asProblem(message);
    const waiting = this.pending.get(message.id);
    if (!waiting) {
      if (message.type !== "error") this.on.message?.(message);
      return;
    }
    this.pending.delete(message.id);
    if (message.type === "error") waiting.reject(asProblem(message));
    else waiting.resolve(message);
  }

  async #lost(opened, event) {
    const problem = this.fatal ?? (await this.#why(opened, event));
    if (this.state === "closed" || this.state === "refused") return;
    this.#fail(problem);
  }

  async #why(opened, event) {
    if (event.code === 4409) return new Problem("TAKEN_OVER", "another window drives this session now");
    if (event.code === 4410) return new Problem("UNKNOWN_SESSION", "the session has ended");
    const seen = await this.on.explain?.();
    return seen ?? new Problem("LOST", opened ? "the connection was lost" : "the server refused the socket");
  }

  #fail(problem) {
    this.fatal = undefined;
    this.#drop(problem);
    if (FINAL.has(problem.code)) {
      this.#enter("refused", problem);
      return;
    }
    const delayS = BACKOFF_S[Math.min(this.failures++, BACKOFF_S.length - 1)];
    this.#enter("waiting", problem, delayS);
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.#connect(), delayS * 1000);
  }

  #drop(problem) {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    for (const { reject } of this.pending.values()) reject(problem);
    this.pending.clear();
  }

  #enter(state, problem, retryInS) {
    this.state = state;
    this.on.state?.(state, problem, retryInS);
  }
}

/** An error message as an exception. */
export function asProblem(message) {
  return new Problem(message.code, message.message, message);
}
