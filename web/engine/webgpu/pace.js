// When the lab may use the GPU: between inferences of this page, a slice at a time. Takes word of every inference that
// begins and ends, and of what a slice took; says how long slices may be beside those, lets each wait for its turn, and
// counts what inferences waited. Its numbers come from Python (tune/policy.py, GPU_PACE).

import { NnjitError, throwIfAborted } from '../errors.js';
import { median } from '../measure.js';
import { turn } from '../turns.js';

/** @typedef {import('./types.d.ts').GpuPacePolicy} GpuPacePolicy */

/** Inferences that are remembered, before a policy says how many of them count. */
const REMEMBERED = 64;

export class GpuPace {
  /** 'now': use every gap; 'idle': wait for quiet, and take little under load. @type {'now' | 'idle'} */
  mode = 'idle';
  /** ms that inferences waited for slices, and how many did */
  delayedMs = 0;
  delayed = 0;
  #running = 0;
  #began = 0;
  /** Inferences since none was under way. */
  #together = 0;
  #lastEnd = -Infinity;
  #lastForced = -Infinity;
  /** ms of the last inferences @type {number[]} */
  #runs = [];
  /** What inferences have taken, and how many they were, since a slice came without a pause. */
  #sinceMs = 0;
  #since = 0;
  /** When inferences began that came while a slice was on the device. @type {number[]} */
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
    const now = performance.now();
    if (this.#running++ === 0) {
      this.#began = now;
      this.#together = 0;
    }
    this.#together++;
    if (this.#busy) this.#came.push(now);
  }

  /** It has ended, well or not. */
  ended() {
    this.#running--;
    this.#lastEnd = performance.now();
    if (this.#running > 0) return;
    const took = this.#lastEnd - this.#began;
    this.#sinceMs += took;
    this.#since += this.#together;
    this.#runs.push(took / this.#together);
    if (this.#runs.length > REMEMBERED) this.#runs.shift();
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /**
   * How long a slice may be: a part of what inferences take, where some came lately, and where the clock shows so little; else
   * any length, and slices beside inferences are rare.
   * @param {GpuPacePolicy} policy @returns {number} ms
   */
  sliceMs({ recentMs, unitMs, part, nowPart, medianOf }) {
    if (!this.#runs.length || performance.now() - this.#lastEnd > recentMs) return Infinity;
    const most = (this.mode === 'now' ? nowPart : part) * median(this.#runs.slice(-medianOf));
    return most >= unitMs ? most : Infinity;
  }

  /**
   * Whether inferences that leave no pause have saved up for a slice: for one that each may wait for, in what they take; else
   * in their number.
   * @param {GpuPacePolicy} policy @param {number} ms @param {number} waited ms since the last one that came without a pause
   */
  #due(policy, ms, waited) {
    if (this.mode === 'idle' && this.leftMs <= 0) return false;
    const share = this.mode === 'now' ? policy.nowShare : policy.share;
    const most = this.sliceMs(policy);
    if (most < Infinity && ms <= most) return share * this.#sinceMs >= ms;
    return this.#since >= policy.rareRuns || waited > policy.patienceMs;
  }

  /**
   * Waits until a slice may begin; `spent` must follow. Rejects with TUNING_SPENT where none may.
   * @param {GpuPacePolicy} policy @param {AbortSignal} signal @param {number} [ms] what the slice is expected to take
   */
  async gap(policy, signal, ms = Infinity) {
    const { quietMs, allowanceMs, giveUpMs } = policy;
    const asked = performance.now();
    this.#allowanceMs = allowanceMs;
    let turned = false;
    for (;;) {
      if (!turned) await turn(); // an inference that is asked for meanwhile goes first, and the page has its turn
      turned = false;
      throwIfAborted(signal);
      const now = performance.now();
      const waited = now - Math.max(asked, this.#lastForced);
      const due = this.#due(policy, ms, waited);
      const quiet = now - this.#lastEnd;
      if (this.#running === 0 && (this.mode === 'now' || quiet >= quietMs || due)) {
        if (quiet < quietMs) {
          this.#lastForced = now;
          this.#sinceMs = this.#since = 0;
        }
        this.#busy = true;
        return;
      }
      if (waited > giveUpMs && this.mode === 'idle' && this.leftMs <= 0) {
        throw new NnjitError('TUNING_SPENT', 'inferences have waited as long as they may, and leave no pause', { ms: this.delayedMs });
      }
      if (this.#running > 0) {
        await this.#end(signal);
        // those that follow each other at once leave no turn: what is due comes before the next of them
        turned = this.#due(policy, ms, performance.now() - Math.max(asked, this.#lastForced));
      } else {
        await pause(Math.min(quietMs - quiet + 0.5, quietMs));
      }
    }
  }

  /** Until no inference is under way; where they never leave a gap, until nobody waits for one. @param {AbortSignal} signal @returns {Promise<void>} */
  #end(signal) {
    return new Promise((resolve) => {
      const wake = () => {
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#waiting.push(wake);
      signal.addEventListener('abort', wake);
    });
  }

  /**
   * A slice was on the device.
   * @param {number} start @param {number} end as performance.now() @param {number} [held] ms that it took there, if known: browsers
   *   tell of its end later, and nobody waits for that
   */
  spent(start, end, held = Infinity) {
    this.#busy = false;
    const over = Math.min(end, start + held);
    for (const came of this.#came.splice(0)) {
      const waited = over - Math.max(came, start);
      if (waited <= 0) continue;
      this.delayedMs += waited;
      this.delayed++;
    }
  }
}

/** @param {number} ms @returns {Promise<void>} */
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
