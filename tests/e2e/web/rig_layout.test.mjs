import assert from "node:assert/strict";
import test from "node:test";
import { layoutRig, places } from "../../../clients/web/rig_layout.js";

const camera = (name, yawDeg, hfovDeg = 90) => ({
  name, yaw_rad: (yawDeg * Math.PI) / 180, width: 224, height: 128, fx: 112 / Math.tan((hfovDeg * Math.PI) / 360),
});
const SURROUND7 = [
  camera("front_narrow", 0, 38), camera("front_wide", 0, 100), camera("side_front_left", 65), camera("side_front_right", -65),
  camera("side_rear_left", 138), camera("side_rear_right", -138), camera("rear", 180),
];
const RIGS = [
  SURROUND7,
  [camera("front", 0)],
  [camera("front_left", 55), camera("front", 0), camera("front_right", -55)],
  [camera("front", 0, 110), camera("left", 90, 110), camera("right", -90, 110), camera("rear", 180, 110)],
  [camera("left", 90), camera("right", -90)],
];
const byName = (layout) => Object.fromEntries(layout.tiles.map((tile) => [tile.name, tile]));

test("the widest front camera leads, and left is left", () => {
  const { middle, left, right } = places(SURROUND7);
  assert.deepEqual(middle.map(({ name }) => name), ["front_wide", "front_narrow", "rear"]);
  assert.deepEqual(left.map(({ name }) => name), ["side_front_left", "side_rear_left"]);
  assert.deepEqual(right.map(({ name }) => name), ["side_front_right", "side_rear_right"]);
});

test("seven cameras fill the mosaic without a gap", () => {
  const layout = layoutRig(SURROUND7);
  const area = layout.tiles.reduce((sum, tile) => sum + tile.width * tile.height, 0);
  assert.ok(Math.abs(area - 1) < 1e-9, `expected the whole area, got ${area}`);
  const tiles = byName(layout);
  assert.ok(tiles.front_wide.width > tiles.side_front_left.width);
  assert.ok(tiles.side_front_left.x < tiles.front_wide.x && tiles.front_wide.x < tiles.side_front_right.x);
  assert.ok(tiles.rear.y > tiles.front_wide.y);
});

for (const narrow of [false, true]) {
  test(`on a ${narrow ? "narrow" : "wide"} page every rig keeps shapes and never overlaps`, () => {
    for (const rig of RIGS) {
      const { width, height, tiles } = layoutRig(rig, narrow);
      assert.equal(tiles.length, rig.length);
      for (const tile of tiles) {
        assert.ok(Math.abs((tile.height * height) / (tile.width * width) - 128 / 224) < 1e-9);
        assert.ok(tile.x >= -1e-9 && tile.y >= -1e-9 && tile.x + tile.width <= 1 + 1e-9 && tile.y + tile.height <= 1 + 1e-9);
        for (const other of tiles.filter((one) => one !== tile)) assert.ok(apart(tile, other), `${tile.name} over ${other.name}`);
      }
    }
  });
}

function apart(a, b) {
  const e = 1e-9;
  return a.x + a.width <= b.x + e || b.x + b.width <= a.x + e || a.y + a.height <= b.y + e || b.y + b.height <= a.y + e;
}
