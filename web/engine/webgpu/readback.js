// Tensors from the device: takes references and their buffers, gives each one's bytes. They are copied into buffers of a few
// megabytes that are mapped one by one, so that this thread copies a piece while the browser's GPU process brings the next.
// Memory for large tensors is touched while the device still computes: fresh pages cost as much as the copy.

import { COPY_DST, MAP_READ } from './shader.js';
import { asIs, narrow, storedBytes } from './stored.js';
import { nextTask } from './wait.js';

/** @typedef {import('./types.d.ts').GpuRef} GpuRef */
/** @typedef {{ref: GpuRef, buffer: GPUBuffer}} Wanted */
/**
 * first: waits for the first piece, until which the device computes; everyMs: how often the browser is made to look for each
 * of the others (wait.js).
 * @typedef {{first?: <T>(piece: Promise<T>) => Promise<T>, everyMs?: number}} Waiting
 */

const READ = 1; // GPUMapMode.READ
/** How long the browser's GPU process takes for a piece is its own business, not a plan's: `bench --gpu readback` times others. */
const PIECE = 4 << 20;
/** Pieces under way at a time: the memory they come through stays warm and small. */
const MOST = 16;
const PAGE = 4096;
/** Bytes touched between two looks at what has come: about a tenth of a millisecond. */
const TOUCHED = 1 << 18;

/** Bytes of a tensor in its buffer. @param {GpuRef} ref */
const stored = (ref) => storedBytes(ref.type, ref.stored, ref.nbytes);
/** Bytes that so many take among the pieces. @param {number} nbytes */
const room = (nbytes) => Math.ceil(nbytes / 16) * 16;
/** Bytes of all pieces of tensors that have so many each. @param {number[]} sizes */
export const roomFor = (sizes) => sizes.reduce((sum, nbytes) => sum + room(nbytes), 0);

/** @param {Wanted[]} wanted */
export const bytesToRead = (wanted) => roomFor(wanted.map(({ ref }) => stored(ref)));

/** A stretch of tensor `of` from its byte `from` on, at byte `at` of a piece; in whole words. @typedef {{of: number, from: number, at: number, length: number}} Part */

/** Buffers that tensors come through, kept from one run to the next. Where there are more pieces than buffers, these take turns. */
export class Readback {
  /** @type {GPUBuffer[]} */
  #buffers = [];

  /**
   * @param {GPUDevice} device @param {number} size bytes @param {number} [piece] bytes a buffer, a multiple of 16
   * @param {number} [most] buffers
   */
  constructor(device, size, piece = PIECE, most = MOST) {
    this.device = device;
    this.size = size;
    this.piece = piece;
    for (let at = 0; at < size && this.#buffers.length < most; at += piece) {
      this.#buffers.push(device.createBuffer({ size: Math.max(Math.min(piece, size - at), 16), usage: MAP_READ | COPY_DST }));
    }
  }

