// When the tuner rests: while the page is hidden or the battery low, and, beside a stream of inferences, between two
// pieces of Python's work, which runs on the cores that they use. The numbers are Python's (tune/policy.py, STREAM).

import { UnderWay } from './under-way.js';

/** @typedef {{streamMs: number, shortMs: number, spacing: number, spacingMs: number, restMs: number, longRestMs: number, surveyMs: number, streamSurveyMs: number, watchMs: number, mayMs: number, part: number, lowBattery: number}} StreamPolicy */

export class Calm {
  #runs = new UnderWay();
  /** What the last run took. */
  #lastMs = 0;
  /** When Python had last worked, and for how long. */
  #lastWork = { at: -Infinity, ms: 0 };

  /** A run was asked for. @template T @param {() => Promise<T>} run @returns {Promise<T>} */
  during(run) {
    return this.#runs.during(run);
  }

  /** A run has ended. @param {number} ms it took */
  ran(ms) {
    this.#lastMs = ms;
  }

  /** How long ago the last run ended; 0 while one is under way. */
  get idleMs() {
    return this.#runs.idleMs;
  }

  /** Runs follow each other. @param {StreamPolicy} policy */
  stream({ streamMs }) {
    return this.idleMs < streamMs;
  }

  /**
   * Before Python writes a candidate: that costs a run or two their core where there are no more. Under a stream of short runs
   * it must stay rare, so that it does not show in their 99th percentile.
   * @param {StreamPolicy} policy @param {boolean} crowded the engine's threads have all cores @param {AbortSignal} signal
   */
  async before(policy, crowded, signal) {
    const { at, ms } = this.#lastWork;
    const spacing = Math.min(policy.spacingMs, policy.spacing * ms);
    const short = () => crowded && this.stream(policy) && this.#lastMs < policy.shortMs;
    while (!signal.aborted && short() && performance.now() - at < spacing) await pause(25);
  }

  /** Python has worked. @param {number} ms */
  worked(ms) {
    this.#lastWork = { at: performance.now(), ms };
  }

  /** Python was at work a moment ago and has more to do: a stream of runs gets its cores back in between. @param {StreamPolicy} policy */
  async between(policy) {
    if (this.stream(policy)) await pause(this.#lastMs < policy.shortMs ? policy.restMs : policy.longRestMs);
  }
}

/** Why now is no time to tune, or ''. @param {{lowBattery: number}} policy @returns {Promise<string>} */
export async function restReason({ lowBattery }) {
  if (globalThis.document?.visibilityState === 'hidden') return 'the page is hidden';
  const battery = await /** @type {any} */ (navigator).getBattery?.().catch(() => null);
  return battery && !battery.charging && battery.level < lowBattery ? 'the battery is low' : '';
}

/** @param {number} ms @returns {Promise<void>} */
export const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
