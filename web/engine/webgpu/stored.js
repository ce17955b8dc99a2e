// Elements of ONNX's types as storage buffers hold them: WGSL has no bytes and no 16-bit integers, so these take four
// bytes each there, but for constants of one byte ("bytes": they lie four to a word). Takes and gives bytes; what is
// stored as it is passes through without a copy.
import { halfToNumber, numberToHalf } from '../halves.js';

/** @typedef {Int8Array | Uint8Array | Int16Array | Uint16Array} Narrow */

/** @type {Record<string, {new (buffer: ArrayBufferLike, offset: number, length: number): Narrow, BYTES_PER_ELEMENT: number}>} */
const NARROW = {
  int8: Int8Array, uint8: Uint8Array, bool: Uint8Array, int16: Int16Array, uint16: Uint16Array, bfloat16: Uint16Array,
  float16: Uint16Array,
};

/** Whether a tensor's bytes are its bytes in a buffer. @param {string} type @param {string} stored */
export const asIs = (type, stored) => !(type in NARROW) || stored === 'f16' || stored === 'bytes';

/** Bytes in the model for an element. @param {string} type */
export const elementBytes = (type) => NARROW[type]?.BYTES_PER_ELEMENT ?? 4;

/**
 * @param {string} type @param {string} stored @param {Uint8Array} bytes
 * @returns {Uint8Array} what goes into a buffer
 */
export function widen(type, stored, bytes) {
  if (asIs(type, stored)) return bytes;
  const from = view(type, bytes);
  if (type === 'bfloat16') return bytesOf(Uint32Array.from(from, (bits) => bits << 16));
  if (type === 'float16') return bytesOf(Float32Array.from(from, halfToNumber));
  return bytesOf(Int32Array.from(from));
}

/**
 * @param {string} type @param {string} stored @param {Uint8Array} bytes of a buffer; they begin at a multiple of four
 * @returns {Uint8Array} the tensor's bytes
 */
export function narrow(type, stored, bytes) {
  if (asIs(type, stored)) return bytes;
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
  if (type === 'bfloat16') return bytesOf(Uint16Array.from(words, (bits) => bits >>> 16));
  if (type === 'float16') {
    const numbers = new Float32Array(bytes.buffer, bytes.byteOffset, words.length);
    return bytesOf(Uint16Array.from(numbers, numberToHalf));
  }
  const Kind = elementBytes(type) === 1 ? Uint8Array : Uint16Array;
  return bytesOf(Kind.from(words));
}

/** Bytes in a buffer for a tensor of `nbytes`. @param {string} type @param {string} stored @param {number} nbytes */
export const storedBytes = (type, stored, nbytes) => (asIs(type, stored) ? nbytes : (nbytes / elementBytes(type)) * 4);

/** @param {string} type @param {Uint8Array} bytes @returns {Narrow} */
function view(type, bytes) {
  const Kind = NARROW[type];
  const size = Kind.BYTES_PER_ELEMENT;
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  return new Kind(aligned.buffer, aligned.byteOffset, Math.floor(bytes.byteLength / size));
}

/** @param {ArrayBufferView} array */
const bytesOf = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

/** The same bytes, with zeros up to a multiple of four. @param {Uint8Array} bytes @returns {Uint8Array<ArrayBuffer>} */
export function wholeWords(bytes) {
  const given = /** @type {Uint8Array<ArrayBuffer>} */ (bytes);
  if (bytes.byteLength % 4 === 0) return given;
  const padded = new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4);
  padded.set(bytes);
  return padded;
}
