// The lab's bench: a memory of its own, work on it in slices between inferences, calls of kernels, samples of their
// time. What is tried on it, and by which numbers it is judged, is decided elsewhere.

import { CALL, LAB } from './control.js';
import { asError } from './errors.js';
import { compare } from './compare.js';
import { median } from './measure.js';

/** @typedef {import('./session.js').Session} Session */
/** @typedef {import('./pace.js').Pace} Pace */
/** @typedef {import('./types.d.ts').LabKernel} LabKernel */
/** @typedef {import('./types.d.ts').LabOutput} LabOutput */
/** @typedef {import('./types.d.ts').LabPolicy} LabPolicy */
/**
 * What every thread has and can be called: a kernel of the lab by its number, or one of a plan by its slot.
 * @typedef {{no: number, slot?: number, args: number, tiles: number, parallel: boolean, grain?: number, stride?: number}} Callable
 * @typedef {LabKernel & {no: number, compiled: WebAssembly.Module}} Ready a kernel that every thread has
 * @typedef {(where: number, guess: number) => Promise<number>} Sampler where in its work (0 .. 1), ms of a whole call as far as
 *   known (0: not) -> ms that a whole call would take
 */

/** The kernels that pack for another have the numbers after this. */
const PACKING = 1;
/** Bytes that no kernel writes by chance. */
export const UNWRITTEN = 0xa5;

export class LabBench {
  /** ms spent inside slices */
  busyMs = 0;
  /** @type {LabPolicy} */
  policy = /** @type {any} */ (null);

  /**
   * @param {Session} session one that has no plans of its own
   * @param {Pace} pace
   * @param {number} grainMs
   * @param {number} [earlierMs] what inferences waited for labs before this one
   */
  constructor(session, pace, grainMs, earlierMs) {
    this.session = session;
    this.pace = pace;
    this.allowance = pace.allowance(earlierMs);
    this.grainMs = grainMs;
  }

  /** What a sample lasts at least. */
  get sampleMs() {
    return Math.max(this.policy.sampleMs, this.policy.grains * this.grainMs);
  }

  /**
   * `work` while no inference is waiting, or within the time that was given a moment ago; it counts as the tuner's.
   * @template T
   * @param {AbortSignal} signal
   * @param {(ms: number) => Promise<T> | T} work gets how long it should last at most
   */
  async slice(signal, work) {
    let left = this.pace.left(this.allowance);
    if (left <= 0) left = await this.pace.gap(this.allowance, this.policy.pace, signal);
    const start = performance.now();
    try {
      return await this.pace.during(this.allowance, () => work(left));
    } finally {
      this.busyMs += performance.now() - start;
    }
  }

  /** What was asked is done. @param {boolean} more something else may be asked in a moment */
  done(more) {
    if (more) this.pace.lingers(this.allowance, this.policy.pace);
    else this.pace.close(this.allowance);
  }

  /** @param {number} ms @param {AbortSignal} signal */
  rest(ms, signal) {
    return this.pace.rest(ms, this.allowance, this.policy.pace, signal);
  }

  /**
   * Tiles first .. first+count-1 on all threads, `repeat` times.
   * @param {Callable} kernel
   * @param {number} first
   * @param {number} count
   * @param {number} [repeat]
   * @returns {Promise<number>} ms of the slowest thread
   */
  async call({ no, slot = LAB - no, args, parallel, stride }, first, count, repeat = 1) {
    const { session } = this;
    const { threads } = session;
    const times = await session.pool.dispatch({
      kind: CALL, session: session.no, plan: -1, threads: parallel ? threads : 1, slot, args, first, tiles: count, repeat,
      serial: !parallel, ...(stride ? { stride } : {}),
    });
    return Math.max(...times);
  }

  /** Units that give every thread at least one tile of the kernel's own. @param {Callable} kernel */
  each({ parallel, grain = 1 }) {
    return (parallel ? this.session.threads : 1) * grain;
  }

  /** @param {Ready} kernel @param {number} first @param {number} count in each @param {AbortSignal} signal */
  part(kernel, first, count, signal) {
    const tiles = Math.min(kernel.tiles - first, count * this.each(kernel));
    return this.slice(signal, () => this.call(kernel, first, tiles));
  }

