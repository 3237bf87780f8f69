import assert from "node:assert/strict";
import test from "node:test";
import { NdArray, pack, unpack } from "../../../clients/web/msgpack.js";

const bytes = (...values) => new Uint8Array(values);

test("what is packed is unpacked again", () => {
  const message = {
    type: "step", id: 7, flag: true, none: null, text: "grün".repeat(20), small: [-1, -32, -33, 0, 127, 128, 65536],
    large: [2 ** 40, -(2 ** 40), Number.MAX_SAFE_INTEGER], reals: [0.1, -1e300, Infinity], nested: { a: [{ b: [] }] },
  };
  assert.deepEqual(unpack(pack(message)), message);
  assert.deepEqual(unpack(pack({ raw: bytes(1, 2, 3) })).raw, bytes(1, 2, 3));
});

test("undefined fields are left out", () => {
  assert.deepEqual(unpack(pack({ a: undefined, b: 1 })), { b: 1 });
});

test("long strings and many items keep their lengths", () => {
  const value = { text: "x".repeat(70_000), items: Array.from({ length: 70_000 }, (_, i) => i) };
  assert.deepEqual(unpack(pack(value)), value);
});

test("arrays become typed arrays with rows, aligned or not", () => {
  for (const padding of ["", "a", "abc"]) {
    const data = new Uint8Array(Float64Array.of(1.5, -2, 3, 4).buffer);
    const { array } = unpack(pack({ padding, array: { __ndarray__: true, dtype: "<f8", shape: [2, 2], data } }));
    assert.ok(array instanceof NdArray);
    assert.deepEqual([...array.row(-1)], [3, 4]);
    assert.deepEqual(array.rows().map((row) => [...row]), [[1.5, -2], [3, 4]]);
  }
});

test("half floats are widened", () => {
  const data = new Uint8Array(Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x7c00).buffer);
  const { a } = unpack(pack({ a: { __ndarray__: true, dtype: "<f2", shape: [4], data } }));
  assert.deepEqual([...a.data], [1, -2, 2 ** -24, Infinity]);
});

test("wrong bytes are refused with a reason", () => {
  assert.throws(() => unpack(bytes()), /expected 1 more bytes/);
  assert.throws(() => unpack(bytes(0xdb, 0xff, 0xff, 0xff, 0xff)), /more bytes/);
  assert.throws(() => unpack(bytes(0xc1)), /tag 0xc1/);
  assert.throws(() => unpack(bytes(0xc7, 1, 5, 0)), /tag 0xc7/);
  assert.throws(() => unpack(bytes(1, 2)), /1 bytes after/);
  assert.throws(() => unpack(new Uint8Array(100).fill(0x91)), /nested/);
});

test("an array whose shape and bytes disagree is refused", () => {
  const lie = { __ndarray__: true, dtype: "<f4", shape: [1000, 1000], data: bytes(0, 0, 0, 0) };
  assert.throws(() => unpack(pack(lie)), /expected 4000000 bytes/);
  assert.throws(() => unpack(pack({ ...lie, dtype: "|O" })), /expected a dtype/);
});
