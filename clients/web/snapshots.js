/** The places to go back to: handles of snapshots on the server, oldest first. */

const KEPT = 12;

export class Snapshots {
  /** @param forget called with a handle that is not needed any more. */
  constructor(forget) {
    this.forget = forget;
    this.kept = []; // {nextChunk, handles}: a handle for each session
  }

  /** Whether the newest one is at least `chunks` behind. */
  isDue(nextChunk, chunks) {
    return nextChunk - (this.kept.at(-1)?.nextChunk ?? 0) >= chunks;
  }

  add(nextChunk, handles) {
    this.kept.push({ nextChunk, handles });
    if (this.kept.length > KEPT) this.#drop(this.kept.shift());
  }

  /** Whether there is anything before `nextChunk`. */
  reachesBefore(nextChunk) {
    return this.kept.some((one) => one.nextChunk < nextChunk);
  }

  /** The newest one at least `chunks` before `nextChunk`, or the oldest there is; undefined without any. */
  back(nextChunk, chunks) {
    const earlier = this.kept.filter((one) => one.nextChunk < nextChunk);
    return earlier.findLast((one) => one.nextChunk <= nextChunk - chunks) ?? earlier[0];
  }

  /** The world is at `nextChunk` now: what lies after it never happened. */
  rewind(nextChunk) {
    for (const one of this.kept.filter((later) => later.nextChunk > nextChunk)) this.#drop(one);
    this.kept = this.kept.filter((one) => one.nextChunk <= nextChunk);
  }

  /** Another world, or another number of sessions. */
  clear() {
    this.kept.forEach((one) => this.#drop(one));
    this.kept = [];
  }

  #drop({ handles }) {
    handles.forEach(this.forget);
  }
}
