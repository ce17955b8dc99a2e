// When the lab may use the GPU: between inferences of this page, a reading at a time. Takes word of every inference that
// begins and ends; counts what inferences waited for readings, and waits for pauses once that has become too much. Its
// numbers come from Python (tune/policy.py, GPU_PACE).

import { throwIfAborted } from '../errors.js';
import { turn } from '../turns.js';

/** @typedef {import('./types.d.ts').GpuPacePolicy} GpuPacePolicy */

export class GpuPace {
  /** 'now': use every gap; 'idle': wait for quiet, and take little under load. @type {'now' | 'idle'} */
  mode = 'idle';
  /** ms that inferences waited for readings, and how many did */
  delayedMs = 0;
  delayed = 0;
  #running = 0;
  #lastEnd = -Infinity;
  #lastForced = -Infinity;
  /** When inferences began that came while a reading was on the device. @type {number[]} */
  #came = [];
  #busy = false;
  #allowanceMs = Infinity;
  /** @type {(() => void)[]} */
  #waiting = [];

  /** What inferences may still be kept waiting. */
  get leftMs() {
    return Math.max(0, this.#allowanceMs - this.delayedMs);
  }

  /** An inference begins. */
  began() {
    this.#running++;
    if (this.#busy) this.#came.push(performance.now());
  }

  /** It has ended, well or not. */
  ended() {
    this.#running--;
    this.#lastEnd = performance.now();
    if (this.#running === 0) for (const wake of this.#waiting.splice(0)) wake();
  }

  /** Waits until a reading may begin; `spent` must follow. @param {GpuPacePolicy} policy @param {AbortSignal} signal */
  async gap({ quietMs, patienceMs, allowanceMs }, signal) {
    const asked = performance.now();
    this.#allowanceMs = allowanceMs;
    for (;;) {
      await turn(); // an inference that is asked for meanwhile goes first, and the page has its turn
      throwIfAborted(signal);
      if (this.#running > 0) {
        await new Promise((resolve) => { this.#waiting.push(() => resolve(undefined)); });
        continue;
      }
      const now = performance.now();
      const quiet = now - this.#lastEnd;
      const due = now - Math.max(asked, this.#lastForced) > patienceMs && this.leftMs > 0;
      if (this.mode === 'now' || quiet >= quietMs || due) {
        if (quiet < quietMs) this.#lastForced = now;
        this.#busy = true;
        return;
      }
      await pause(Math.min(quietMs - quiet + 0.5, quietMs));
    }
  }

  /** A reading was on the device. @param {number} start @param {number} end as performance.now() */
  spent(start, end) {
    this.#busy = false;
    for (const came of this.#came.splice(0)) {
      this.delayedMs += end - Math.max(came, start);
      this.delayed++;
    }
  }
}

/** @param {number} ms @returns {Promise<void>} */
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