  /**
   * Tiles from `first` up to `last` in calls that fit the slices, until `limitMs` are used up.
   * @param {Callable} kernel
   * @param {number} first
   * @param {number} last
   * @param {number} limitMs
   * @param {AbortSignal} signal
   */
  async sweep(kernel, first, last, limitMs, signal) {
    let used = 0;
    let count = Math.min(this.each(kernel), last - first);
    for (let at = first; at < last && used < limitMs;) {
      const now = Math.min(count, last - at);
      await this.slice(signal, async (ms) => {
        const took = await this.call(kernel, at, now);
        used += took;
        const room = Math.max(0.5, ms / Math.max(took, 1e-3));
        count = Math.max(this.each(kernel), Math.floor(now * Math.min(room, 8)));
      });
      at += now;
    }
  }

  /**
   * A first look: the beginning, the end (tails) and the middle of the candidate's work.
   * @param {Ready} kernel
   * @param {LabOutput[]} outputs
   * @param {AbortSignal} signal
   */
  async look(kernel, outputs, signal) {
    const limitMs = this.policy.lookMs;
    const { tiles } = kernel;
    const third = Math.max(1, Math.ceil(tiles / 3));
    await this.sweep(kernel, Math.max(0, tiles - Math.min(third, 2 * this.each(kernel))), tiles, limitMs / 2, signal);
    await this.sweep(kernel, 0, third, limitMs / 2, signal);
    await this.sweep(kernel, third, Math.min(tiles, 2 * third), limitMs / 3, signal);
    return this.compareOutputs(outputs, false, signal);
  }

  /**
   * The candidate's outputs beside the serving kernel's.
   * @param {LabOutput[]} outputs @param {boolean} whole every element must have been written @param {AbortSignal} signal
   */
  async compareOutputs(outputs, whole, signal) {
    const total = { ok: true, checked: 0, worst: 0, reason: '' };
    const { memory } = this.session;
    for (const { address, other, nbytes, kind, tolerance } of outputs) {
      const size = 1 << 18;
      for (let at = 0; at < nbytes && total.ok; at += size) {
        const length = Math.min(size, nbytes - at);
        const found = await this.slice(signal, () => compare(
          memory.read(address + at, length), memory.read(other + at, length), { kind, tolerance, whole, unwritten: UNWRITTEN }));
        total.checked += found.checked;
        total.worst = Math.max(total.worst, found.worst);
        if (found.at >= 0) {
          total.ok = false;
          total.reason = `${found.got} instead of ${found.wanted} at byte ${at + found.at}`;
        }
      }
    }
    return total;
  }

  /** Calls, then a wait: the fast code is made beside. @param {Ready} kernel @param {AbortSignal} signal */
  async tierUp(kernel, signal) {
    const few = Math.min(kernel.tiles, this.each(kernel));
    await this.warm(() => this.slice(signal, async (ms) => {
      const until = performance.now() + Math.min(ms, 1);
      do await this.call(kernel, 0, few); while (performance.now() < until);
    }), signal);
  }

  /** Up to three times some work in slices, spread over the time that fast code takes to come. @param {() => Promise<unknown>} some @param {AbortSignal} signal */
  async warm(some, signal) {
    const { tierMs } = this.policy;
    const start = performance.now();
    for (let i = 1; i <= 3; i++) {
      await some();
      const left = start + (tierMs * i) / 3 - performance.now();
      if (left > 0) await this.rest(left, signal);
      else if (i === 2 && left < -tierMs) break; // long inferences came in between
    }
  }

  /** @param {Ready} kernel @param {AbortSignal} signal @returns {Promise<number>} ms of a whole call, about */
  async wholeMs(kernel, signal) {
    const samples = [];
    for (let i = 0, last = 0; i < 3; i++) samples.push(last = await this.sample(kernel, i / 2, last, signal));
    return median(samples);
  }

  /**
   * One sample of a kernel: a part of a long one, many calls of a short one.
   * @param {Ready} kernel
   * @param {number} where 0 .. 1: where in its work the part lies
   * @param {number} guess ms of a whole call; 0: not known
   * @param {AbortSignal} signal
   * @returns {Promise<number>} ms that a whole call would take
   */
  async sample(kernel, where, guess, signal) {
    const { tiles } = kernel;
    let whole = guess;
    if (!whole) {
      const few = Math.min(tiles, 4 * this.each(kernel));
      const first = Math.floor((tiles - few) * where);
      whole = await this.slice(signal, async () => {
        let repeat = 1;
        let ms = await this.call(kernel, first, few);
        while (ms < this.sampleMs / 20 && repeat < 1 << 16) {
          repeat *= 4;
          ms = await this.call(kernel, first, few, repeat);
        }
        return (ms / repeat) * (tiles / few);
      });
    }
    return this.slice(signal, async (ms) => {
      const aim = Math.max(this.sampleMs, Math.min(2 * this.sampleMs, ms / 2));
      const grain = 2 * this.each(kernel);
      const count = whole <= aim ? tiles : Math.min(tiles, Math.max(grain, Math.ceil((tiles * aim) / whole)));
      const repeat = Math.max(1, Math.min(1 << 18, Math.round(aim / Math.max(whole * (count / tiles), 1e-6))));
      const first = Math.floor((tiles - count) * where);
      return (await this.call(kernel, first, count, repeat) / repeat) * (tiles / count);
    });
  }

