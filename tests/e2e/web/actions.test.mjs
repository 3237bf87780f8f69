import assert from "node:assert/strict";
import test from "node:test";
import { comfortableSteering, planActions } from "../../../clients/web/actions.js";

const SPACE = { low: [-0.6, -8], high: [0.6, 4] };
const plan = (intent, steering = 0, speedMps = 10) =>
  planActions({ steer: 0, drive: 0, analog: false, ...intent }, steering, { speedMps }, SPACE, 4, 1 / 12);

test("hands off lets the wheel centre and the car roll", () => {
  const rows = plan({}, 0.2);
  assert.equal(rows.length, 4);
  assert.ok(rows[0][0] < 0.2 && rows[3][0] === 0);
  assert.ok(rows.every(([, accel]) => accel < 0 && accel > -1));
});

test("left is positive, and a key turns the wheel gradually", () => {
  const rows = plan({ steer: 1 }, 0, 5);
  assert.ok(rows[0][0] > 0 && rows[0][0] < rows[3][0]);
  assert.ok(plan({ steer: -1 }, 0, 5)[3][0] < 0);
});

test("the faster the car, the less a key may steer", () => {
  assert.equal(comfortableSteering(0, 0.6), 0.6);
  assert.ok(comfortableSteering(30, 0.6) < 0.02);
});

test("every row stays within the action space", () => {
  for (const steer of [-1, 0, 1]) {
    for (const drive of [-1, 0, 1]) {
      for (const analog of [true, false]) {
        for (const [steering, accel] of plan({ steer, drive, analog, hard: true }, 0.6, 0)) {
          assert.ok(steering >= -0.6 && steering <= 0.6 && accel >= -8 && accel <= 4);
        }
      }
    }
  }
});

test("the full brake is the strongest that there is", () => {
  assert.equal(plan({ drive: -1, hard: true })[0][1], -8);
  assert.ok(plan({ drive: -1 })[0][1] > -8);
});
