// Operands of the GPU bench, made of their indices, and what a product of them must be: a shader that computes something
// else has no time.
import { COPY_DST, COPY_SRC, STORAGE } from '/engine/webgpu/shader.js';
import { readBuffer } from '/engine/webgpu/given.js';
import { gpu } from './device.js';

/** @typedef {{m: number, k: number, n: number, right: string}} Product */

/** Numbers in -0.5 .. 0.5 element i of stream s. @param {number} i @param {number} s */
const number = (i, s) => ((((i + s * 7919) * 2654435761) >>> 8) & 0xffff) / 65536 - 0.5;

/** Four bytes in a word, element i of stream s. @param {number} i @param {number} s */
const word = (i, s) => Math.imul((i + s * 7919) ^ 0x5bd1e995, 2654435761) ^ (i >>> 3);

/** @param {number} count @param {number} stream */
export function numbers(count, stream) {
  const out = new Float32Array(count);
  for (let i = 0; i < count; i++) out[i] = number(i, stream);
  return out;
}

/** @type {Map<string, GPUBuffer>} filled once: the candidates of a shape read the same */
const filled = new Map();

/** @param {number} nbytes @param {string} dtype @param {number} size @param {number} stream */
export function filledBuffer(nbytes, dtype, size, stream) {
  const key = `${nbytes} ${dtype} ${stream}`;
  let buffer = filled.get(key);
  if (!buffer) {
    buffer = gpu.device.createBuffer({ size: nbytes, usage: STORAGE | COPY_SRC | COPY_DST });
    let data = /** @type {ArrayBufferView} */ (numbers(size, stream));
    if (dtype === 'i32') data = Int32Array.from({ length: size }, (_, i) => word(i, stream));
    if (dtype === 'f16') data = new (/** @type {any} */ (globalThis).Float16Array)(data);
    const bytes = new Uint8Array(data.buffer, 0, data.byteLength - (data.byteLength % 4));
    gpu.device.queue.writeBuffer(buffer, 0, bytes);
    filled.set(key, buffer);
  }
  return buffer;
}

export function forget() {
  for (const buffer of filled.values()) buffer.destroy();
  filled.clear();
}

/** The largest error relative to the root of k, of 64 places. @param {GPUBuffer} buffer @param {any} binding @param {Product} product */
export async function wrong(buffer, binding, { m, k, n, right }) {
  const half = binding.dtype === 'f16' && gpu.facts.features.includes('shader-f16');
  const bytes = await readBuffer(gpu.device, buffer, Math.ceil((m * n * (half ? 2 : 4)) / 4) * 4);
  const found = half ? new (/** @type {any} */ (globalThis).Float16Array)(bytes.buffer) : new Float32Array(bytes.buffer);
  let most = 0;
  for (let i = 0; i < 64; i++) {
    const at = Math.floor(((i * 2654435761) % 2 ** 32) / 2 ** 32 * m * n);
    const [row, column] = [Math.floor(at / n), at % n];
    let sum = 0;
    for (let j = 0; j < k; j++) sum += number(row * k + j, 0) * number(right === 'kn' ? j * n + column : column * k + j, 1);
    most = Math.max(most, Math.abs(found[at] - sum));
  }
  return most / Math.sqrt(k);
}

/** The same of i8 in words along the sum, on both sides, where sums are exact. @param {GPUBuffer} buffer @param {any} binding @param {Product} product */
export async function wrongBytes(buffer, binding, { m, k, n }) {
  const found = new Int32Array((await readBuffer(gpu.device, buffer, m * n * 4)).buffer);
  const byte = (/** @type {number} */ i, /** @type {number} */ s) => (word(i >> 2, s) << (24 - 8 * (i & 3))) >> 24;
  let most = 0;
  for (let i = 0; i < 64; i++) {
    const at = Math.floor(((i * 2654435761) % 2 ** 32) / 2 ** 32 * m * n);
    const [row, column] = [Math.floor(at / n), at % n];
    let sum = 0;
    for (let j = 0; j < k; j++) sum += byte(row * k + j, 0) * byte(column * k + j, 1);
    most = Math.max(most, Math.abs(found[at] - sum));
  }
  return most;
}

/** As `wrong`, of weights in words: (code - middle) * scale. @param {GPUBuffer} buffer @param {any} binding of the words @param {Product} product @param {number} bits */
export async function wrongBits(buffer, binding, { k, n }, bits) {
  const found = new Float32Array((await readBuffer(gpu.device, buffer, n * 4)).buffer);
  const each = 32 / bits;
  let most = 0;
  for (let i = 0; i < 64; i++) {
    const column = Math.floor(((i * 2654435761) % 2 ** 32) / 2 ** 32 * n);
    let sum = 0;
    for (let j = 0; j < k; j++) {
      const at = column * (binding.size / n) + Math.floor(j / each);
      const code = (word(at, 1) >>> (bits * (j % each))) & (2 ** bits - 1);
      sum += number(j, 0) * (code - 2 ** (bits - 1)) * number(column * (k / 32) + Math.floor(j / 32), 2);
    }
    most = Math.max(most, Math.abs(found[column] - sum));
  }
  return most / Math.sqrt(k) / 2 ** (bits - 1);
}