  /** A kernel's sampler. @param {Ready} kernel @param {AbortSignal} signal @returns {Sampler} */
  sampler(kernel, signal) {
    return (where, guess) => this.sample(kernel, where, guess, signal);
  }

  /**
   * A B A B ...: each round's pair runs over the same part of the work. Ends early for one that is far behind.
   * @param {Sampler} mine
   * @param {Sampler} base
   * @param {number} rounds
   * @param {{base: number[], mine: number[]}} report gets the samples, ms a whole call
   * @param {number} baseMs what base takes, about; 0: not known
   * @returns {Promise<number>} what base takes
   */
  async duel(mine, base, rounds, report, baseMs) {
    let [a, b] = [baseMs, 0];
    for (let i = 0; i < rounds; i++) {
      const where = rounds > 1 ? i / (rounds - 1) : 0.5;
      a = await base(where, a);
      b = await mine(where, b);
      report.base.push(a);
      report.mine.push(b);
      if (i === 1 && Math.min(...report.mine) > this.policy.behind * Math.max(...report.base)) return baseMs || a;
    }
    return median(report.base);
  }

  /** @param {number} no @param {LabKernel} kernel @param {AbortSignal} signal @returns {Promise<Ready>} */
  async ready(no, kernel, signal) {
    const { memory } = this.session;
    if (kernel.pages) memory.ensure(kernel.pages);
    /** @type {Ready[]} */
    const all = [];
    for (const [i, each] of [kernel, ...kernel.packs.map((pack) => ({ ...pack, packs: [] }))].entries()) {
      memory.write(each.args, new Uint8Array(Uint32Array.from(each.pointers).buffer));
      all.push({ ...each, no: i ? PACKING + i : no, compiled: await this.compile(each.module, signal) });
    }
    await this.mail(all.map((each) => [each.no, each.compiled]));
    const [ready, ...packing] = all;
    for (const pack of packing) await this.sweep(pack, 0, pack.tiles, Infinity, signal);
    return ready;
  }

  /**
   * At once: a kernel is a few kilobytes, and a compiler thread of the browser would wait behind the inferences' threads.
   * @param {Uint8Array} bytes @param {AbortSignal} signal
   */
  compile(bytes, signal) {
    return this.slice(signal, () => {
      try {
        return new WebAssembly.Module(/** @type {BufferSource} */ (bytes));
      } catch (cause) {
        throw asError(cause, 'COMPILE_FAILED');
      }
    });
  }

  /** All at once: the threads come to their mail between two inferences. @param {[number, WebAssembly.Module | null][]} modules by the number of the kernel */
  mail(modules) {
    return this.session.mail({ op: 'lab', session: this.session.no, modules });
  }

  /** Repeats a pattern over a region. @param {import('./types.d.ts').LabFill} fill @param {AbortSignal} signal */
  async fill({ address, nbytes, pattern }, signal) {
    const { memory } = this.session;
    const head = pattern.subarray(0, Math.min(nbytes, pattern.length));
    // whole patterns at a time, or the repetition would drift
    const chunk = pattern.length * Math.max(1, Math.floor((1 << 20) / pattern.length));
    await this.slice(signal, () => memory.write(address, head));
    for (let done = head.length; done < nbytes;) {
      await this.slice(signal, () => {
        const most = Math.min(nbytes - done, done, chunk);
        memory.view.copyWithin(address + done, address, address + most);
        done += most;
      });
    }
  }

  /** @param {number} address @param {number} nbytes @param {AbortSignal} signal */
  async blank(address, nbytes, signal) {
    for (let at = 0; at < nbytes; at += 1 << 22) {
      await this.slice(signal, () => this.session.memory.fill(address + at, Math.min(1 << 22, nbytes - at), UNWRITTEN));
    }
  }
}
