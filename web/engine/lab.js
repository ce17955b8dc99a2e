// The lab: a memory of its own in which candidate kernels are verified against the serving kernel and timed beside
// it, a slice at a time. Nothing that happens here can reach a session's memory; what to try, Python decides.

import { CALL, LAB } from './control.js';
import { asError, throwIfAborted } from './errors.js';
import { compare } from './compare.js';
import { median } from './measure.js';
import { JobTrapped } from './pool.js';

/** @typedef {import('./session.js').Session} Session */
/** @typedef {import('./pace.js').Pace} Pace */
/** @typedef {import('./types.d.ts').LabKernel} LabKernel */
/** @typedef {import('./types.d.ts').LabSetup} LabSetup */
/** @typedef {import('./types.d.ts').LabTrial} LabTrial */
/** @typedef {import('./types.d.ts').LabReport} LabReport */
/** @typedef {LabKernel & {no: number, compiled: WebAssembly.Module}} Ready a kernel that every thread has */

const SERVING = 0;
const CANDIDATE = 1;
const PACKING = 2;
const MEASURED = 3;

/** A fresh kernel's fast code arrives 8-20 ms after its first calls; slow machines get a second wait. */
const TIER_MS = 22;
/** A sample lasts this many grains of the clock, and no less than SAMPLE_MS. */
const GRAINS = 100;
const SAMPLE_MS = 0.7;
/** Beyond this multiple of the serving kernel's time a candidate is not looked at any longer. */
const HOPELESS = 1.6;
/** The same before the fast code is there. */
const STUCK = 25;
/** What a first look at a candidate's outputs may take; a winner is verified whole. */
const LOOK_MS = 6;
/** Bytes that no kernel writes by chance. */
const UNWRITTEN = 0xa5;
/** Rounds of the second duel, which keeps a lucky candidate out. */
const AGAIN = 5;

export class Lab {
  /** @type {Ready | null} */
  serving = null;
  /** @type {Ready | null} */
  candidate = null;
  /** @type {LabSetup | null} */
  #setup = null;
  /** ms of one whole call of the serving kernel */
  #servingMs = 0;
  /** The slice at hand ends then: what comes before may begin without asking. */
  #windowEnd = 0;
  /** ms spent inside slices */
  busyMs = 0;

  /**
   * @param {Session} session one that has no plans
   * @param {Pace} pace
   * @param {number} grainMs
   */
  constructor(session, pace, grainMs) {
    this.session = session;
    this.pace = pace;
    this.sampleMs = Math.max(SAMPLE_MS, GRAINS * grainMs);
  }