  /** @param {GPUCommandEncoder} encoder @param {Wanted[]} wanted of no more than `size` bytes in all */
  encode(encoder, wanted) {
    const parts = cut(wanted.map(({ ref }) => stored(ref)), this.piece);
    for (let piece = 0; piece < Math.min(parts.length, this.#buffers.length); piece++) this.#copy(encoder, wanted, parts[piece], piece);
  }

  /** @param {GPUCommandEncoder} encoder @param {Wanted[]} wanted @param {Part[]} parts @param {number} into */
  #copy(encoder, wanted, parts, into) {
    for (const { of, from, at, length } of parts) encoder.copyBufferToBuffer(wanted[of].buffer, from, this.#buffers[into], at, length);
  }

  /**
   * After the copies were submitted.
   * @param {Wanted[]} wanted as they were encoded; their buffers stay as they are until all is read
   * @param {(Uint8Array | null)[]} [places] where the bytes go; null or left out: into an array of their own
   * @param {Waiting} [waiting] how it is waited for
   * @returns {Promise<Uint8Array[]>}
   */
  async read(wanted, places = [], { first = (piece) => piece, everyMs = Infinity } = {}) {
    const parts = cut(wanted.map(({ ref }) => stored(ref)), this.piece);
    const [size, turns] = [bytesToRead(wanted), this.#buffers.length];
    const length = (/** @type {number} */ piece) => Math.min(this.piece, size - piece * this.piece);
    /** @type {Promise<void>[]} */
    const mapped = [];
    const map = (/** @type {number} */ piece) => {
      mapped[piece] = this.#buffers[piece % turns].mapAsync(READ, 0, length(piece));
      mapped[piece].catch(() => undefined); // each is awaited below, unless one before it failed
    };
    for (let piece = 0; piece < Math.min(parts.length, turns); piece++) map(piece);
    const raw = wanted.map(({ ref }, i) => (asIs(ref.type, ref.stored) && places[i]) || new Uint8Array(stored(ref)));
    const here = raw.map((bytes, i) => (bytes === places[i] || bytes.byteLength < TOUCHED ? Infinity : 0));
    const fresh = touching(raw, here);
    const look = { submit: () => this.device.queue.submit([]), everyMs };
    try {
      for (let piece = 0; piece < parts.length; piece++) {
        const buffer = this.#buffers[piece % turns];
        await whileTouching(piece ? mapped[piece] : first(mapped[0]), fresh, piece ? look : null);
        const all = new Uint8Array(buffer.getMappedRange(0, length(piece)));
        for (const { of, from, at, length: words } of parts[piece]) {
          raw[of].set(all.subarray(at, at + Math.min(words, raw[of].byteLength - from)), from);
          here[of] = Math.max(here[of], from + words);
        }
        buffer.unmap();
        const next = piece + turns;
        if (next >= parts.length) continue;
        const encoder = this.device.createCommandEncoder();
        this.#copy(encoder, wanted, parts[next], next % turns);
        this.device.queue.submit([encoder.finish()]);
        map(next);
      }
    } finally {
      for (const buffer of this.#buffers) buffer.unmap();
    }
    return wanted.map(({ ref }, i) => {
      const bytes = narrow(ref.type, ref.stored, raw[i]);
      const place = places[i];
      if (place && bytes !== place) place.set(bytes);
      return place ?? bytes;
    });
  }

  destroy() {
    for (const buffer of this.#buffers) buffer.destroy();
  }
}

/** What lies in each piece. @param {number[]} sizes bytes of the tensors @param {number} piece bytes @returns {Part[][]} */
export function cut(sizes, piece) {
  /** @type {Part[][]} */
  const parts = Array.from({ length: Math.ceil(roomFor(sizes) / piece) }, () => []);
  let start = 0;
  sizes.forEach((nbytes, of) => {
    const size = Math.ceil(nbytes / 4) * 4;
    for (let from = 0; from < size;) {
      const at = (start + from) % piece;
      const length = Math.min(size - from, piece - at);
      parts[Math.floor((start + from) / piece)].push({ of, from, at, length });
      from += length;
    }
    start += room(nbytes);
  });
  return parts;
}

/**
 * One step a call of going over all pages, ahead of what is there. Nothing is read: of a new page that would be a fault more.
 * @param {Uint8Array[]} arrays @param {number[]} here bytes of each that have come, Infinity for one to leave alone
 * @returns {Generator<void>}
 */
function* touching(arrays, here) {
  for (const [i, bytes] of arrays.entries()) {
    let at = 0;
    for (let stop = TOUCHED; at < bytes.byteLength; stop = at + TOUCHED) {
      for (at = Math.max(at, here[i]); at < Math.min(stop, bytes.byteLength); at += PAGE) bytes[at] = 0;
      yield;
    }
  }
}

/**
 * @template T @param {Promise<T>} promise @param {Generator<void>} work
 * @param {{submit: () => void, everyMs: number} | null} look what makes the browser look whether it has come
 * @returns {Promise<T>}
 */
async function whileTouching(promise, work, look) {
  let here = false;
  const seen = promise.finally(() => {
    here = true;
  });
  seen.catch(() => undefined);
  let looked = 0;
  while (!here) {
    const asks = look !== null && look.everyMs < Infinity;
    if (work.next().done && !asks) break;
    if (asks && performance.now() - looked >= look.everyMs) {
      look.submit();
      looked = performance.now();
    }
    await nextTask();
  }
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
