// Two ways to do the same part of a model, as small plans in the lab's memory: run once on the same inputs and compared,
// then timed in turn.

import { NnjitError, throwIfAborted } from './errors.js';
import { emptyReport } from './lab.js';
import { median } from './measure.js';
import { countLong } from './steps.js';

/** @typedef {import('./lab-bench.js').LabBench} LabBench */
/** @typedef {import('./session.js').LoadedPlan} LoadedPlan */
/** @typedef {import('./types.d.ts').LabPlan} LabPlan */
/** @typedef {import('./types.d.ts').LabReport} LabReport */

/**
 * @param {LabBench} bench
 * @param {import('./types.d.ts').LabPair} pair plans: the serving way, the other
 * @param {AbortSignal} signal
 * @returns {Promise<LabReport>} never rejects for what the plans do
 */
export async function tryPair(bench, { pages, plans, fills, outputs, rounds, policy }, signal) {
  const { session } = bench;
  const started = bench.busyMs;
  const report = emptyReport();
  const done = (/** @type {LabReport['verdict']} */ verdict, reason = '') =>
    ({ ...report, verdict, reason, busyMs: bench.busyMs - started });
  bench.policy = policy;
  /** @type {Way[]} */
  const ways = [];
  try {
    session.memory.ensure(pages);
    const start = performance.now();
    /** @type {WebAssembly.Module[]} */
    const modules = [];
    for (const { module } of plans) modules.push(await bench.compile(module, signal));
    report.compileMs = performance.now() - start;
    for (const plan of plans) ways.push(new Way(bench, plan));
    await Promise.all(ways.map((way, i) => way.link(modules[i])));
    for (const [i, way] of ways.entries()) await way.begin(plans[i].init, signal);
    for (const fill of fills) await bench.fill(fill, signal);
    for (const { address, other, nbytes } of outputs) {
      await bench.blank(address, nbytes, signal);
      await bench.blank(other, nbytes, signal);
    }
    for (const way of ways) await way.pass(signal);
    const seen = await bench.compareOutputs(outputs, true, signal);
    report.checked = seen.checked;
    report.worst = seen.worst;
    if (!seen.ok) return done('wrong', seen.reason);
    await bench.warm(async () => {
      for (const way of ways) await way.pass(signal);
    }, signal);
    const [base, mine] = ways.map((way) => way.sampler(signal));
    await base(0, 0); // the first after the warm-up finds ranges that fit a slice
    await mine(0, 0);
    await bench.duel(mine, base, rounds, report, 0);
    return done(median(report.mine) > policy.hopeless * median(report.base) ? 'slow' : 'timed');
  } catch (cause) {
    throwIfAborted(signal);
    if (cause instanceof NnjitError && cause.code === 'KERNEL_TRAP') return done('trap', cause.message);
    if (cause instanceof NnjitError && cause.code === 'COMPILE_FAILED') return done('refused', cause.message);
    throw cause;
  } finally {
    await Promise.all(ways.map(({ plan }) => session.mail({ op: 'dropPlan', session: session.no, plan: plan.no })));
  }
}

/** A small plan in a lab's memory, run in slices. */
export class Way {
  /** Steps that are run in one slice, [first, last): all one by one until their times are known. @type {[number, number][]} */
  #ranges;

  /** @param {LabBench} bench @param {LabPlan} given */
  constructor(bench, { tableBase, slots, steps }) {
    this.bench = bench;
    /** @type {LoadedPlan} */
    this.plan = {
      no: bench.session.planNumber(), key: 'lab', tableBase, slots, steps, segments: [], inputs: [], outputs: [], values: new Map(),
      long: countLong(steps),
    };
    this.#ranges = steps.map((_, i) => [i, i + 1]);
  }

  /** Every thread gets it. @param {WebAssembly.Module} module */
  link(module) {
    const { bench: { session }, plan: { no, tableBase, slots } } = this;
    return session.mail({ op: 'plan', session: session.no, plan: no, module, tableBase, slots });
  }

  /** Its constants come to their places. @param {LabPlan['init']} init @param {AbortSignal} signal */
  async begin(init, signal) {
    const { bench } = this;
    const { session } = bench;
    for (const item of init) {
      if (item.kind === 'bytes') {
        await bench.slice(signal, () => session.memory.write(item.address, item.data));
      } else if (item.kind === 'pattern') {
        await bench.fill(item, signal);
      } else if (item.kind === 'step') {
        const { slot, args, tiles, parallel = true } = item;
        await bench.sweep({ no: 0, slot, args, tiles, parallel }, 0, tiles, Infinity, signal);
      }
    }
  }

  /** Its steps once, in slices. @param {AbortSignal} signal @returns {Promise<number>} ms */
  async pass(signal) {
    const { bench, plan } = this;
    const times = [];
    for (const [first, last] of this.#ranges) {
      times.push(await bench.slice(signal, async () => (await bench.session.runSteps(plan, first, last))[0]));
    }
    return times.reduce((sum, ms) => sum + ms, 0);
  }

  /** @param {AbortSignal} signal @returns {import('./lab-bench.js').Sampler} whole passes, as many as show on the clock */
  sampler(signal) {
    const { bench, plan } = this;
    return async (_where, guess) => {
      let whole = guess;
      if (!whole) whole = await this.#measure(signal);
      const repeat = Math.max(1, Math.min(1 << 12, Math.ceil(bench.sampleMs / Math.max(whole, 1e-4))));
      if (repeat === 1) return this.pass(signal);
      const { steps: { length } } = plan;
      return bench.slice(signal, async () => {
        let ms = 0;
        for (let i = 0; i < repeat; i++) ms += (await bench.session.runSteps(plan, 0, length))[0];
        return ms / repeat;
      });
    };
  }

  /** Finds what each step takes, and which may share a slice. @param {AbortSignal} signal @returns {Promise<number>} ms of all */
  async #measure(signal) {
    const { bench, plan } = this;
    const most = bench.policy.sliceMs;
    /** @type {[number, number][]} */
    const ranges = [];
    let total = 0;
    let held = Infinity;
    for (let step = 0; step < plan.steps.length; step++) {
      const ms = await bench.slice(signal, async () => (await bench.session.runSteps(plan, step, step + 1))[0]);
      total += ms;
      held += ms;
      if (held > most) {
        ranges.push([step, step + 1]);
        held = ms;
      } else {
        ranges[ranges.length - 1][1] = step + 1;
      }
    }
    this.#ranges = ranges;
    return total;
  }
}
