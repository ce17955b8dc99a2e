// A session's linear memory: made shared or not, grown to what a plan asks, read and written in bytes.
// Layout (Python plans all addresses): [0,64) null guard, [64,9216) control words, then constants and arena.

import { NnjitError, check } from './errors.js';

export const PAGE = 65536;

/** Int32 indices of the control words that plan code and engine share. */
export const SEQUENCE = 64 / 4;
export const RUNNING = 68 / 4;
export const ABORT = 72 / 4;
export const DONE = 128 / 4;
export const AWAKE = 136 / 4;
/** One word a thread: the step it is in, so that a trap can be named. */
export const STEP_WORDS = 256 / 4;

/** 4 GiB: all that 32-bit addresses reach. */
const MOST_PAGES = 65536;

const SMALLER = 'Use a smaller model, smaller input shapes or a batch of one, or release other sessions first.';

/**
 * @param {boolean} shared
 * @param {number | undefined} maxPages
 * @returns {{memory: WebAssembly.Memory, maxPages: number}}
 */
function allocate(shared, maxPages) {
  // A maximum reserves address space; where that is scarce (phones), ask for less until the browser agrees.
  for (let maximum = maxPages ?? MOST_PAGES; ; maximum >>= 1) {
    try {
      return { memory: new WebAssembly.Memory({ initial: 1, maximum, shared }), maxPages: maximum };
    } catch (cause) {
      if (maximum > 256 && maxPages === undefined) continue;
      throw new NnjitError('MODEL_TOO_LARGE', `The browser gave no memory: ${cause}`,
        { asked: PAGE, limit: maximum * PAGE, current: 0 }, SMALLER);
    }
  }
}

export class SessionMemory {
  /**
   * @param {boolean} shared
   * @param {number} [maxPages] upper limit in 64 KiB pages; default 65536 or what the browser grants
   */
  constructor(shared, maxPages) {
    const made = allocate(shared, maxPages);
    this.shared = shared;
    this.maxPages = made.maxPages;
    this.memory = made.memory;
    this.view = new Uint8Array(this.memory.buffer);
  }

  get bytes() {
    return this.memory.buffer.byteLength;
  }

  /**
   * Grows the memory to at least `pages`.
   * @param {number} pages
   */
  ensure(pages) {
    const current = this.bytes / PAGE;
    if (pages <= current) return;
    const fields = { asked: pages * PAGE, limit: this.maxPages * PAGE, current: this.bytes };
    check(pages <= this.maxPages, 'MODEL_TOO_LARGE',
      `The plan needs ${fields.asked} bytes of memory; the session may have ${fields.limit}.`, fields, SMALLER);
    try {
      this.memory.grow(pages - current);
    } catch {
      throw new NnjitError('MODEL_TOO_LARGE',
        `The plan needs ${fields.asked} bytes of memory; the browser would not grow it beyond ${fields.current}.`,
        fields, SMALLER);
    }
    this.view = new Uint8Array(this.memory.buffer);
  }

  /**
   * @param {number} address
   * @param {number} length
   */
  #inside(address, length) {
    check(address >= 0 && length >= 0 && address + length <= this.bytes, 'BAD_PLAN',
      `Bytes ${address}..${address + length} lie outside the memory of ${this.bytes} bytes.`, { address, length });
  }

  /**
   * @param {number} address
   * @param {Uint8Array} bytes
   */
  write(address, bytes) {
    this.#inside(address, bytes.byteLength);
    this.view.set(bytes, address);
  }

  /**
   * @param {number} address
   * @param {number} length
   * @param {number} value one byte
   */
  fill(address, length, value) {
    this.#inside(address, length);
    this.view.fill(value, address, address + length);
  }

  /**
   * @param {number} address
   * @param {number} length
   * @returns {Uint8Array<ArrayBuffer>} a copy that owns its buffer
   */
  read(address, length) {
    this.#inside(address, length);
    const copy = new Uint8Array(length);
    copy.set(this.view.subarray(address, address + length));
    return copy;
  }
}
