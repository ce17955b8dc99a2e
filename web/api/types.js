// Tensor element types: ONNX's names in lower case, the typed array that holds each, and its size in bits.
// Types with no JavaScript array of their own travel as the raw little-endian bytes ONNX defines.

/**
 * @typedef {Float32Array | Float64Array | Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array
 *   | Uint32Array | BigInt64Array | BigUint64Array} NumericArray
 * @typedef {{new (length: number): NumericArray, new (buffer: ArrayBufferLike, offset?: number, length?: number): NumericArray,
 *   readonly BYTES_PER_ELEMENT: number, readonly name: string}} NumericArrayConstructor
 * @typedef {{bits: number, array: NumericArrayConstructor, perElement: number}} TypeInfo
 */

/** Float16Array where the browser has one (Chrome 135, Firefox 129, Safari 18.2), else its bits as Uint16Array. */
const Half = /** @type {NumericArrayConstructor} */ (
  /** @type {any} */ (globalThis).Float16Array ?? Uint16Array
);

/** @param {number} bits @param {any} array @param {number} [perElement] array entries for one element */
const type = (bits, array, perElement = 1) => ({ bits, array, perElement });

/** @type {Readonly<Record<string, TypeInfo>>} */
export const TYPES = Object.freeze({
  float32: type(32, Float32Array),
  float64: type(64, Float64Array),
  float16: type(16, Half),
  bfloat16: type(16, Uint16Array),
  int8: type(8, Int8Array),
  uint8: type(8, Uint8Array),
  int16: type(16, Int16Array),
  uint16: type(16, Uint16Array),
  int32: type(32, Int32Array),
  uint32: type(32, Uint32Array),
  int64: type(64, BigInt64Array),
  uint64: type(64, BigUint64Array),
  bool: type(8, Uint8Array),
  complex64: type(64, Float32Array, 2), // real, imaginary, real, …
  complex128: type(128, Float64Array, 2),
  float8e4m3fn: type(8, Uint8Array),
  float8e4m3fnuz: type(8, Uint8Array),
  float8e5m2: type(8, Uint8Array),
  float8e5m2fnuz: type(8, Uint8Array),
  float8e8m0: type(8, Uint8Array),
  // Below a byte: ONNX packs elements from the low bits up, the last byte padded.
  float4e2m1: type(4, Uint8Array),
  int4: type(4, Uint8Array),
  uint4: type(4, Uint8Array),
  int2: type(2, Uint8Array),
  uint2: type(2, Uint8Array),
});

/** @param {string} name @returns {boolean} */
export const isType = (name) => name === 'string' || Object.hasOwn(TYPES, name);

/** Array entries (not bytes) that `elements` of a type take. @param {string} name @param {number} elements */
export function entriesFor(name, elements) {
  if (name === 'string') return elements;
  const { bits, array, perElement } = TYPES[name];
  return perElement > 1 || bits >= 8
    ? elements * perElement
    : Math.ceil((elements * bits) / (8 * array.BYTES_PER_ELEMENT));
}

/**
 * A typed array over bytes that came from a worker; copies only when the bytes lie askew.
 * @param {string} name @param {ArrayBufferView} bytes
 * @returns {NumericArray}
 */
export function viewAs(name, bytes) {
  const { array } = TYPES[name];
  const size = array.BYTES_PER_ELEMENT;
  const aligned =
    bytes.byteOffset % size === 0
      ? bytes
      : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength).slice();
  return new array(aligned.buffer, aligned.byteOffset, Math.floor(bytes.byteLength / size));
}

/** The type ORT infers from an array alone. @param {unknown} data @returns {string | undefined} */
export function inferType(data) {
  if (Array.isArray(data)) {
    if (typeof data[0] === 'string') return 'string';
    if (typeof data[0] === 'boolean') return 'bool';
    return undefined;
  }
  if (!ArrayBuffer.isView(data)) return undefined;
  return INFERRED[data.constructor.name];
}

/** @type {Record<string, string>} */
const INFERRED = {
  Float32Array: 'float32',
  Float64Array: 'float64',
  Float16Array: 'float16',
  Int8Array: 'int8',
  Uint8Array: 'uint8',
  Uint8ClampedArray: 'uint8',
  Int16Array: 'int16',
  Uint16Array: 'uint16',
  Int32Array: 'int32',
  Uint32Array: 'uint32',
  BigInt64Array: 'int64',
  BigUint64Array: 'uint64',
};
