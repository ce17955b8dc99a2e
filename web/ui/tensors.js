// What the page has to know of tensor types: how JavaScript holds each, how NumPy names it, how to read
// one element. Names are those of onnxruntime-web ('float32', 'int64', 'bool', …).
import { halfToNumber, numberToHalf } from '../engine/halves.js';

/** @typedef {import('./api.js').Data} Data */

/**
 * @typedef {object} Kind
 * @property {string} npy descriptor in a .npy header ('' where NumPy has none)
 * @property {'float' | 'int' | 'bool' | 'string'} family
 * @property {number} size bytes an element
 * @property {number} min smallest value an input field may take
 * @property {number} max
 * @property {(n: number) => Data} make
 */

/** Browsers without Float16Array hold its bits in a Uint16Array. @type {{new (n: number): Data}} */
const Half = Reflect.get(globalThis, 'Float16Array') ?? Uint16Array;

/** @type {Record<string, Kind>} */
const KINDS = {
  float32: {
    npy: '<f4',
    family: 'float',
    size: 4,
    min: -3.4e38,
    max: 3.4e38,
    make: (n) => new Float32Array(n),
  },
  float64: {
    npy: '<f8',
    family: 'float',
    size: 8,
    min: -1.7e308,
    max: 1.7e308,
    make: (n) => new Float64Array(n),
  },
  float16: { npy: '<f2', family: 'float', size: 2, min: -65504, max: 65504, make: (n) => new Half(n) },
  bfloat16: { npy: '', family: 'float', size: 2, min: -3.4e38, max: 3.4e38, make: (n) => new Uint16Array(n) },
  int8: { npy: '|i1', family: 'int', size: 1, min: -128, max: 127, make: (n) => new Int8Array(n) },
  uint8: { npy: '|u1', family: 'int', size: 1, min: 0, max: 255, make: (n) => new Uint8Array(n) },
  int16: { npy: '<i2', family: 'int', size: 2, min: -32768, max: 32767, make: (n) => new Int16Array(n) },
  uint16: { npy: '<u2', family: 'int', size: 2, min: 0, max: 65535, make: (n) => new Uint16Array(n) },
  int32: {
    npy: '<i4',
    family: 'int',
    size: 4,
    min: -(2 ** 31),
    max: 2 ** 31 - 1,
    make: (n) => new Int32Array(n),
  },
  uint32: { npy: '<u4', family: 'int', size: 4, min: 0, max: 2 ** 32 - 1, make: (n) => new Uint32Array(n) },
  int64: {
    npy: '<i8',
    family: 'int',
    size: 8,
    min: -(2 ** 53),
    max: 2 ** 53,
    make: (n) => new BigInt64Array(n),
  },
  uint64: { npy: '<u8', family: 'int', size: 8, min: 0, max: 2 ** 53, make: (n) => new BigUint64Array(n) },
  bool: { npy: '|b1', family: 'bool', size: 1, min: 0, max: 1, make: (n) => new Uint8Array(n) },
  string: { npy: '', family: 'string', size: 0, min: 0, max: 0, make: (n) => new Array(n).fill('') },
};

/** @param {string} type @returns {Kind | undefined} undefined for types the page cannot make values of */
export function kindOf(type) {
  return KINDS[type];
}

/** @param {readonly number[]} dims */
export function sizeOf(dims) {
  return dims.reduce((n, d) => n * d, 1);
}

const word = new DataView(new ArrayBuffer(4));

/**
 * Element `i` as a number; 64-bit integers beyond 2^53 lose their last digits.
 * @param {string} type
 * @param {Data} data
 * @param {number} i
 */
export function read(type, data, i) {
  const raw = data[i];
  if (typeof raw === 'string') return Number(raw);
  if (type === 'float16' && data instanceof Uint16Array) return halfToNumber(data[i]);
  if (type === 'bfloat16' && data instanceof Uint16Array) {
    word.setUint32(0, data[i] << 16);
    return word.getFloat32(0);
  }
  return Number(raw);
}

/**
 * @param {string} type
 * @param {Data} data
 * @param {number} i
 * @param {number} x
 */
export function write(type, data, i, x) {
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) data[i] = BigInt(Math.trunc(x));
  else if (Array.isArray(data)) data[i] = String(x);
  else if (type === 'float16' && data instanceof Uint16Array) data[i] = numberToHalf(x);
  else if (type === 'bfloat16') {
    word.setFloat32(0, x);
    data[i] = (word.getUint32(0) + 0x7fff + ((word.getUint32(0) >>> 16) & 1)) >>> 16;
  } else data[i] = x;
}
