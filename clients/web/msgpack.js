/**
 * msgpack for the browser, with arrays as clients/protocol/codec.py writes them:
 * `{__ndarray__: true, dtype, shape, data}`. Knows nothing of what the messages mean.
 *
 * Byte strings and arrays are views of the received buffer wherever alignment allows: pictures are not copied.
 */

const MAX_DEPTH = 32;
const text = new TextDecoder("utf-8", { fatal: true });
const utf8 = new TextEncoder();

/** A numeric array in C order: `data` is a typed array of `shape[0] * shape[1] * ...` numbers. */
export class NdArray {
  constructor(dtype, shape, data) {
    this.dtype = dtype;
    this.shape = shape;
    this.data = data;
  }

  /** Row `i` of the first axis, as a view; negative counts from the end. */
  row(i) {
    const width = this.data.length / (this.shape[0] || 1);
    const k = i < 0 ? this.shape[0] + i : i;
    return this.data.subarray(k * width, (k + 1) * width);
  }

  /** All rows of the first axis. */
  rows() {
    return Array.from({ length: this.shape[0] }, (_, i) => this.row(i));
  }
}

/** The value in one message. Throws an Error that says what was expected. */
export function unpack(buffer) {
  const bytes = buffer instanceof Uint8Array ? buffer : new Uint8Array(buffer);
  const reader = new Reader(bytes);
  const value = reader.value(0);
  if (reader.at !== bytes.length) {
    throw new Error(`expected one msgpack value, got ${bytes.length - reader.at} bytes after it`);
  }
  return value;
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  value(depth) {
    if (depth > MAX_DEPTH) throw new Error(`expected at most ${MAX_DEPTH} nested values, got more`);
    const tag = this.view.getUint8(this.advance(1));
    if (tag < 0x80) return tag;
    if (tag < 0x90) return this.map(tag & 0x0f, depth);
    if (tag < 0xa0) return this.array(tag & 0x0f, depth);
    if (tag < 0xc0) return this.string(tag & 0x1f);
    if (tag >= 0xe0) return tag - 0x100;
    return this.tagged(tag, depth);
  }

  tagged(tag, depth) {
    const view = this.view;
    switch (tag) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xc5: case 0xc6: return this.binary(this.size(tag - 0xc4));
      case 0xca: return view.getFloat32(this.advance(4));
      case 0xcb: return view.getFloat64(this.advance(8));
      case 0xcc: case 0xcd: case 0xce: return this.size(tag - 0xcc);
      case 0xcf: return Number(view.getBigUint64(this.advance(8)));
      case 0xd0: return view.getInt8(this.advance(1));
      case 0xd1: return view.getInt16(this.advance(2));
      case 0xd2: return view.getInt32(this.advance(4));
      case 0xd3: return Number(view.getBigInt64(this.advance(8)));
      case 0xd9: case 0xda: case 0xdb: return this.string(this.size(tag - 0xd9));
      case 0xdc: case 0xdd: return this.array(this.size(tag - 0xdc + 1), depth);
      case 0xde: case 0xdf: return this.map(this.size(tag - 0xde + 1), depth);
      default: throw new Error(`expected a msgpack value, got tag 0x${tag.toString(16)}`);
    }
  }

  /** An unsigned size of 1, 2 or 4 bytes. */
  size(power) {
    if (power === 0) return this.view.getUint8(this.advance(1));
    if (power === 1) return this.view.getUint16(this.advance(2));
    return this.view.getUint32(this.advance(4));
  }

  advance(count) {
    const start = this.at;
    if (start + count > this.bytes.length) {
      throw new Error(`expected ${count} more bytes, got ${this.bytes.length - start}`);
    }
    this.at += count;
    return start;
  }

  binary(length) {
    const start = this.advance(length);
    return this.bytes.subarray(start, start + length);
  }

  string(length) {
    return text.decode(this.binary(length));
  }

  array(length, depth) {
    const items = [];
    for (let i = 0; i < length; i++) items.push(this.value(depth + 1));
    return items;
  }

  map(length, depth) {
    const entries = [];
    for (let i = 0; i < length; i++) entries.push([this.value(depth + 1), this.value(depth + 1)]);
    const value = Object.fromEntries(entries);
    return value.__ndarray__ === true ? toArray(value) : value;
  }
}

