/** Keyboard, gamepad and touch as one intent (see actions.js). A tap between two chunks is not lost. */

const KEYS = {
  KeyW: "go", ArrowUp: "go",
  KeyS: "brake", ArrowDown: "brake",
  KeyA: "left", ArrowLeft: "left",
  KeyD: "right", ArrowRight: "right",
  Space: "hard",
};
const DEAD_ZONE = 0.08;

export class Hands {
  /** @param wake called when a driving control is touched. */
  constructor(wake) {
    this.wake = wake;
    this.held = new Set(); // names of KEYS that are down
    this.tapped = new Set(); // went down since the last intent
    this.touch = { steer: 0, drive: 0, active: 0 };
    addEventListener("keydown", (event) => this.#down(event));
    addEventListener("keyup", (event) => this.held.delete(KEYS[event.code]));
    addEventListener("blur", () => this.held.clear());
  }

  /** What the driver wants now. */
  intent() {
    const down = (name) => (this.held.has(name) || this.tapped.has(name) ? 1 : 0);
    const pad = readGamepad();
    const keys = {
      steer: down("left") - down("right"),
      drive: down("hard") || down("brake") ? -1 : down("go"),
      hard: Boolean(down("hard")),
      analog: false,
    };
    this.tapped.clear();
    if (this.touch.active > 0) return { ...this.touch, analog: true };
    if (pad && (pad.steer || pad.drive)) return { ...pad, analog: true };
    return keys;
  }

  /** Whether anything that drives is being touched, for waking a world that waits. */
  gamepadActive() {
    const pad = readGamepad();
    return Boolean(pad && (pad.steer || pad.drive));
  }

  #down(event) {
    const name = KEYS[event.code];
    if (!name || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target, event.code)) return;
    event.preventDefault(); // arrows and space would scroll
    this.held.add(name);
    this.tapped.add(name);
    if (!event.repeat) this.wake();
  }

  /** Make `wheel` a steering strip and each pedal a button that is held. */
  attachTouch(wheel, pedals) {
    const knob = wheel.querySelector(".knob");
    hold(wheel, (event, down) => {
      const box = wheel.getBoundingClientRect();
      const x = down ? ((event.clientX - box.left) / box.width) * 2 - 1 : 0;
      this.touch.steer = -Math.min(Math.max(x * 1.2, -1), 1);
      knob.style.transform = `translateX(${(-this.touch.steer * box.width) / 2.6}px)`;
    }, (delta) => this.#touched(delta));
    for (const [pedal, drive] of pedals) {
      hold(pedal, (_, down) => (this.touch.drive = down ? drive : 0), (delta) => this.#touched(delta));
    }
  }

  #touched(delta) {
    this.touch.active += delta;
    if (delta > 0) this.wake();
  }
}

/** Call `move(event, down)` while a pointer is held on the element, and `count(+1 | -1)` at its ends. */
function hold(element, move, count) {
  let pointer = null;
  element.addEventListener("pointerdown", (event) => {
    if (pointer !== null) return;
    pointer = event.pointerId;
    element.setPointerCapture(pointer);
    count(1);
    move(event, true);
    event.preventDefault();
  });
  element.addEventListener("pointermove", (event) => event.pointerId === pointer && move(event, true));
  const end = (event) => {
    if (event.pointerId !== pointer) return;
    pointer = null;
    move(event, false);
    count(-1);
  };
  element.addEventListener("pointerup", end);
  element.addEventListener("pointercancel", end);
}

function readGamepad() {
  const pad = navigator.getGamepads?.().find((one) => one?.connected && one.mapping === "standard");
  if (!pad) return null;
  const x = Math.abs(pad.axes[0]) < DEAD_ZONE ? 0 : pad.axes[0];
  const brake = pad.buttons[6].value;
  return { steer: -Math.sign(x) * x * x, drive: brake > 0.05 ? -brake : pad.buttons[7].value };
}

/** Keys belong to the element they are pressed in when it uses them itself. */
function isTyping(target, code) {
  if (!(target instanceof HTMLElement)) return false;
  if (target.matches("input:not([type=checkbox]), textarea, select")) return true;
  return code === "Space" && target.matches("button, summary, input");
}
