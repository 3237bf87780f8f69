import assert from "node:assert/strict";
import test from "node:test";
import { Playback } from "../../../clients/web/playback.js";

const chunk = (n) => [0, 1, 2, 3].map((k) => `${n}.${k}`);

test("nothing is shown before the first chunk, and the last frame stays", () => {
  const playback = new Playback(100);
  assert.equal(playback.at(0), null);
  playback.put(chunk(0), 0);
  assert.deepEqual([0, 99, 100, 250, 399, 9000].map((now) => playback.at(now)), ["0.0", "0.0", "0.1", "0.2", "0.3", "0.3"]);
});

test("a chunk that comes a little early waits for its turn", () => {
  const playback = new Playback(100);
  playback.put(chunk(0), 0);
  playback.put(chunk(1), 350);
  assert.equal(playback.at(399), "0.3");
  assert.equal(playback.at(400), "1.0");
});

test("a chunk that comes much too early replaces the old one at once", () => {
  const playback = new Playback(100);
  playback.put(chunk(0), 0);
  playback.put(chunk(1), 100);
  assert.equal(playback.at(101), "1.0");
});

test("a burst leaves the newest chunk only", () => {
  const playback = new Playback(100);
  for (let n = 0; n < 50; n++) playback.put(chunk(n), 0.1 * n);
  assert.equal(playback.at(2000), "49.3");
});

test("a slow world is shown in slow motion, and a pause does not count", () => {
  const playback = new Playback(100);
  for (let n = 0; n < 20; n++) playback.put(chunk(n), 800 * n);
  const start = 800 * 19;
  assert.ok(Math.abs(playback.frameMs - 200) < 2, `expected about 200 ms, got ${playback.frameMs}`);
  assert.equal(playback.at(start + 350), "19.1");
  playback.put(chunk(20), start + 60_000);
  assert.ok(playback.frameMs < 202);
});
