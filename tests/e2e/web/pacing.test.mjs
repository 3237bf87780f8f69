import assert from "node:assert/strict";
import test from "node:test";
import { LockstepPace, RateMeter, RealtimePace } from "../../../clients/web/pacing.js";

/** Run a lockstep loop against a server that takes `serverMs`; returns the times at which chunks came. */
function run(serverMs, chunks) {
  const pace = new LockstepPace(333);
  const times = [];
  let now = 0;
  for (let k = 0; k < chunks; k++) {
    now += pace.delay(now);
    now += serverMs;
    pace.arrived(now, serverMs);
    times.push(now);
  }
  return times;
}

test("a fast server is held to real time", () => {
  const times = run(40, 40);
  assert.ok(Math.abs((times[39] - times[9]) / 30 - 333) < 2);
});

test("a slow server is never made to wait", () => {
  const times = run(900, 10);
  assert.ok(Math.abs(times[9] - 9000) < 1e-6);
});

test("after a hiccup the loop does not run more than a chunk ahead", () => {
  const pace = new LockstepPace(333);
  for (let k = 0; k < 5; k++) pace.arrived(1000, 10);
  assert.ok(pace.delay(1000) <= 1.3 * 333);
});

test("in real time the action leaves just before its chunk begins", () => {
  const pace = new RealtimePace(333);
  const serverMs = 80; // the reply comes this long after the chunk began
  for (let k = 0; k < 30; k++) pace.replied(333 - serverMs - pace.delay(), 0);
  const age = 333 - serverMs - pace.delay();
  assert.ok(Math.abs(age - 30) < 2, `expected about 30 ms, got ${age}`);
});

test("a held chunk makes the next action leave earlier", () => {
  const pace = new RealtimePace(333);
  for (let k = 0; k < 10; k++) pace.replied(200, 0);
  const before = pace.delay();
  pace.replied(0, 1);
  assert.ok(pace.delay() < before - 50);
});

test("the rate counts media time against the clock", () => {
  const meter = new RateMeter(333);
  assert.equal(meter.came(0), null);
  for (let k = 1; k < 40; k++) meter.came(666 * k);
  assert.ok(Math.abs(meter.factor - 0.5) < 1e-6);
  assert.ok(meter.came(666 * 40 - 333 * 0, 2) > 0.5);
});
