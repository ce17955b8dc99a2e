// When the tuner may use the engine: between inferences, in slices. Takes word of every inference that begins and
// ends, here or on the caller's thread, and of every slice; tells each lab's allowance what inferences waited for it.

import { Allowance } from './allowance.js';
import { throwIfAborted } from './errors.js';
import { turn } from './turns.js';

/** @typedef {import('./types.d.ts').PacePolicy} PacePolicy */
/** @typedef {{start: number, end: number, allowance: Allowance}} Slice */

/** Slices with less than this between them were one to whoever waited. */
const SEAM_MS = 0.05;
const MOST_SLICES = 500;

export class Pace {
  /** Of labs that are opened from now on. @type {'now' | 'idle'} */
  mode = 'idle';
  #running = 0;
  #lastEnd = -Infinity;
  #runMs = 0;
  #totalMs = 0;
  #runs = 0;
  /** Those that an inference may have waited for, oldest first. @type {Slice[]} */
  #slices = [];
  /** @type {(() => void)[]} */
  #waiting = [];
  /** The caller's runs that have been counted in, and what they waited for. */
  #calls = 0;
  #callsDelayed = 0;

  /** @param {import('./control.js').Control} control where the caller's thread tells of its runs */
  constructor(control) {
    this.control = control;
  }

  /** @returns {Allowance} for a lab */
  allowance() {
    return new Allowance(this.mode);
  }

  /** An inference was sent: no slice begins before it has ended. */
  came() {
    this.#running++;
  }

  /** It begins. @param {number} sentAt when the caller sent it, as performance.timeOrigin + performance.now(); 0: not known */
  begins(sentAt) {
    const now = performance.now();
    const sent = sentAt - performance.timeOrigin;
    if (!sentAt) return now;
    /** @type {Map<Allowance, number>} */
    const waited = new Map();
    for (const { start, end, allowance } of this.#slices) {
      const ms = Math.min(end, now) - Math.max(start, sent);
      if (ms > 0) waited.set(allowance, (waited.get(allowance) ?? 0) + ms);
    }
    for (const [allowance, ms] of waited) allowance.waited(ms);
    return now;
  }

  /** @param {number} start what begins() returned; NaN: it never began */
  ended(start) {
    this.#running--;
    if (start >= 0) this.#count(performance.now(), performance.now() - start, 1);
    if (this.#running > 0) return;
    this.#slices.length = 0;
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** @param {number} end @param {number} ms of a run @param {number} runs */
  #count(end, ms, runs) {
    this.#lastEnd = Math.max(this.#lastEnd, end);
    this.#runMs = this.#runMs ? 0.8 * this.#runMs + 0.2 * ms : ms;
    this.#totalMs += ms * runs;
    this.#runs += runs;
  }

  /** Takes note of runs on the caller's thread. @param {Allowance} allowance whose slices they met @returns {boolean} one is under way */
  #calling(allowance) {
    const { calls, called, calling } = this.control;
    if (calls !== this.#calls) this.#count(called[0] - performance.timeOrigin, called[1], calls - this.#calls);
    this.#calls = calls;
    const waited = called[2] - this.#callsDelayed;
    if (waited > 0) allowance.waited(waited);
    this.#callsDelayed = called[2];
    return calling;
  }

  /** Work for a lab was done. @param {number} start @param {number} took @param {Allowance} allowance */
  spent(start, took, allowance) {
    const end = start + took;
    const last = this.#slices.at(-1);
    if (last && last.allowance === allowance && start - last.end < SEAM_MS) last.end = end;
    else this.#slices.push({ start, end, allowance });
    if (this.#slices.length > MOST_SLICES) this.#slices.shift();
    allowance.took(took);
  }

  /**
   * `work` counts as the lab's.
   * @template T
   * @param {Allowance} allowance @param {() => Promise<T> | T} work @returns {Promise<T>}
   */
  async during(allowance, work) {
    const start = performance.now();
    this.control.slice(true);
    try {
      return await work();
    } finally {
      this.control.slice(false);
      this.spent(start, performance.now() - start, allowance);
    }
  }

  /**
   * Waits until a slice may begin.
   * @param {Allowance} allowance @param {PacePolicy} policy @param {AbortSignal} signal
   * @returns {Promise<number>} ms that it may take
   */
  async gap(allowance, policy, signal) {
    const asked = performance.now();
    for (;;) {
      await turn(); // an inference that was sent meanwhile goes first
      throwIfAborted(signal);
      if (this.#running > 0) {
        await new Promise((resolve) => { this.#waiting.push(() => resolve(undefined)); });
        continue;
      }
      if (this.#calling(allowance) && performance.now() - asked < policy.patienceMs) {
        await pause(1); // no busy waiting: the run may have use for this core. Where runs never end, slices go beside them
        continue;
      }
      const quietMs = performance.now() - this.#lastEnd;
      const ms = allowance.grant(policy, { quietMs, runMs: this.#runMs, totalMs: this.#totalMs, runs: this.#runs });
      if (ms) return ms;
      if (this.control.calls === this.#calls && quietMs < policy.quietMs) await this.#next(policy.quietMs - quietMs + 0.5);
      else await pause(1);
    }
  }

  /** Until the next inference has ended, or for so long. @param {number} ms */
  async #next(ms) {
    await Promise.race([pause(ms), new Promise((resolve) => { this.#waiting.push(() => resolve(undefined)); })]);
  }

  /** Lets time pass without using the engine. @param {number} ms @param {AbortSignal} signal */
  async rest(ms, signal) {
    await pause(ms);
    throwIfAborted(signal);
  }
}

/** @param {number} ms @returns {Promise<void>} */
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
