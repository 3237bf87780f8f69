/** What to drive: the pickers of the bar, filled from what the server offers and remembered on this machine. */

import { el, humanName } from "./dom.js";

const MEMORY = "roadloop.choices";
// Quality tiers of X-Cache by engine; the others have nothing to reuse.
const TIERS = { worldmodel: ["exact", "safe", "balanced", "fast"] };

export class Choices {
  constructor(form) {
    this.form = form;
    form.addEventListener("change", () => localStorage.setItem(MEMORY, JSON.stringify(this.#raw())));
  }

  /** Offer what the server can do. */
  fill(info) {
    this.tiers = info.tiers ?? TIERS[info.engine] ?? ["exact"];
    const { scenario, rig, tier } = this.form.elements;
    scenario.replaceChildren(...grouped(info.scenarios));
    rig.replaceChildren(...Object.keys(info.rigs).map((name) => new Option(name, name)));
    rig.value = info.default_rig;
    tier.replaceChildren(...this.tiers.map((name) => new Option(name, name)));
    tier.disabled = this.tiers.length < 2;
    if (info.scenarios.includes("urban_cruise")) scenario.value = "urban_cruise";
    this.#recall();
  }

  /** The choices as fields of a reset. */
  setup() {
    const { scenario, rig, seed, tier, mode } = this.#raw();
    return { scenario, rig, seed: Math.max(0, Math.trunc(Number(seed)) || 0), mode, options: { tier } };
  }

  /** Show a setup that came from elsewhere: a resumed session. */
  show({ scenario, rig, seed, mode, options }) {
    this.#put({ scenario, rig, seed, mode, tier: options?.tier });
  }

  #raw() {
    // Not FormData: it leaves out a disabled picker.
    const fields = ["scenario", "rig", "seed", "tier", "mode"];
    return Object.fromEntries(fields.map((name) => [name, this.form.elements[name].value]));
  }

  #recall() {
    try {
      this.#put(JSON.parse(localStorage.getItem(MEMORY)) ?? {});
    } catch {
      localStorage.removeItem(MEMORY);
    }
  }

  /** Values that are offered here; the rest stays as it is. */
  #put(values) {
    for (const [name, value] of Object.entries(values)) {
      const field = this.form.elements[name];
      const offered = field?.options ? [...field.options].some((option) => option.value === value) : field;
      if (offered && value !== undefined) field.value = value;
    }
  }
}

/** `urban_rain_night` becomes "urban rain night" in the group urban; a name of its own stands alone. */
function grouped(names) {
  const groups = new Map();
  for (const name of names) {
    const group = name.split("_")[0];
    groups.set(group, [...(groups.get(group) ?? []), name]);
  }
  return [...groups].map(([group, members]) => {
    const options = members.map((name) => new Option(humanName(name), name));
    return members.length === 1 ? options[0] : el("optgroup", { label: group }, ...options);
  });
}
