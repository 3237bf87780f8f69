/** Watches one session: the newest chunk whenever there is one. */

import { Connection } from "./connection.js";

export class Watcher {
  /** @param on `state(name, problem, retryInS)`, `watching(reply)`, `chunk(message)`, `notice(message)`. */
  constructor(rest, session, on, { cameras = null, maxRateHz = null } = {}) {
    this.connection = new Connection(rest.socketUrl("v1/view"), {
      greet: async () => ({
        type: "watch", session, cameras, max_rate_hz: maxRateHz, ticket: await rest.ticket("view", session),
      }),
      greeted: (reply) => on.watching?.(reply),
      message: (message) => (message.type === "frames" ? on.chunk(message) : on.notice?.(message)),
      state: (name, problem, retryInS) => on.state?.(name, problem, retryInS),
      explain: () => rest.get(`v1/sessions/${encodeURIComponent(session)}`).then(() => null, (problem) => problem),
    });
    this.connection.open();
  }

  close() {
    this.connection.close();
  }
}
