/**
 * Which frame of which chunk is due. A new chunk replaces the old one; nothing is queued. Pure.
 *
 * A chunk that comes a little early waits for the last frame of the one before, so that the cadence stays even. A world
 * that is slower than real time is shown in even slow motion, not in bursts.
 */

const PATIENCE = 1; // frame that a chunk may wait: longer, and a key shows later than a chunk + 100 ms
const SLOWEST = 6; // times the frame's duration that it may be shown before the next one

export class Playback {
  constructor(dtMs) {
    this.dtMs = dtMs;
    this.frameMs = dtMs; // stretched to the pace at which chunks come
    this.chunk = null; // {frames, start, frameMs}: frames are opaque
    this.next = null;
    this.last = null; // when a chunk came
  }

  /** A chunk of `frames` (one entry per frame) came at `now`. */
  put(frames, now) {
    this.#adapt(frames.length, now);
    const end = this.chunk ? this.chunk.start + this.chunk.frames.length * this.chunk.frameMs : now;
    const early = end - now;
    const entry = { frames, frameMs: this.frameMs, start: now };
    if (early > 0 && early <= PATIENCE * this.chunk.frameMs) this.next = { ...entry, start: end };
    else [this.chunk, this.next] = [entry, null];
  }

  /** The frame to show at `now`, or null before the first chunk. The last frame stays. */
  at(now) {
    if (this.next && now >= this.next.start) [this.chunk, this.next] = [this.next, null];
    if (!this.chunk) return null;
    const { frames, start, frameMs } = this.chunk;
    const index = Math.floor((now - start) / frameMs);
    return frames[Math.min(Math.max(index, 0), frames.length - 1)];
  }

  /** Longer gaps are pauses and say nothing about the pace. */
  #adapt(count, now) {
    const interval = this.last === null ? 0 : now - this.last;
    this.last = now;
    if (interval > SLOWEST * count * this.dtMs) return;
    const wanted = Math.max(interval / count, this.dtMs);
    this.frameMs += 0.3 * (wanted - this.frameMs);
  }
}
