// The lab: candidate kernels are verified against the serving kernel and timed beside it, a slice at a time, in a
// memory of its own: nothing that happens here can reach a session. What to try, and by which numbers, Python decides.

import { asError, throwIfAborted } from './errors.js';
import { LabBench } from './lab-bench.js';
import { median } from './measure.js';
import { JobTrapped } from './pool.js';

/** @typedef {import('./lab-bench.js').Ready} Ready */
/** @typedef {import('./types.d.ts').LabSetup} LabSetup */
/** @typedef {import('./types.d.ts').LabTrial} LabTrial */
/** @typedef {import('./types.d.ts').LabReport} LabReport */

const SERVING = 0;
const CANDIDATE = 1;

/** @returns {LabReport} */
export const emptyReport = () =>
  ({ verdict: 'timed', compileMs: 0, checked: 0, worst: 0, base: [], mine: [], busyMs: 0, reason: '' });

export class Lab {
  /** @type {Ready | null} */
  serving = null;
  /** @type {Ready | null} */
  candidate = null;
  /** @type {LabSetup | null} */
  #setup = null;
  /** ms of one whole call of the serving kernel */
  #servingMs = 0;

  /** @param {ConstructorParameters<typeof LabBench>} how */
  constructor(...how) {
    this.bench = new LabBench(...how);
  }

  /**
   * Lays out a kernel's operands, compiles the serving kernel and runs it once: what candidates are held against.
   * @param {LabSetup} setup
   * @param {AbortSignal} signal
   * @returns {Promise<{ms: number, busyMs: number, samples: number[][]}>} ms: a call of the serving kernel;
   *   samples: the bytes at setup.probes, for a comparison with the definition
   */
  async setup(setup, signal) {
    const { bench } = this;
    const before = bench.busyMs;
    const { memory } = bench.session;
    this.serving = null;
    this.#setup = setup;
    bench.policy = setup.policy;
    memory.ensure(setup.pages);
    for (const fill of setup.fills) await bench.fill(fill, signal);
    for (const { address, nbytes } of setup.outputs) await bench.blank(address, nbytes, signal);
    const serving = await bench.ready(SERVING, setup.kernel, signal);
    await bench.tierUp(serving, signal);
    await bench.sweep(serving, 0, serving.tiles, Infinity, signal);
    this.serving = serving;
    this.#servingMs = await bench.wholeMs(serving, signal);
    const samples = setup.probes.map(({ address, length }) => [...memory.read(address, length)]);
    return { ms: this.#servingMs, busyMs: bench.busyMs - before, samples };
  }

  /**
   * One candidate: compiled, looked at, warmed up, timed in turn with the serving kernel.
   * @param {LabTrial} trial
   * @param {AbortSignal} signal
   * @returns {Promise<LabReport>} never rejects for what the candidate does
   */
  async trial({ kernel, rounds }, signal) {
    const { serving, bench } = this;
    const setup = this.#setup;
    const started = bench.busyMs;
    if (!serving || !setup) throw new Error('trial before setup');
    const { policy } = bench;
    const report = emptyReport();
    const done = (/** @type {LabReport['verdict']} */ verdict, reason = '') => {
      this.candidate = verdict === 'timed' ? this.candidate : null;
      return { ...report, verdict, reason, busyMs: bench.busyMs - started };
    };
    try {
      const start = performance.now();
      let candidate;
      try {
        candidate = await bench.ready(CANDIDATE, kernel, signal);
      } catch (cause) {
        throwIfAborted(signal);
        if (cause instanceof JobTrapped) throw cause;
        return done('refused', asError(cause).message);
      }
      this.candidate = candidate;
      report.compileMs = performance.now() - start;
      for (const { other, nbytes } of setup.outputs) await bench.blank(other, nbytes, signal);
      const first = await bench.part(candidate, 0, 1, signal);
      const share = Math.min(candidate.tiles, bench.each(candidate)) / candidate.tiles;
      if (first > policy.stuck * this.#servingMs * share + policy.stuckMs) return done('slow', `first call ${first.toFixed(1)} ms`);
      const seen = await bench.look(candidate, setup.outputs, signal);
      report.checked = seen.checked;
      report.worst = seen.worst;
      if (!seen.ok) return done('wrong', seen.reason);
      await bench.tierUp(candidate, signal);
      await this.#duel(candidate, serving, rounds, report, signal);
      if (median(report.mine) > policy.late * median(report.base)) {
        await bench.tierUp(candidate, signal); // perhaps its fast code came late
        report.base = [];
        report.mine = [];
        await this.#duel(candidate, serving, 2, report, signal);
      }
      return done(median(report.mine) > policy.hopeless * median(report.base) ? 'slow' : 'timed');
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
    const { candidate, serving, bench } = this;
    const setup = this.#setup;
    if (!candidate || !serving || !setup) return { ok: false, checked: 0, worst: 0, reason: 'no candidate', base: [], mine: [] };
    try {
      for (const { other, nbytes } of setup.outputs) await bench.blank(other, nbytes, signal);
      await bench.sweep(candidate, 0, candidate.tiles, Infinity, signal);
      const found = await bench.compareOutputs(setup.outputs, true, signal);
      /** @type {import('./types.d.ts').LabConfirmation} */
      const confirmed = { ...found, base: [], mine: [] };
      if (found.ok) await this.#duel(candidate, serving, bench.policy.again, confirmed, signal);
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
    await this.bench.mail([[SERVING, candidate.compiled]]);
    this.serving = { ...candidate, no: SERVING };
    this.candidate = null;
    return candidate.compiled;
  }

  /** @param {Ready} mine @param {Ready} base @param {number} rounds @param {{base: number[], mine: number[]}} report @param {AbortSignal} signal */
  async #duel(mine, base, rounds, report, signal) {
    const { bench } = this;
    this.#servingMs = await bench.duel(bench.sampler(mine, signal), bench.sampler(base, signal), rounds, report, this.#servingMs);
  }
}
