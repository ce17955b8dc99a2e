// Tensors from the device: takes references and their buffers, gives each one's bytes. They are copied into buffers of a few
// megabytes that are mapped one by one, so that this thread copies a piece while the browser's GPU process brings the next.
// Memory for large tensors is touched while the device still computes: fresh pages cost as much as the copy.

import { COPY_DST, MAP_READ } from './shader.js';
import { asIs, narrow, storedBytes } from './stored.js';
import { nextTask } from './wait.js';

/** @typedef {import('./types.d.ts').GpuRef} GpuRef */
/** @typedef {{ref: GpuRef, buffer: GPUBuffer}} Wanted */

const READ = 1; // GPUMapMode.READ
const PIECE = 4 << 20;
const PAGE = 4096;
/** Bytes touched between two looks at what has come: about a tenth of a millisecond. */
const TOUCHED = 1 << 18;

/** Bytes of a tensor in its buffer. @param {GpuRef} ref */
const stored = (ref) => storedBytes(ref.type, ref.stored, ref.nbytes);
/** Bytes each tensor takes among the pieces. @param {GpuRef} ref */
const room = (ref) => Math.ceil(stored(ref) / 16) * 16;

/** @param {Wanted[]} wanted */
export const bytesToRead = (wanted) => wanted.reduce((sum, { ref }) => sum + room(ref), 0);

/** Buffers that tensors come through, kept from one run to the next. */
export class Readback {
  /** @type {GPUBuffer[]} all of PIECE bytes but the last */
  #pieces = [];

  /** @param {GPUDevice} device @param {number} size bytes @param {number} [piece] bytes a buffer, a multiple of 16 */
  constructor(device, size, piece = PIECE) {
    this.size = size;
    this.piece = piece;
    for (let at = 0; at < size; at += piece) {
      this.#pieces.push(device.createBuffer({ size: Math.max(Math.min(piece, size - at), 16), usage: MAP_READ | COPY_DST }));
    }
  }

  /** @param {GPUCommandEncoder} encoder @param {Wanted[]} wanted of no more than `size` bytes in all */
  encode(encoder, wanted) {
    let start = 0;
    for (const { ref, buffer } of wanted) {
      const size = Math.ceil(stored(ref) / 4) * 4;
      for (const { piece, at, from, length } of this.#cuts(start, size)) encoder.copyBufferToBuffer(buffer, from, this.#pieces[piece], at, length);
      start += room(ref);
    }
  }

  /**
   * After the copies were submitted.
   * @param {Wanted[]} wanted as they were encoded
   * @param {(Uint8Array | null)[]} [places] where the bytes go; null or left out: into an array of their own
   * @returns {Promise<Uint8Array[]>}
   */
  async read(wanted, places = []) {
    const size = bytesToRead(wanted);
    const count = Math.ceil(size / this.piece);
    const used = this.#pieces.slice(0, count);
    const mapped = used.map((buffer, i) => buffer.mapAsync(READ, 0, Math.min(this.piece, size - i * this.piece)));
    for (const one of mapped) one.catch(() => undefined); // each is awaited below, unless one before it failed
    const raw = wanted.map(({ ref }, i) => (asIs(ref.type, ref.stored) && places[i]) || new Uint8Array(stored(ref)));
    const fresh = touching(raw.filter((bytes, i) => bytes !== places[i] && bytes.byteLength >= TOUCHED));
    try {
      for (let piece = 0; piece < count; piece++) {
        await whileTouching(mapped[piece], fresh);
        const all = new Uint8Array(used[piece].getMappedRange(0, Math.min(this.piece, size - piece * this.piece)));
        let start = 0;
        wanted.forEach(({ ref }, i) => {
          for (const cut of this.#cuts(start, stored(ref))) {
            if (cut.piece === piece) raw[i].set(all.subarray(cut.at, cut.at + cut.length), cut.from);
          }
          start += room(ref);
        });
      }
    } finally {
      for (const buffer of used) buffer.unmap();
    }
    return wanted.map(({ ref }, i) => {
      const bytes = narrow(ref.type, ref.stored, raw[i]);
      const place = places[i];
      if (place && bytes !== place) place.set(bytes);
      return place ?? bytes;
    });
  }

  destroy() {
    for (const buffer of this.#pieces) buffer.destroy();
  }

  /** Where `length` bytes from `start` on lie: in which pieces, and where there. @param {number} start @param {number} length */
  * #cuts(start, length) {
    for (let from = 0; from < length;) {
      const piece = Math.floor((start + from) / this.piece);
      const at = (start + from) % this.piece;
      const part = Math.min(length - from, this.piece - at);
      yield { piece, at, from, length: part };
      from += part;
    }
  }
}

/** One step a call of going over all pages. @param {Uint8Array[]} arrays @returns {Generator<void>} */
function* touching(arrays) {
  for (const bytes of arrays) {
    for (let at = 0; at < bytes.byteLength; at += PAGE) {
      bytes[at] |= 0; // a piece may be there already
      if (at % TOUCHED === 0) yield;
    }
  }
}

/** @template T @param {Promise<T>} promise @param {Generator<void>} work @returns {Promise<T>} */
async function whileTouching(promise, work) {
  let here = false;
  const seen = promise.finally(() => {
    here = true;
  });
  seen.catch(() => undefined);
  while (!here && !work.next().done) await nextTask();
  return promise;
}

/** @param {GPUDevice} device @param {Wanted[]} wanted @returns {Promise<Uint8Array[]>} */
export async function readTensors(device, wanted) {
  if (!wanted.length) return [];
  const readback = new Readback(device, bytesToRead(wanted));
  const encoder = device.createCommandEncoder();
  readback.encode(encoder, wanted);
  device.queue.submit([encoder.finish()]);
  try {
    return await readback.read(wanted);
  } finally {
    readback.destroy();
  }
}

/** Bytes of any buffer with usage COPY_SRC, from and to whole words. @param {GPUDevice} device @param {GPUBuffer} buffer @param {number} from @param {number} length */
export async function readBytes(device, buffer, from, length) {
  const staging = device.createBuffer({ size: Math.max(length, 16), usage: MAP_READ | COPY_DST });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, from, staging, 0, length);
  device.queue.submit([encoder.finish()]);
  try {
    await staging.mapAsync(READ);
    return new Uint8Array(staging.getMappedRange().slice(0, length));
  } finally {
    staging.destroy();
  }
}

/** The first bytes of any buffer with usage COPY_SRC. @param {GPUDevice} device @param {GPUBuffer} buffer @param {number} nbytes */
export async function readBuffer(device, buffer, nbytes) {
  const ref = { name: buffer.label, type: 'float32', dims: [], buffer: 0, nbytes, stored: 'f32' };
  return (await readTensors(device, [{ ref, buffer }]))[0];
}
