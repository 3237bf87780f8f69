import assert from "node:assert/strict";
import test from "node:test";
import { Snapshots } from "../../../clients/web/snapshots.js";

function filled(count) {
  const forgotten = [];
  const snapshots = new Snapshots((handle) => forgotten.push(handle));
  for (let k = 1; k <= count; k++) snapshots.add(3 * k, [`a${k}`, `b${k}`]);
  return { snapshots, forgotten };
}

test("going back finds the newest snapshot that is far enough", () => {
  const { snapshots } = filled(5); // at 3, 6, 9, 12, 15
  assert.equal(snapshots.back(16, 9).nextChunk, 6);
  assert.equal(snapshots.back(16, 1).nextChunk, 15);
  assert.equal(snapshots.back(16, 100).nextChunk, 3);
  assert.equal(snapshots.back(3, 9), undefined);
  assert.ok(!snapshots.reachesBefore(3) && snapshots.reachesBefore(4));
});

test("what lies after the place gone back to is forgotten on the server too", () => {
  const { snapshots, forgotten } = filled(3);
  snapshots.rewind(6);
  assert.deepEqual(forgotten, ["a3", "b3"]);
  assert.ok(snapshots.isDue(9, 3) && !snapshots.isDue(8, 3));
});

test("the number kept is bounded", () => {
  const { snapshots, forgotten } = filled(100);
  assert.equal(snapshots.kept.length, 12);
  assert.equal(forgotten.length, 2 * 88);
  snapshots.clear();
  assert.equal(forgotten.length, 200);
});
