// When the tuner may use the engine: between inferences, in slices. Takes word of every inference that begins and
// ends, here or on the caller's thread; says how long the next slice may be, and counts what inferences waited for.

import { throwIfAborted } from './errors.js';
import { turn } from './turns.js';

/** A pause between inferences of this length counts as idle. */
const QUIET_MS = 12;
/** Under steady load a slice comes at most so often ... */
const PATIENCE_MS = 40;
/** ... and takes at most this share of an inference. */
const SHARE = 0.08;
const LEAST_MS = 0.3;
const MOST_MS = 4;
/** A slice that an inference waits for may be longer where inferences are: else long ones leave no time at all. */
const FORCED_MS = 20;
/** By mode now: so long, or this share of an inference. */
const NOW_MS = 8;
const NOW_SHARE = 0.15;
const NOW_MOST_MS = 60;

export class Pace {
  /** 'now': use all pauses; 'idle': wait for quiet, and take little under load. @type {'now' | 'idle'} */
  mode = 'idle';
  /** ms that inferences waited for slices, and how many did */
  delayedMs = 0;
  delayed = 0;
  /** At most so many ms of delay in all; then only quiet times are used. */
  allowanceMs = 500;
  #running = 0;
  #lastEnd = -Infinity;
  #lastForced = -Infinity;
  #runMs = 0;
  #sliceStart = 0;
  #sliceEnd = -Infinity;
  /** @type {(() => void)[]} */
  #waiting = [];
  /** The caller's runs that have been counted in. */
  #calls = 0;

  /** @param {import('./control.js').Control} control where the caller's thread tells of its runs */
  constructor(control) {
    this.control = control;
  }

  /** @param {number} sentAt when the caller sent it, as performance.timeOrigin + performance.now() */
  began(sentAt) {
    this.#running++;
    const sent = sentAt - performance.timeOrigin;
    if (sentAt && sent > this.#sliceStart && sent < this.#sliceEnd) {
      this.delayedMs += this.#sliceEnd - sent;
      this.delayed++;
    }
    return performance.now();
  }

  /** @param {number} start what began() returned */
  ended(start) {
    this.#running--;
    this.#count(performance.now(), performance.now() - start);
    if (this.#running === 0) for (const wake of this.#waiting.splice(0)) wake();
  }

  /** @param {number} end @param {number} ms of a run */
  #count(end, ms) {
    this.#lastEnd = Math.max(this.#lastEnd, end);
    this.#runMs = this.#runMs ? 0.8 * this.#runMs + 0.2 * ms : ms;
  }

  /** Takes note of runs on the caller's thread. @returns {boolean} one is under way */
  #calling() {
    const { calls, called, calling } = this.control;
    if (calls !== this.#calls) this.#count(called[0] - performance.timeOrigin, called[1]);
    this.#calls = calls;
    return calling;
  }

  /** @param {number} start @param {number} took */
  spent(start, took) {
    this.#sliceStart = start;
    this.#sliceEnd = start + took;
  }

  /**
   * Waits until a slice may begin.
   * @param {AbortSignal} signal
   * @returns {Promise<number>} ms that it may take
   */
  async gap(signal) {
    const asked = performance.now();
    for (;;) {
      await turn(); // an inference that was sent meanwhile goes first
      throwIfAborted(signal);
      if (this.#running > 0) {
        await new Promise((resolve) => { this.#waiting.push(() => resolve(undefined)); });
        continue;
      }
      if (this.#calling() && performance.now() - asked < PATIENCE_MS) {
        await pause(1); // no busy waiting: the run may have use for this core. Where runs never end, slices go beside them
        continue;
      }
      if (this.mode === 'now') return Math.max(NOW_MS, Math.min(NOW_MOST_MS, NOW_SHARE * this.#runMs));
      const now = performance.now();
      const quiet = now - this.#lastEnd;
      if (quiet >= QUIET_MS) return quiet > 10 * QUIET_MS ? MOST_MS : Math.min(MOST_MS, Math.max(1, 0.5 * this.#runMs));
      const due = now - Math.max(asked, this.#lastForced) > PATIENCE_MS;
      if (due && this.delayedMs < this.allowanceMs) {
        this.#lastForced = now;
        return Math.max(LEAST_MS, Math.min(FORCED_MS, SHARE * this.#runMs));
      }
      await pause(Math.min(QUIET_MS - quiet + 0.5, QUIET_MS));
    }
  }

  /** Lets time pass without using the engine. @param {number} ms @param {AbortSignal} signal */
  async rest(ms, signal) {
    await pause(ms);
    throwIfAborted(signal);
  }
}

/** @param {number} ms @returns {Promise<void>} */
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
