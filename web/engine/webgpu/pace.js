// When the lab may use the GPU: between inferences of this page, a reading at a time. Takes word of every inference that
// begins and ends; counts what inferences waited for readings, and waits for pauses once that has become too much. Its
// numbers come from Python (tune/policy.py, GPU_PACE).

import { NnjitError, throwIfAborted } from '../errors.js';
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

  /** Waits until a reading may begin; `spent` must follow. Rejects with TUNING_SPENT where none may. @param {GpuPacePolicy} policy @param {AbortSignal} signal */
  async gap({ quietMs, patienceMs, allowanceMs, giveUpMs }, signal) {
    const asked = performance.now();
    this.#allowanceMs = allowanceMs;
    let turned = false;
    for (;;) {
      if (!turned) await turn(); // an inference that is asked for meanwhile goes first, and the page has its turn
      turned = false;
      throwIfAborted(signal);
      const now = performance.now();
      const waited = now - Math.max(asked, this.#lastForced);
      const due = waited > patienceMs && (this.mode === 'now' || this.leftMs > 0);
      const quiet = now - this.#lastEnd;
      if (this.#running === 0 && (this.mode === 'now' || quiet >= quietMs || due)) {
        if (quiet < quietMs) this.#lastForced = now;
        this.#busy = true;
        return;
      }
      if (waited > giveUpMs && !due) {
        throw new NnjitError('TUNING_SPENT', 'inferences have waited as long as they may, and leave no pause', { ms: this.delayedMs });
      }
      if (this.#running > 0) {
        await new Promise((resolve) => { this.#waiting.push(() => resolve(undefined)); });
        // those that follow each other at once leave no turn: what is due comes before the next of them
        turned = performance.now() - Math.max(asked, this.#lastForced) > patienceMs;
      } else {
        await pause(Math.min(quietMs - quiet + 0.5, quietMs));
      }
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
