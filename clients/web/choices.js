/** What to drive: the pickers of the bar, filled from what the server offers and remembered on this machine. */

import { el, humanName } from "./dom.js";

const MEMORY = "roadloop.choices";

export class Choices {
  /** @param onTier called with a tier that somebody has picked. */
  constructor(form, onTier) {
    this.form = form;
    this.touched = false; // somebody is choosing: what is watched must not undo that
    form.addEventListener("change", ({ target }) => {
      this.touched = true;
      localStorage.setItem(MEMORY, JSON.stringify(this.#raw()));
      if (target.name === "tier") onTier(target.value);
      if (target.name === "engine") this.#offerTiers();
    });
  }

  /** Offer what the server can do: its description, and its scenarios `{name, title, group, ...}`. */
  fill(info, scenarios) {
    this.engines = new Map(info.engines.map((one) => [one.engine, one.tiers]));
    const { engine, scenario, rig, weather, time_of_day } = this.form.elements;
    engine.replaceChildren(...[...this.engines.keys()].map((name) => new Option(name, name)));
    engine.hidden = this.engines.size < 2;
    this.#offerTiers();
    scenario.replaceChildren(...grouped(scenarios));
    rig.replaceChildren(...Object.keys(info.rigs).map((name) => new Option(name, name)));
    rig.value = info.default_rig;
    const driveable = scenarios.some(({ map }) => map); // the zero engine's pictures have no weather
    for (const [field, what, names] of [[weather, "weather", info.weathers], [time_of_day, "light", info.times_of_day]]) {
      field.replaceChildren(new Option(what, ""), ...names.map((name) => new Option(humanName(name), name)));
      field.disabled = !driveable;
    }
    if (info.scenarios.includes("urban_cruise")) scenario.value = "urban_cruise";
    this.#recall();
  }

  /** What makes the pictures. */
  get engine() {
    return this.form.elements.engine.value;
  }

  /** The tiers that an engine has. */
  tiersOf(engine = this.engine) {
    return this.engines.get(engine) ?? ["exact"];
  }

  #offerTiers() {
    const { tier } = this.form.elements;
    const { value } = tier;
    const tiers = this.tiersOf();
    tier.replaceChildren(...tiers.map((name) => new Option(name, name)));
    tier.disabled = tiers.length < 2;
    if (tiers.includes(value)) tier.value = value;
  }

  /** The choices as fields of a reset. */
  setup() {
    const { scenario, rig, seed, tier, weather, time_of_day, mode } = this.#raw();
    const options = { tier, weather: weather || null, time_of_day: time_of_day || null };
    return { scenario, rig, seed: Math.max(0, Math.trunc(Number(seed)) || 0), mode, options };
  }

  /** Show a setup that came from elsewhere: a session that is watched or resumed. */
  show({ scenario, rig, seed, mode, options }, engine = this.engine) {
    this.#put({ engine });
    this.#offerTiers();
    this.#put({ scenario, rig, seed, mode, tier: options?.tier, weather: options?.weather ?? "", time_of_day: options?.time_of_day ?? "" });
  }

  #raw() {
    // Not FormData: it leaves out a disabled picker.
    const fields = ["engine", "scenario", "rig", "seed", "tier", "weather", "time_of_day", "mode"];
    return Object.fromEntries(fields.map((name) => [name, this.form.elements[name].value]));
  }

  #recall() {
    try {
      const { engine, ...others } = JSON.parse(localStorage.getItem(MEMORY)) ?? {};
      this.#put({ engine });
      this.#offerTiers();
      this.#put(others);
    } catch {
      localStorage.removeItem(MEMORY);
    }
  }

  /** Values that are offered here; the rest stays as it is. */
  #put(values) {
    for (const [name, value] of Object.entries(values)) {
      const field = this.form.elements[name];
      if (!field || field.disabled || value === undefined || value === null) continue;
      const offered = field.options ? [...field.options].some((option) => option.value === value) : true;
      if (offered) field.value = value;
    }
  }
}

/** The scenarios as options, in the groups that they belong to. */
function grouped(scenarios) {
  const groups = new Map();
  for (const scenario of scenarios) groups.set(scenario.group, [...(groups.get(scenario.group) ?? []), scenario]);
  return [...groups].flatMap(([group, members]) => {
    const options = members.map(({ name, title }) => Object.assign(new Option(humanName(name), name), { title }));
    return group ? [el("optgroup", { label: humanName(group) }, ...options)] : options;
  });
}
