// A session as its caller sees it: the line in which its calls wait, and its memory where that is shared. Who is
// at the head of the line may write feeds into the memory and read outputs out of it: nothing else is under way.

import { collect } from './garbage.js';

/** @typedef {import('./types.d.ts').ValueRef} ValueRef */

export class Lane {
  /** @type {(() => void)[]} */
  #waiting = [];
  #view = new Uint8Array(0);
  /** @type {WebAssembly.Memory | null} */
  #memory = null;
  /** A call is under way; whoever comes now waits. */
  busy = false;
  /** The engine has this session. */
  open = false;
  /** Where the plans that are loaded have their inputs and outputs. @type {Map<string, {inputs: ValueRef[], outputs: ValueRef[]}>} */
  plans = new Map();

  /**
   * Calls `start` when all that came before has left; at once if nothing has.
   * @param {() => void} start calls leave() in the end
   */
  enter(start) {
    if (this.busy) {
      this.#waiting.push(start);
    } else {
      this.busy = true;
      start();
    }
  }

  leave() {
    const next = this.#waiting.shift();
    if (next) next();
    else this.busy = false;
  }

  /** @param {WebAssembly.Memory | undefined} memory shared, or none */
  opened(memory) {
    this.open = true;
    this.#memory = memory ?? null;
  }

  /** Lets go of the memory, so that it can be freed. */
  closed() {
    const { direct } = this;
    this.open = false;
    this.#memory = null;
    this.#view = new Uint8Array(0);
    this.plans.clear();
    if (direct) collect();
  }

  /** Feeds and outputs need no messages. */
  get direct() {
    return this.#memory !== null;
  }

  /**
   * @param {number} address
   * @param {number} length
   * @returns {Uint8Array} a view, good until the next call
   */
  bytes(address, length) {
    const end = address + length;
    if (this.#memory && end > this.#view.byteLength) {
      // The engine has grown it: the old buffer keeps its length, and grow(0) makes the new one known here.
      if (this.#memory.buffer.byteLength < end) this.#memory.grow(0);
      this.#view = new Uint8Array(this.#memory.buffer);
    }
    return this.#view.subarray(address, end);
  }
}
