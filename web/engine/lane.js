// A session as its caller sees it: the line in which its calls wait, and its memory, shared or the caller's copy. Who
// is at the head of the line may write feeds into the memory and read outputs out of it: nothing else is under way.

import { collect } from './garbage.js';

/** @typedef {import('./types.d.ts').ValueRef} ValueRef */
/** Where a plan's inputs and outputs are, and how the caller's thread may run it.
 * @typedef {{key: string, inputs: ValueRef[], outputs: ValueRef[], short: import('./caller.js').ShortPlan | null,
 *   spares: import('./types.d.ts').SparePolicy | undefined}} KnownPlan */

export class Lane {
  /** @type {(() => void)[]} */
  #waiting = [];
  #view = new Uint8Array(0);
  /** The engine's if it is shared, else the caller's copy, if there is one. @type {WebAssembly.Memory | null} */
  memory = null;
  /** A call is under way; whoever comes now waits. */
  busy = false;
  /** The engine has this session. */
  open = false;
  /** The engine's memory is here too: feeds and outputs need no messages. */
  direct = false;
  /** The session's number in mail. */
  no = -1;
  threads = 1;
  /** The plans that are loaded. @type {Map<string, KnownPlan>} */
  plans = new Map();

  /**
   * Calls `start` when all that came before has left; at once if nothing has.
   * @template T
   * @param {() => Promise<T>} start calls leave() in the end
   * @returns {Promise<T>}
   */
  enter(start) {
    if (this.busy) return new Promise((resolve) => { this.#waiting.push(() => resolve(start())); });
    this.busy = true;
    return start();
  }

  leave() {
    const next = this.#waiting.shift();
    if (next) next();
    else this.busy = false;
  }

  /** @param {{memory?: WebAssembly.Memory, no: number, threads: number}} made memory: if it is shared */
  opened({ memory, no, threads }) {
    this.open = true;
    this.direct = memory !== undefined;
    this.no = no;
    this.threads = threads;
    this.memory = memory ?? null;
  }

  /** Lets go of the memory, so that it can be freed. */
  closed() {
    const held = this.memory !== null;
    this.open = this.direct = false;
    this.memory = null;
    this.#view = new Uint8Array(0);
    this.plans.clear();
    if (held) collect();
  }

  /**
   * @param {number} address
   * @param {number} length
   * @returns {Uint8Array} a view, good until the next call
   */
  bytes(address, length) {
    const end = address + length;
    if (this.memory && end > this.#view.byteLength) { // also one that has grown and lost its buffer
      // The engine has grown it: the old buffer keeps its length, and grow(0) makes the new one known here.
      if (this.memory.buffer.byteLength < end) this.memory.grow(0);
      this.#view = new Uint8Array(this.memory.buffer);
    }
    return this.#view.subarray(address, end);
  }
}
