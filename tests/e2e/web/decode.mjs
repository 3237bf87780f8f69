/** Prints what msgpack.js reads from the files named on the command line, for comparison with Python's reading. */

import { readFileSync } from "node:fs";
import { NdArray, pack, unpack } from "../../../clients/web/msgpack.js";

function plain(value) {
  if (value instanceof NdArray) return { dtype: value.dtype, shape: value.shape, values: Array.from(value.data, Number) };
  if (value instanceof Uint8Array) return { hex: Buffer.from(value).toString("hex") };
  if (Array.isArray(value)) return value.map(plain);
  if (value !== null && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
  return value;
}

const read = Object.fromEntries(process.argv.slice(2).map((path) => [path, plain(unpack(readFileSync(path)))]));
const actions = [[0.1, -2], [0, 3.5]];
const step = pack({ type: "step", id: 2 ** 40, session: "s-1", chunk: 300, actions, space: "controls", deadline_ms: 1.5 });
console.log(JSON.stringify({ read, step: Buffer.from(step).toString("hex") }));
