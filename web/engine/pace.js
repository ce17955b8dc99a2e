// When the tuner may use the engine: between inferences, in windows. Takes word of every inference that begins and ends,
// here or on the caller's thread, and of all work; tells each lab's allowance what inferences waited for it. In a window
// a lab's slices follow each other, and an inference that comes meanwhile waits for its end.

import { Allowance } from './allowance.js';
import { throwIfAborted } from './errors.js';
import { turn } from './turns.js';

/** @typedef {import('./types.d.ts').PacePolicy} PacePolicy */
/** @typedef {{start: number, end: number, allowance: Allowance}} Slice */
/**
 * @typedef {object} Window
 * @property {Slice} slice what inferences may have waited for
 * @property {number} until when the time that was granted is over
 * @property {number} held until when inferences wait: less while the lab has nothing to do and more may come
 */

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
  /** @type {Window | null} */
  #window = null;
  /** Inferences that wait for its end. @type {(() => void)[]} */
  #held = [];
  /** The caller's runs that have been counted in, and what they waited for. */
  #calls = 0;
  #callsDelayed = 0;

  /** @param {import('./control.js').Control} control where the caller's thread tells of its runs */
  constructor(control) {
    this.control = control;
  }

  /** @param {number} [earlierMs] what inferences waited for labs before it @returns {Allowance} for a lab */
  allowance(earlierMs) {
    return new Allowance(this.mode, earlierMs);
  }

  /** An inference was sent: no slice begins before it has ended. */
  came() {
    this.#running++;
  }

  /** Waits while a window is open: an inference that began between two slices would leave the lab one of them a run. */
  async held() {
    for (let now = performance.now(); this.#window && now < this.#window.held; now = performance.now()) {
      await Promise.race([pause(this.#window.held - now), new Promise((resolve) => { this.#held.push(() => resolve(undefined)); })]);
    }
  }

  /** It begins. @param {number} sentAt when the caller sent it, as performance.timeOrigin + performance.now(); 0: not known */
  begins(sentAt) {
    this.#close();
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

  /** @param {Allowance} allowance @param {number} ms */
  #open(allowance, ms) {
    const start = performance.now();
    const slice = { start, end: start, allowance };
    this.#window = { slice, until: start + ms, held: start + ms };
    this.#note(slice);
  }

  #close() {
    if (!this.#window) return;
    this.#window.slice.end = performance.now();
    this.#window = null;
    for (const go of [...this.#held.splice(0), ...this.#waiting.splice(0)]) go();
  }

  /** What is left of a lab's window, which it goes on with; 0: it has none. @param {Allowance} allowance @returns {number} ms */
  left(allowance) {
    const window = this.#window;
    if (window?.slice.allowance !== allowance) return 0;
    window.held = window.until;
    return window.until - performance.now();
  }

  /** A lab has nothing to do for now. @param {Allowance} allowance */
  close(allowance) {
    if (this.#window?.slice.allowance === allowance) this.#close();
  }

  /**
   * A lab's work is done, and more may come from Python. Where inferences are long and tuning was asked for at once, they
   * wait for it a moment.
   * @param {Allowance} allowance @param {PacePolicy} policy
   */
  lingers(allowance, policy) {
    if (this.#window?.slice.allowance !== allowance) return;
    if (allowance.mode === 'now' && this.#holds(allowance, policy)) this.#window.held = Math.min(this.#window.until, performance.now() + policy.lingerMs);
    else this.#close();
  }

  /** Whether inferences also wait while a lab rests. @param {Allowance} allowance @param {PacePolicy} policy */
  #holds({ mode }, { longMs, idleLongMs }) {
    return this.#runMs >= (mode === 'now' ? longMs : idleLongMs);
  }

  /** Work for a lab was done. @param {number} start @param {number} took @param {Allowance} allowance */
  spent(start, took, allowance) {
    const end = start + took;
    allowance.took(took);
    if (this.#window?.slice.allowance === allowance) return; // which counts as a whole
    const last = this.#slices.at(-1);
    if (last && last.allowance === allowance && start - last.end < SEAM_MS) last.end = end;
    else this.#note({ start, end, allowance });
  }

  /** @param {Slice} slice */
  #note(slice) {
    this.#slices.push(slice);
    if (this.#slices.length > MOST_SLICES) this.#slices.shift();
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
   * Waits until a window may be opened, and opens it.
   * @param {Allowance} allowance @param {PacePolicy} policy @param {AbortSignal} signal
   * @returns {Promise<number>} ms that it lasts
   */
  async gap(allowance, policy, signal) {
    const asked = performance.now();
    this.close(allowance);
    for (;;) {
      await turn(); // an inference that was sent meanwhile goes first
      throwIfAborted(signal);
      if (this.#running > 0) {
        await new Promise((resolve) => { this.#waiting.push(() => resolve(undefined)); });
        continue;
      }
      if (this.#window) {
        await this.#next(Math.max(0, this.#window.until - performance.now()));
        if (this.#window && performance.now() >= this.#window.until) this.#close();
        continue;
      }
      if (this.#calling(allowance) && performance.now() - asked < policy.patienceMs) {
        await pause(1); // no busy waiting: the run may have use for this core. Where runs never end, slices go beside them
        continue;
      }
      const quietMs = performance.now() - this.#lastEnd;
      const ms = this.take(allowance, policy);
      if (ms) return ms;
      if (this.control.calls === this.#calls && quietMs < policy.quietMs) await this.#next(policy.quietMs - quietMs + 0.5);
      else await pause(1);
    }
  }

  /**
   * A window at once, for who knows that no inference is under way.
   * @param {Allowance} allowance @param {PacePolicy} policy
   * @returns {number} ms that it lasts; 0: it is not due
   */
  take(allowance, policy) {
    if (this.#window) return 0;
    const quietMs = performance.now() - this.#lastEnd;
    const ms = allowance.owed || allowance.grant(policy, { quietMs, runMs: this.#runMs, totalMs: this.#totalMs, runs: this.#runs });
    allowance.owed = 0;
    if (ms) this.#open(allowance, ms);
    return ms;
  }

  /** Until the next inference has ended, or for so long. @param {number} ms */
  async #next(ms) {
    await Promise.race([pause(ms), new Promise((resolve) => { this.#waiting.push(() => resolve(undefined)); })]);
  }

  /**
   * Lets time pass without using the engine. The window stays open only where that costs inferences less than the lab.
   * @param {number} ms @param {Allowance} allowance @param {PacePolicy} policy @param {AbortSignal} signal
   */
  async rest(ms, allowance, policy, signal) {
    if (!this.#holds(allowance, policy) || this.left(allowance) < ms) this.close(allowance);
    await pause(ms);
    throwIfAborted(signal);
  }
}

/** @param {number} ms @returns {Promise<void>} */
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
