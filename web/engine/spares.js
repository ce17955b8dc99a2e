// Memory for outputs that is there before a run needs it: takes how many bytes an output has, gives an array whose pages
// other threads have written to. The first write to a new page costs more than the copy into it, and a stream of runs asks
// for the same sizes again and again. How much is kept ready, and for how long, the plan says.

/** @typedef {import('./types.d.ts').SparePolicy} SparePolicy */
/** ahead: how many there should be, ready or being made. @typedef {{ready: Uint8Array[], making: number, ahead: number}} Size */
/** @typedef {{worker: Worker, orders: number[]}} Helper */

export class Spares {
  /** By bytes, of those that runs have asked for lately. @type {Map<number, Size>} */
  #sizes = new Map();
  /** @type {Helper[]} */
  #helpers = [];
  /** Bytes ready and being made. */
  held = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #end;
  #asked = 0;
  /** The browser starts no threads for this: it is not asked again. */
  #refused = false;

  /**
   * An array of so many bytes, whatever is in it, that is the caller's from now on; null where none is ready. The first
   * call for a size orders nothing: it may be the only one.
   * @param {number} nbytes @param {SparePolicy | undefined} policy @param {number} threads that are busy while runs are under way
   */
  take(nbytes, policy, threads) {
    if (!policy || this.#refused || nbytes < policy.leastBytes) return null;
    const most = Math.min(policy.mostBytes, policy.share * deviceBytes());
    const helpers = Math.min(policy.threads, (globalThis.navigator?.hardwareConcurrency ?? 1) - threads);
    if (helpers < 1 || nbytes > most) return null;
    this.#asked = performance.now();
    this.#end ??= setTimeout(() => this.#idle(policy.idleMs), policy.idleMs);
    const size = this.#sizes.get(nbytes);
    if (!size) {
      this.#sizes.set(nbytes, { ready: [], making: 0, ahead: 0 });
      return null;
    }
    const found = size.ready.pop() ?? null;
    if (found) this.held -= nbytes;
    else size.ahead = Math.min(size.ahead + 1, policy.ahead);
    while (size.ready.length + size.making < size.ahead && this.held + nbytes <= most) {
      if (!this.#order(nbytes, size, helpers)) break;
    }
    return found;
  }

  /** @param {number} nbytes @param {Size} size @param {number} most helpers @returns {boolean} whether one of them has time */
  #order(nbytes, size, most) {
    let helper = this.#helpers.find(({ orders }) => !orders.length);
    if (!helper && this.#helpers.length < most) {
      try {
        this.#helpers.push((helper = this.#start()));
      } catch {
        this.#refuse();
        return false;
      }
    }
    helper ??= this.#helpers.find(({ orders }) => orders.length < 2); // one more, for the time until the next call
    if (!helper) return false;
    helper.orders.push(nbytes);
    helper.worker.postMessage(nbytes);
    size.making++;
    this.held += nbytes;
    return true;
  }

  #start() {
    const worker = new Worker(new URL('./spare.worker.js', import.meta.url), { type: 'module', name: 'nnjit memory' });
    /** @type {Helper} */
    const helper = { worker, orders: [] };
    worker.onmessage = ({ data }) => {
      if (!this.#helpers.includes(helper)) return; // all was let go meanwhile
      const nbytes = /** @type {number} */ (helper.orders.shift());
      const size = /** @type {Size} */ (this.#sizes.get(nbytes));
      size.making--;
      if (data) size.ready.push(new Uint8Array(data));
      else this.held -= nbytes;
      if (!data) size.ahead = 0; // no room: the next miss asks for one again
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.#refuse();
    };
    return helper;
  }

  /** Runs make their own from now on. */
  #refuse() {
    this.#refused = true;
    this.clear();
  }

  /** Where nothing was asked for all the time, the memory and the threads go. @param {number} ms */
  #idle(ms) {
    this.#end = undefined;
    const left = this.#asked + ms - performance.now();
    if (left > 0) this.#end = setTimeout(() => this.#idle(ms), left);
    else this.clear();
  }

  /** Lets go of everything. */
  clear() {
    clearTimeout(this.#end);
    this.#end = undefined;
    for (const { worker } of this.#helpers) worker.terminate();
    this.#helpers = [];
    this.#sizes.clear();
    this.held = 0;
  }
}

/** The machine's memory as browsers tell it, in powers of two up to some bound; some tell nothing. */
const deviceBytes = () => (/** @type {{deviceMemory?: number}} */ (globalThis.navigator ?? {}).deviceMemory ?? 4) * 2 ** 30;

/** The page's: sessions share it. */
export const spares = new Spares();
