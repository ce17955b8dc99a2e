// The bench of a lab on the GPU: work in slices between inferences, readings of its time, buffers filled and compared. What
// is tried on it (a kernel: lab.js, two ways of a part of a model: pair.js), and by which numbers it is judged, is decided
// elsewhere.

import { compare, own } from '../compare.js';
import { throwIfAborted } from '../errors.js';
import { median } from '../measure.js';
import { fillBuffer, repeatIn } from './fill.js';
import { readBytes } from './readback.js';
import { COPY_DST, COPY_SRC, STORAGE } from './shader.js';
import { narrow } from './stored.js';
import { StepClock } from './timing.js';

/** @typedef {import('./types.d.ts').GpuLabPolicy} GpuLabPolicy */
/** @typedef {import('./pace.js').GpuPace} GpuPace */
/**
 * What is timed. inner: how often it is repeated for a reading; ms: of one repetition, as far as known; 0: not at all.
 * @typedef {{encode: (pass: GPUComputePassEncoder) => void, inner: number, ms: number}} Timed
 * @typedef {{wanted: GPUBuffer, got: GPUBuffer, type: string, stored: string, kind: string, tolerance: {absolute: number, relative: number},
 *   used: number, name: string}} Compared
 * @typedef {{checked: number, worst: number, reason: string}} Seen
 */

/** What an output holds that was not written: no kernel is likely to write it. */
const MARK = 0xa5;
/** Bytes compared at a time. */
const PIECE = 4 << 20;

export class GpuLabBench {
  /** ms spent inside slices */
  busyMs = 0;
  /** @type {GpuLabPolicy} */
  policy = /** @type {any} */ (null);

  /** @param {GPUDevice} device @param {GpuPace} pace */
  constructor(device, pace) {
    this.device = device;
    this.pace = pace;
    this.clock = new StepClock(device);
  }

  /** @param {number} size */
  buffer(size) {
    return this.device.createBuffer({ label: 'lab', size, usage: STORAGE | COPY_SRC | COPY_DST });
  }

  /** Fills a buffer with elements over and over. @param {{type: string, stored: string, nbytes: number, pattern: Uint8Array}} how @param {GPUBuffer} buffer */
  fill({ type, stored, nbytes, pattern }, buffer) {
    fillBuffer(this.device, buffer, nbytes, { type, stored, pattern });
  }

  /** Whatever is not written later will be seen. @param {GPUBuffer} buffer @param {number} nbytes */
  blank(buffer, nbytes) {
    repeatIn(this.device, buffer, nbytes, new Uint8Array(16).fill(MARK));
  }

  /**
   * Work on the device when inferences leave room for it.
   * @template T @param {AbortSignal} signal @param {number} ms it is expected to take there; Infinity: nobody knows
   * @param {() => Promise<T>} work @param {(done: T) => number | undefined} [took] ms that it did take there
   * @returns {Promise<T>}
   */
  async slice(signal, ms, work, took) {
    await this.pace.gap(this.policy.pace, signal, ms);
    const start = performance.now();
    let held;
    try {
      const done = await work();
      held = took?.(done);
      return done;
    } finally {
      const end = performance.now();
      this.busyMs += end - start;
      this.pace.spent(start, end, held);
    }
  }

  /** What a sample says of the time that it was on the device, where it knows that. @param {number} took @returns {number | undefined} */
  held = (took) => (this.clock.precise ? took : undefined);

  /** Finds how often it is repeated so that a reading is long enough. @param {Timed} timed @param {AbortSignal} signal @returns {Promise<number>} ms of one repetition */
  async settle(timed, signal) {
    const { sampleMs, wallMs, most } = this.policy;
    const wanted = this.clock.precise ? sampleMs : wallMs;
    timed.inner = 1;
    timed.ms = await this.reading(timed, signal); // the one before this was its first
    while (timed.ms * timed.inner < wanted && timed.inner < most) {
      const factor = (wanted * 1.1) / Math.max(timed.ms * timed.inner, wanted / 32);
      timed.inner = Math.min(most, Math.max(2 * timed.inner, Math.ceil(timed.inner * factor)));
      timed.ms = await this.reading(timed, signal);
    }
    return timed.ms;
  }

  /**
   * A reading: at once where nobody would wait for it, else in slices that inferences can wait for, and what the slices took is
   * added up. What the clock gets wrong of each does not add up.
   * @param {Timed} timed @param {AbortSignal} signal @returns {Promise<number>} ms of one repetition
   */
  async reading({ encode, inner, ms }, signal) {
    let total = 0;
    for (let left = inner; left > 0;) {
      throwIfAborted(signal);
      // what is less than the clock's grain was read as nothing
      const each = ms ? Math.max(ms, this.policy.grainMs / inner) : Infinity;
      const most = this.clock.precise ? this.pace.sliceMs(this.policy.pace) : Infinity;
      const count = each < most ? Math.min(left, Math.floor(most / each)) : left; // where neither is known, too
      total += await this.slice(signal, count * each, () => this.clock.sample(encode, count), this.held);
      left -= count;
    }
    return total / inner;
  }

  /**
   * Rounds in turn; ended early where the other one is far behind.
   * @param {Timed} serving @param {Timed} other @param {number} rounds @param {{base: number[], mine: number[]}} times @param {AbortSignal} signal
   */
  async duel(serving, other, rounds, { base, mine }, signal) {
    for (let round = 0; round < rounds; round++) {
      base.push(await this.reading(serving, signal));
      mine.push(await this.reading(other, signal));
      if (round === 1 && Math.min(...mine) > this.policy.behind * Math.max(...base)) return;
    }
  }

  /** Whether a duel was lost by so much that the rest need not be looked at. @param {{base: number[], mine: number[]}} times */
  hopeless({ base, mine }) {
    return median(mine) > this.policy.hopeless * median(base);
  }

  /**
   * Holds outputs against each other: at most so many bytes of each, in three pieces.
   * @param {Compared[]} outputs @param {number} most @param {AbortSignal} signal @returns {Promise<Seen>}
   */
  async same(outputs, most, signal) {
    let [checked, worst] = [0, 0];
    for (const { wanted, got, type, stored, kind, tolerance, used, name } of outputs) {
      for (const [from, length] of pieces(used, most)) {
        throwIfAborted(signal);
        const [a, b] = [await readBytes(this.device, wanted, from, length), await readBytes(this.device, got, from, length)]
          .map((bytes) => own(narrow(type, stored, bytes)));
        const seen = compare(a, b, { kind, tolerance, whole: true, unwritten: MARK });
        checked += seen.checked;
        worst = Math.max(worst, seen.worst);
        if (seen.at >= 0) return { checked, worst, reason: `${seen.got} instead of ${seen.wanted} at byte ${from + seen.at} of ${name}` };
      }
    }
    return { checked, worst, reason: '' };
  }

  destroy() {
    this.clock.destroy();
  }
}

/** [offset, length] of what is compared, in whole words: all, or the beginning, the middle and the end. @param {number} used @param {number} most @returns {[number, number][]} */
function pieces(used, most) {
  const whole = Math.ceil(used / 4) * 4;
  if (whole > most) {
    const length = Math.floor(most / 3 / 16) * 16;
    const middle = Math.floor(whole / 2 / 16) * 16;
    return [[0, length], [middle, Math.min(length, whole - middle)], [Math.floor((whole - length) / 16) * 16, length]];
  }
  return Array.from({ length: Math.ceil(whole / PIECE) }, (_, i) => [i * PIECE, Math.min(PIECE, whole - i * PIECE)]);
}

