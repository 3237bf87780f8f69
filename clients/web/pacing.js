/**
 * When to send the next action, so that its chunk comes just as the last frame of the one before has been shown.
 * Pure arithmetic on milliseconds: no clock, no sockets.
 */

const MARGIN_MS = 25; // for jitter; a key pressed meanwhile counts for the next chunk
const TARGET_AGE_MS = 30; // real time: how long an action should wait at the server

/** Lockstep: the round trip is known from the last ones, and the picture has a cadence. */
export class LockstepPace {
  constructor(chunkMs) {
    this.chunkMs = chunkMs;
    this.reset();
  }

  /** The world starts or was moved: nothing is being shown. */
  reset() {
    this.roundTripMs = 0;
    this.shownUntil = -Infinity;
  }

  /** A chunk came. */
  arrived(now, roundTripMs) {
    // Quick to grow, slow to shrink: a late chunk is seen, an early one is not.
    const weight = roundTripMs > this.roundTripMs ? 0.6 : 0.1;
    this.roundTripMs += weight * (roundTripMs - this.roundTripMs);
    this.shownUntil = Math.max(now, this.shownUntil) + this.chunkMs;
    // At most one chunk ahead of what is shown, after a hiccup as well.
    this.shownUntil = Math.min(this.shownUntil, now + 1.3 * this.chunkMs);
  }

  /** Milliseconds from `now` until the next action should leave. */
  delay(now) {
    return Math.max(0, this.shownUntil - now - this.roundTripMs - MARGIN_MS);
  }
}

/** Real time: the server runs chunks by its own clock and says how long each action had waited for its turn. */
export class RealtimePace {
  constructor(chunkMs) {
    this.chunkMs = chunkMs;
    this.reset();
  }

  reset() {
    this.delayMs = 0;
  }

  /** A reply came; `heldChunks` ran without an action. */
  replied(actionAgeMs, heldChunks) {
    if (heldChunks > 0) this.delayMs -= 0.25 * this.chunkMs;
    else this.delayMs += 0.5 * (Math.min(actionAgeMs, this.chunkMs) - TARGET_AGE_MS);
    this.delayMs = Math.min(Math.max(this.delayMs, 0), 0.9 * this.chunkMs);
  }

  delay() {
    return this.delayMs;
  }
}

/** How fast the world runs against the clock: media time per wall time, smoothed over a few chunks. */
export class RateMeter {
  constructor(chunkMs) {
    this.chunkMs = chunkMs;
    this.reset();
  }

  reset() {
    this.factor = null;
    this.last = null;
  }

  /** `chunks` more have come. Returns the factor, or null before the second one. */
  came(now, chunks = 1) {
    if (this.last !== null && now > this.last) {
      const sample = (chunks * this.chunkMs) / (now - this.last);
      this.factor = this.factor === null ? sample : this.factor + 0.25 * (sample - this.factor);
    }
    this.last = now;
    return this.factor;
  }
}