const TYPED = {
  "|b1": Uint8Array, "|u1": Uint8Array, "|i1": Int8Array,
  "<u2": Uint16Array, "<i2": Int16Array, "<u4": Uint32Array, "<i4": Int32Array,
  "<u8": BigUint64Array, "<i8": BigInt64Array, "<f4": Float32Array, "<f8": Float64Array,
};

function toArray({ dtype, shape, data }) {
  const count = shape.reduce((product, size) => product * size, 1);
  const type = dtype === "<f2" ? Uint16Array : TYPED[dtype];
  if (!type) throw new Error(`expected a dtype of ${Object.keys(TYPED).join(", ")}, got ${dtype}`);
  if (data.length !== count * type.BYTES_PER_ELEMENT) {
    throw new Error(`expected ${count * type.BYTES_PER_ELEMENT} bytes for ${dtype} [${shape}], got ${data.length}`);
  }
  const aligned = data.byteOffset % type.BYTES_PER_ELEMENT ? new Uint8Array(data) : data; // a copy starts aligned
  const values = new type(aligned.buffer, aligned.byteOffset, count);
  return new NdArray(dtype, shape, dtype === "<f2" ? Float32Array.from(values, fromHalf) : values);
}

function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** One message as bytes: null, booleans, numbers, strings, Uint8Array, arrays and plain objects. */
export function pack(value) {
  const writer = new Writer();
  writer.value(value);
  return writer.bytes.slice(0, writer.at);
}

class Writer {
  constructor() {
    this.bytes = new Uint8Array(256);
    this.view = new DataView(this.bytes.buffer);
    this.at = 0;
  }

  value(value) {
    if (value === null || value === undefined) this.byte(0xc0);
    else if (typeof value === "boolean") this.byte(value ? 0xc3 : 0xc2);
    else if (typeof value === "number") this.number(value);
    else if (typeof value === "string") this.string(value);
    else if (value instanceof Uint8Array) this.binary(value);
    else if (Array.isArray(value)) this.array(value);
    else if (typeof value === "object") this.map(value);
    else throw new Error(`expected a msgpack value, got ${typeof value}`);
  }

  number(value) {
    if (!Number.isSafeInteger(value)) this.fixed(0xcb, 8, (at) => this.view.setFloat64(at, value));
    else if (value >= 0 && value < 0x80) this.byte(value);
    else if (value < 0 && value >= -0x20) this.byte(value + 0x100);
    else if (value >= 0 && value <= 0xffffffff) this.fixed(0xce, 4, (at) => this.view.setUint32(at, value));
    else this.fixed(0xd3, 8, (at) => this.view.setBigInt64(at, BigInt(value)));
  }

  string(value) {
    const bytes = utf8.encode(value);
    if (bytes.length < 32) this.byte(0xa0 | bytes.length);
    else this.fixed(0xdb, 4, (at) => this.view.setUint32(at, bytes.length));
    this.raw(bytes);
  }

  binary(bytes) {
    this.fixed(0xc6, 4, (at) => this.view.setUint32(at, bytes.length));
    this.raw(bytes);
  }

  array(items) {
    this.fixed(0xdd, 4, (at) => this.view.setUint32(at, items.length));
    for (const item of items) this.value(item);
  }

  map(object) {
    const entries = Object.entries(object).filter(([, value]) => value !== undefined);
    this.fixed(0xdf, 4, (at) => this.view.setUint32(at, entries.length));
    for (const [key, value] of entries) {
      this.string(key);
      this.value(value);
    }
  }

  byte(value) {
    const at = this.room(1); // may replace the buffer
    this.bytes[at] = value;
  }

  fixed(tag, length, write) {
    this.byte(tag);
    write(this.room(length));
  }

  raw(bytes) {
    const at = this.room(bytes.length);
    this.bytes.set(bytes, at);
  }

  /** Make room for `length` bytes and return where they go. */
  room(length) {
    const start = this.at;
    this.at += length;
    if (this.at > this.bytes.length) {
      const larger = new Uint8Array(Math.max(this.at, this.bytes.length * 2));
      larger.set(this.bytes);
      this.bytes = larger;
      this.view = new DataView(larger.buffer);
    }
    return start;
  }
}
