import assert from "node:assert/strict";
import test from "node:test";
import { psnr } from "../../../clients/web/difference.js";
import { NdArray } from "../../../clients/web/msgpack.js";
import { logRows, toCsv } from "../../../clients/web/recorder.js";
import { splitStages } from "../../../clients/web/stages.js";
import { summarize } from "../../../clients/web/xcache.js";

const REASONS = ["skipped", "shadow", "cosine", "anchor"];

test("the cache map counts skips and reasons", () => {
  const reason = new NdArray("|u1", [2, 2], Uint8Array.of(3, 0, 3, 2));
  const { skipRate, counts, cells } = summarize({ reasons: REASONS, reason });
  assert.equal(skipRate, 0.25);
  assert.deepEqual([...counts], [["anchor", 2], ["skipped", 1], ["cosine", 1]]);
  assert.deepEqual(cells[0][1], { skipped: 1, scheduled: 0, why: "skipped" });
  assert.equal(cells[1][0].scheduled, 1);
});

test("tiles of a block count as shares of it", () => {
  const reason = new NdArray("|u1", [1, 1, 4], Uint8Array.of(0, 0, 0, 2));
  const { skipRate, cells } = summarize({ reasons: REASONS, reason });
  assert.equal(skipRate, 0.75);
  assert.equal(cells[0][0].skipped, 0.75);
});

test("shadow errors are averaged where there are any", () => {
  const reason = new NdArray("|u1", [1, 3], Uint8Array.of(0, 1, 1));
  const error = new NdArray("<f4", [1, 3], Float32Array.of(NaN, 0.125, 0.375));
  assert.equal(summarize({ reasons: REASONS, reason, error }).error, 0.25);
  assert.equal(summarize({ reasons: REASONS, reason }).error, null);
});

test("stages are disjoint and add up to the round trip", () => {
  const stages = Object.fromEntries(splitStages({ queue: 1, engine: 100, scene: 20, render: 70, encode: 5 }, 120));
  assert.deepEqual(stages, { queue: 1, scene: 20, render: 70, engine: 10, encode: 5, network: 14 });
});

test("an engine without stages of its own is one stage", () => {
  assert.deepEqual(splitStages({ queue: 1, engine: 50, encode: 4 }), [["queue", 1], ["engine", 50], ["encode", 4]]);
});

test("work after the last reply is shown, and is no part of this round trip", () => {
  const stages = Object.fromEntries(splitStages({ engine: 100, denoise: 90, encode: 5, flush: 40 }, 120));
  assert.deepEqual(stages, { denoise: 90, engine: 10, encode: 5, flush: 40, network: 15 });
});

test("the log has a row per frame, with the actions that were sent", () => {
  const ego = new NdArray("<f8", [2, 7], Float64Array.of(0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 15, 16));
  const metrics = {
    lane_offset_m: [0.1, 0.2], route_completion: [0, 0.5], ttc_s: [Infinity, 2], collision_with: [null, -1],
    off_road: [false, true], red_light: [false, false], wrong_way: [false, false],
  };
  const lines = toCsv(logRows({ chunk: 3, ego, metrics }, [[0.1, 1], [0.2, 2]])).trim().split("\n");
  assert.equal(lines.length, 3);
  assert.ok(lines[0].startsWith("chunk,frame,steering_rad,accel_mps2"));
  assert.equal(lines[2], "3,1,0.2,2,10,11,12,13,0.2,0.5,2,-1,true,false,false");
});

test("equal pictures are infinitely alike, and noise has its decibels", () => {
  const grey = new Uint8ClampedArray(400).fill(100);
  assert.equal(psnr(grey, grey), Infinity);
  assert.ok(Math.abs(psnr(grey, grey.map((v) => v + 10)) - 28.13) < 0.01);
});
