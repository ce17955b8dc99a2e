// NumPy's .npy files, format version 1.0 (numpy.lib.format). `encode` makes one; `decode` reads one to
// feed a model.
import { kindOf, sizeOf } from './tensors.js';

/** @typedef {import('./api.js').Data} Data */

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];

/**
 * @param {string} type
 * @param {readonly number[]} dims
 * @param {Data} data
 * @returns {Uint8Array | null} null where NumPy has no such dtype (strings, bfloat16)
 */
export function encode(type, dims, data) {
  const descr = kindOf(type)?.npy;
  if (!descr || Array.isArray(data)) return null;
  const tuple = dims.length === 1 ? `(${dims[0]},)` : `(${dims.join(', ')})`;
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${tuple}, }`;
  // The header ends in a newline and the data start at a multiple of 64 bytes.
  const length = Math.ceil((10 + text.length + 1) / 64) * 64;
  const out = new Uint8Array(length + data.byteLength);
  out.set([...MAGIC, 1, 0, (length - 10) & 255, (length - 10) >> 8]);
  out.set(new TextEncoder().encode(text.padEnd(length - 11) + '\n'), 10);
  out.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), length);
  return out;
}

/**
 * @param {ArrayBuffer} buffer
 * @returns {{descr: string, dims: number[], body: ArrayBuffer}}
 * @throws {Error} saying what is wrong with the file
 */
export function decode(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < 12 || MAGIC.some((b, i) => view.getUint8(i) !== b))
    throw new Error('This is not a .npy file.');
  const major = view.getUint8(6);
  const start = major === 1 ? 10 : 12;
  const length = major === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  const header = new TextDecoder().decode(new Uint8Array(buffer, start, length));
  const descr = /'descr':\s*'([^']+)'/.exec(header)?.[1];
  const tuple = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1];
  if (!descr || tuple === undefined) throw new Error('The .npy header names no plain dtype and shape.');
  if (/'fortran_order':\s*True/.test(header))
    throw new Error('The array is in Fortran order; save it with numpy.ascontiguousarray.');
  const dims = tuple
    .split(',')
    .map((t) => t.trim())
    .filter(Boolean)
    .map(Number);
  return { descr, dims, body: buffer.slice(start + length) };
}

/**
 * Reads a .npy file as a tensor of the wanted type, saying plainly what does not fit.
 * @param {ArrayBuffer} buffer
 * @param {string} type
 * @returns {{dims: number[], data: Data}}
 */
export function decodeAs(buffer, type) {
  const { descr, dims, body } = decode(buffer);
  const kind = kindOf(type);
  if (!kind || kind.npy !== descr)
    throw new Error(`The file holds ${descr}; this input takes ${type}${kind?.npy ? ` (${kind.npy})` : ''}.`);
  const data = kind.make(sizeOf(dims));
  if (Array.isArray(data) || body.byteLength < data.byteLength)
    throw new Error('The file ends before its data do.');
  new Uint8Array(data.buffer).set(new Uint8Array(body, 0, data.byteLength));
  return { dims, data };
}
