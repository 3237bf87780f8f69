/** The way in: what the server is, and the token that it may ask for. */

import { el } from "./dom.js";

const TOKEN = "roadloop.token";
const RETRY_MS = 1500;

/** The token that this tab was given before, or null. */
export function keptToken() {
  return sessionStorage.getItem(TOKEN);
}

/** What the server is. Says what is wrong, asks for a token, and tries again, until it answers. */
export async function enter(rest, status) {
  for (;;) {
    try {
      const info = await rest.get("v1/server");
      status.hide();
      return info;
    } catch (problem) {
      if (problem.code === "UNAUTHENTICATED") await askToken(rest, status);
      else {
        status.say("bad", problem.message);
        status.problem(problem);
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }
}

/** Show a form; resolves when somebody has used it. */
function askToken(rest, status) {
  const wrong = rest.token !== null;
  const input = el("input", { type: "password", name: "token", autocomplete: "current-password", placeholder: "rl_…", required: true });
  input.setAttribute("aria-label", "Token");
  const form = el("form", {}, input, el("button", { type: "submit", className: "primary" }, "Use token"));
  status.say("bad", wrong ? "wrong token" : "a token is needed");
  status.show(
    wrong ? "This token is not valid" : "A token is needed",
    "This server asks for a bearer token. `roadloop token create NAME` makes one; its entry goes into the server's configuration.",
    [], form,
  );
  input.focus();
  return new Promise((resolve) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      rest.token = input.value.trim();
      sessionStorage.setItem(TOKEN, rest.token);
      status.hide();
      resolve();
    });
  });
}