  /**
   * Lays out a kernel's operands, compiles the serving kernel and runs it once: what candidates are held against.
   * @param {LabSetup} setup
   * @param {AbortSignal} signal
   * @returns {Promise<{ms: number, busyMs: number, samples: number[][]}>} ms: a call of the serving kernel;
   *   samples: the bytes at setup.probes, for a comparison with the definition
   */
  async setup(setup, signal) {
    const before = this.busyMs;
    const { memory } = this.session;
    this.serving = null;
    this.#setup = setup;
    memory.ensure(setup.pages);
    for (const fill of setup.fills) await this.#fill(fill, signal);
    for (const { address, nbytes } of setup.outputs) await this.#blank(address, nbytes, signal);
    const serving = await this.#ready(SERVING, setup.kernel, signal);
    await this.#sweep(serving, 0, serving.tiles, Infinity, signal);
    await this.#tierUp(serving, signal);
    this.serving = serving;
    this.#servingMs = await this.#wholeMs(serving, signal);
    const samples = setup.probes.map(({ address, length }) => [...memory.read(address, length)]);
    return { ms: this.#servingMs, busyMs: this.busyMs - before, samples };
  }

  /**
   * One candidate: compiled, looked at, warmed up, timed in turn with the serving kernel.
   * @param {LabTrial} trial
   * @param {AbortSignal} signal
   * @returns {Promise<LabReport>} never rejects for what the candidate does
   */
  async trial({ kernel, rounds }, signal) {
    const started = this.busyMs;
    const { serving } = this;
    if (!serving || !this.#setup) throw new Error('trial before setup');
    /** @type {LabReport} */
    const report = { verdict: 'timed', compileMs: 0, checked: 0, worst: 0, base: [], mine: [], busyMs: 0, reason: '' };
    const done = (/** @type {LabReport['verdict']} */ verdict, reason = '') => {
      this.candidate = verdict === 'timed' ? this.candidate : null;
      return { ...report, verdict, reason, busyMs: this.busyMs - started };
    };
    try {
      const start = performance.now();
      let candidate;
      try {
        candidate = await this.#ready(CANDIDATE, kernel, signal);
      } catch (cause) {
        throwIfAborted(signal);
        if (cause instanceof JobTrapped) throw cause;
        return done('refused', asError(cause).message);
      }
      this.candidate = candidate;
      report.compileMs = performance.now() - start;
      for (const { other, nbytes } of this.#setup.outputs) await this.#blank(other, nbytes, signal);
      const first = await this.#part(candidate, 0, 1, signal);
      const share = Math.min(candidate.tiles, this.#each(candidate)) / candidate.tiles;
      if (first > STUCK * this.#servingMs * share + 20) return done('slow', `first call ${first.toFixed(1)} ms`);
      const seen = await this.#look(candidate, LOOK_MS, signal);
      report.checked = seen.checked;
      report.worst = seen.worst;
      if (!seen.ok) return done('wrong', seen.reason);
      await this.#tierUp(candidate, signal);
      await this.#duel(candidate, serving, rounds, report, signal);
      if (median(report.mine) > 1.3 * median(report.base)) {
        await this.#tierUp(candidate, signal); // perhaps its fast code came late
        report.base = [];
        report.mine = [];
        await this.#duel(candidate, serving, 2, report, signal);
      }
      if (median(report.mine) > HOPELESS * median(report.base)) return done('slow');
      return done('timed');
    } catch (cause) {
      throwIfAborted(signal);
      if (cause instanceof JobTrapped) return done('trap', cause.message);
      throw cause;
    }
  }

  /**
   * The last candidate once more, before it may serve: its whole output is compared, and it must win again.
   * @param {AbortSignal} signal
   * @returns {Promise<import('./types.d.ts').LabConfirmation>}
   */
  async confirm(signal) {
    const { candidate, serving } = this;
    if (!candidate || !serving || !this.#setup) return { ok: false, checked: 0, worst: 0, reason: 'no candidate', base: [], mine: [] };
    try {
      for (const { other, nbytes } of this.#setup.outputs) await this.#blank(other, nbytes, signal);
      await this.#sweep(candidate, 0, candidate.tiles, Infinity, signal);
      const found = await this.#compare(true, signal);
      /** @type {import('./types.d.ts').LabConfirmation} */
      const confirmed = { ...found, base: [], mine: [] };
      if (found.ok) await this.#duel(candidate, serving, AGAIN, confirmed, signal);
      return confirmed;
    } catch (cause) {
      if (cause instanceof JobTrapped) return { ok: false, checked: 0, worst: 0, reason: cause.message, base: [], mine: [] };
      throw cause;
    }
  }

  /** The last candidate serves from here on; its time is known from the duel. @returns {Promise<WebAssembly.Module>} */
  async promote() {
    const { candidate } = this;
    if (!candidate) throw new Error('promote without a candidate');
    await this.#mail(SERVING, candidate.compiled);
    this.serving = { ...candidate, no: SERVING };
    this.candidate = null;
    return candidate.compiled;
  }

  /**
   * Times kernels by themselves: rounds are doubled until a call shows on the clock. For the device's facts; nothing
   * serves meanwhile that could be compared with.
   * @param {import('./types.d.ts').LabWork} work
   * @param {AbortSignal} signal
   * @returns {Promise<{times: Record<string, number>, values: number[][]}>} ms of one round, by name; the bytes asked for
   */
  async measure({ pages, fill: [address, nbytes], kernels, reads }, signal) {
    const { memory } = this.session;
    memory.ensure(pages);
    memory.fill(address, nbytes, 0); // fresh pages would all be one page of zeros
    /** @type {Ready[]} */
    const ready = [];
    for (const [i, kernel] of kernels.entries()) {
      memory.write(kernel.args, new Uint8Array(Uint32Array.from(kernel.pointers).buffer));
      const no = MEASURED + i;
      const compiled = await this.#compile(kernel.module, signal);
      await this.#mail(no, compiled);
      ready.push({ ...kernel, no, compiled });
    }
    const each = this.sampleMs;
    const start = performance.now();
    const rounds = ready.map((kernel) => (kernel.parallel ? kernel.tiles * this.session.threads : kernel.tiles));
    /** @param {number} i */
    const call = async (i) => {
      const { args, pointers } = ready[i];
      memory.write(args, new Uint8Array(Uint32Array.from(pointers).buffer));
      return this.#slice(signal, () => this.#call(ready[i], 0, rounds[i]));
    };
    for (let pass = 0; pass < 3; pass++) for (let i = 0; i < ready.length; i++) await call(i);
    const left = start + TIER_MS - performance.now();
    if (left > 0) await this.pace.rest(left, signal);
    /** @type {Record<string, number>} */
    const times = {};
    for (let i = 0; i < ready.length; i++) {
      let ms = await call(i);
      while (ms < each && rounds[i] < 1 << 24) {
        rounds[i] *= ms > each / 8 ? 2 : 4;
        ms = await call(i);
      }
      for (let n = 0; n < 5; n++) ms = Math.min(ms, await call(i));
      times[ready[i].name ?? String(i)] = ms / rounds[i];
    }
    for (const { no } of ready) await this.#mail(no, null);
    return { times, values: reads.map(({ address: at, length }) => [...memory.read(at, length)]) };
  }

  // --- slices

  /**
   * `work` while no inference is waiting, or within the time that was given a moment ago; it counts as the tuner's.
   * @template T
   * @param {AbortSignal} signal
   * @param {(ms: number) => Promise<T> | T} work gets how long it should last at most
   */
  async #slice(signal, work) {
    let left = this.#windowEnd - performance.now();
    if (left <= 0) {
      left = await this.pace.gap(signal);
      this.#windowEnd = performance.now() + left;
    }
    const start = performance.now();
    try {
      return await work(left);
    } finally {
      const took = performance.now() - start;
      this.busyMs += took;
      this.pace.spent(start, took);
    }
  }

  /**
   * Tiles first .. first+count-1 on all threads, `repeat` times.
   * @param {Ready} kernel
   * @param {number} first
   * @param {number} count
   * @param {number} [repeat]
   * @returns {Promise<number>} ms of the slowest thread
   */
  async #call({ no, args, parallel, stride }, first, count, repeat = 1) {
    const { session } = this;
    const { threads } = session;
    const times = await session.pool.dispatch({
      kind: CALL, session: session.no, plan: -1, threads: parallel ? threads : 1, slot: LAB - no, args, first, tiles: count, repeat,
      serial: !parallel, ...(stride ? { stride } : {}),
    }, () => session.memory.rest());
    return Math.max(...times);
  }

  /** Units that give every thread at least one tile of the kernel's own. @param {Ready} kernel */
  #each({ parallel, grain = 1 }) {
    return (parallel ? this.session.threads : 1) * grain;
  }

  /** @param {Ready} kernel @param {number} first @param {number} count in #each @param {AbortSignal} signal */
  #part(kernel, first, count, signal) {
    const tiles = Math.min(kernel.tiles - first, count * this.#each(kernel));
    return this.#slice(signal, () => this.#call(kernel, first, tiles));
  }

  /**
   * Tiles from `first` up to `last` in calls that fit the slices, until `limitMs` are used up.
   * @param {Ready} kernel
   * @param {number} first
   * @param {number} last
   * @param {number} limitMs
   * @param {AbortSignal} signal
   */
  async #sweep(kernel, first, last, limitMs, signal) {
    let used = 0;
    let count = Math.min(this.#each(kernel), last - first);
    for (let at = first; at < last && used < limitMs;) {
      const now = Math.min(count, last - at);
      await this.#slice(signal, async (ms) => {
        const took = await this.#call(kernel, at, now);
        used += took;
        const room = Math.max(0.5, ms / Math.max(took, 1e-3));
        count = Math.max(this.#each(kernel), Math.floor(now * Math.min(room, 8)));
      });
      at += now;
    }
  }

  /**
   * A first look: the beginning, the end (tails) and the middle of the candidate's work.
   * @param {Ready} kernel
   * @param {number} limitMs
   * @param {AbortSignal} signal
   */
  async #look(kernel, limitMs, signal) {
    const { tiles } = kernel;
    const third = Math.max(1, Math.ceil(tiles / 3));
    await this.#sweep(kernel, Math.max(0, tiles - Math.min(third, 2 * this.#each(kernel))), tiles, limitMs / 2, signal);
    await this.#sweep(kernel, 0, third, limitMs / 2, signal);
    await this.#sweep(kernel, third, Math.min(tiles, 2 * third), limitMs / 3, signal);
    return this.#compare(false, signal);
  }

  /** @param {boolean} whole every element must have been written @param {AbortSignal} signal */
  async #compare(whole, signal) {
    const total = { ok: true, checked: 0, worst: 0, reason: '' };
    const { memory } = this.session;
    for (const { address, other, nbytes, kind, tolerance } of /** @type {LabSetup} */ (this.#setup).outputs) {
      const size = 1 << 18;
      for (let at = 0; at < nbytes && total.ok; at += size) {
        const length = Math.min(size, nbytes - at);
        const found = await this.#slice(signal, () => compare(
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
  async #tierUp(kernel, signal) {
    const start = performance.now();
    for (let i = 0; i < 3; i++) {
      await this.#slice(signal, async (ms) => {
        const until = performance.now() + Math.min(ms, 1);
        const few = Math.min(kernel.tiles, this.#each(kernel));
        do await this.#call(kernel, 0, few); while (performance.now() < until);
      });
      this.#windowEnd = 0;
      const left = start + (TIER_MS * (i + 1)) / 3 - performance.now();
      if (left > 0) await this.pace.rest(left, signal);
    }
  }

  /** @param {Ready} kernel @param {AbortSignal} signal @returns {Promise<number>} ms of a whole call, about */
  async #wholeMs(kernel, signal) {
    const samples = [];
    for (let i = 0; i < 3; i++) samples.push(await this.#sample(kernel, i / 2, 0, signal));
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
  async #sample(kernel, where, guess, signal) {
    const { tiles } = kernel;
    let whole = guess;
    if (!whole) {
      const few = Math.min(tiles, 4 * this.#each(kernel));
      const first = Math.floor((tiles - few) * where);
      whole = await this.#slice(signal, async () => {
        let repeat = 1;
        let ms = await this.#call(kernel, first, few);
        while (ms < this.sampleMs / 20 && repeat < 1 << 16) {
          repeat *= 4;
          ms = await this.#call(kernel, first, few, repeat);
        }
        return (ms / repeat) * (tiles / few);
      });
    }
    return this.#slice(signal, async (ms) => {
      const aim = Math.max(this.sampleMs, Math.min(2 * this.sampleMs, ms / 2));
      const grain = 4 * this.#each(kernel);
      const count = whole <= aim ? tiles : Math.min(tiles, Math.max(grain, Math.ceil((tiles * aim) / whole)));
      const repeat = Math.max(1, Math.min(1 << 18, Math.round(aim / Math.max(whole * (count / tiles), 1e-6))));
      const first = Math.floor((tiles - count) * where);
      return (await this.#call(kernel, first, count, repeat) / repeat) * (tiles / count);
    });
  }

  /**
   * A B A B ...: each round's pair runs over the same part of the work. Ends early for one that is far behind.
   * @param {Ready} mine
   * @param {Ready} base
   * @param {number} rounds
   * @param {{base: number[], mine: number[]}} report gets the samples, ms a whole call
   * @param {AbortSignal} signal
   */
  async #duel(mine, base, rounds, report, signal) {
    let [a, b] = [this.#servingMs, 0];
    for (let i = 0; i < rounds; i++) {
      const where = rounds > 1 ? i / (rounds - 1) : 0.5;
      a = await this.#sample(base, where, a, signal);
      b = await this.#sample(mine, where, b, signal);
      report.base.push(a);
      report.mine.push(b);
      if (i === 1 && Math.min(...report.mine) > 1.15 * Math.max(...report.base)) return;
    }
    this.#servingMs = median(report.base);
  }

  // --- making ready

  /** @param {number} no @param {LabKernel} kernel @param {AbortSignal} signal @returns {Promise<Ready>} */
  async #ready(no, kernel, signal) {
    const { memory } = this.session;
    if (kernel.pages) memory.ensure(kernel.pages);
    for (const pack of kernel.packs) {
      const packing = { ...pack, packs: [], no: PACKING, compiled: await this.#compile(pack.module, signal) };
      memory.write(pack.args, new Uint8Array(Uint32Array.from(pack.pointers).buffer));
      await this.#mail(PACKING, packing.compiled);
      await this.#sweep(packing, 0, pack.tiles, Infinity, signal);
    }
    const compiled = await this.#compile(kernel.module, signal);
    memory.write(kernel.args, new Uint8Array(Uint32Array.from(kernel.pointers).buffer));
    await this.#mail(no, compiled);
    return { ...kernel, no, compiled };
  }

  /**
   * At once: a kernel is a few kilobytes, and a compiler thread of the browser would wait behind the inferences' threads.
   * @param {Uint8Array} bytes @param {AbortSignal} signal
   */
  #compile(bytes, signal) {
    return this.#slice(signal, () => {
      try {
        return new WebAssembly.Module(/** @type {BufferSource} */ (bytes));
      } catch (cause) {
        throw asError(cause, 'COMPILE_FAILED');
      }
    });
  }

  /** @param {number} no @param {WebAssembly.Module | null} module */
  #mail(no, module) {
    return this.session.mail({ op: 'lab', session: this.session.no, no, module });
  }

  /** Repeats a pattern over a region. @param {import('./types.d.ts').LabFill} fill @param {AbortSignal} signal */
  async #fill({ address, nbytes, pattern }, signal) {
    const { memory } = this.session;
    const head = pattern.subarray(0, Math.min(nbytes, pattern.length));
    // whole patterns at a time, or the repetition would drift
    const chunk = pattern.length * Math.max(1, Math.floor((1 << 20) / pattern.length));
    await this.#slice(signal, () => memory.write(address, head));
    for (let done = head.length; done < nbytes;) {
      await this.#slice(signal, () => {
        const most = Math.min(nbytes - done, done, chunk);
        memory.view.copyWithin(address + done, address, address + most);
        done += most;
      });
    }
  }

  /** @param {number} address @param {number} nbytes @param {AbortSignal} signal */
  async #blank(address, nbytes, signal) {
    for (let at = 0; at < nbytes; at += 1 << 22) {
      await this.#slice(signal, () => this.session.memory.fill(address + at, Math.min(1 << 22, nbytes - at), UNWRITTEN));
    }
  }
}
