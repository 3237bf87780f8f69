/** The server's REST side, and every failure as one kind of error. */

/** What went wrong, in the server's words: the codes of clients/protocol/errors.py, or UNREACHABLE. */
export class Problem extends Error {
  constructor(code, message, { retryable = false, fatal = false, details = {} } = {}) {
    super(message);
    this.code = code;
    this.retryable = retryable;
    this.fatal = fatal;
    this.details = details;
  }
}

/** REST calls with the token, when there is one. Paths are relative to where the page was served. */
export class Rest {
  constructor(base = document.baseURI) {
    this.base = base;
    this.token = null;
  }

  get(path) {
    return this.call("GET", path);
  }

  post(path, body) {
    return this.call("POST", path, body);
  }

  remove(path) {
    return this.call("DELETE", path);
  }

  /** A one-use ticket for a socket, or null on a server that lets everybody in. */
  async ticket(scope, session = null) {
    if (!this.token) return null;
    return (await this.post("v1/tickets", { scope, session })).ticket;
  }

  /** Where a socket goes. */
  socketUrl(path) {
    const url = new URL(path, this.base);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    return url.href;
  }

  async call(method, path, body) {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(new URL(path, this.base), {
        method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store",
        signal: AbortSignal.timeout(60_000),
      });
    } catch {
      throw new Problem("UNREACHABLE", `no answer from ${new URL(this.base).host}`, { retryable: true });
    }
    if (response.status === 204) return null;
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) {
      throw new Problem(answer.code ?? `HTTP_${response.status}`, answer.message ?? response.statusText, answer);
    }
    return answer;
  }
}
