// Two ways to do the same part of a model on the GPU, as small plans with buffers of their own: run once on the same
// inputs and compared, then timed in turn.

import { NnjitError, throwIfAborted } from '../errors.js';
import { Host } from '../host.js';
import { loadPlan } from './plan.js';
import { Pipelines, ShaderError } from './shader.js';
import { Watch } from './watch.js';

/** @typedef {import('./lab-bench.js').GpuLabBench} GpuLabBench */
/** @typedef {import('./plan.js').LoadedPlan} LoadedPlan */
/** @typedef {import('../types.d.ts').LabReport} LabReport */

/** What a device says of work that it will not do. */
const REFUSED = new Set(['BAD_PLAN', 'OUT_OF_MEMORY', 'MODEL_TOO_LARGE']);

/**
 * @param {GpuLabBench} bench
 * @param {import('./types.d.ts').GpuLabPair} pair plans: the serving way, the other
 * @param {AbortSignal} signal
 * @returns {Promise<LabReport>} never rejects for what the plans do
 */
export async function tryPair(bench, { plans, fills, outputs, rounds, policy }, signal) {
  const { device } = bench;
  const started = bench.busyMs;
  /** @type {LabReport} */
  const report = { verdict: 'timed', compileMs: 0, checked: 0, worst: 0, base: [], mine: [], busyMs: 0, reason: '' };
  const done = (/** @type {LabReport['verdict']} */ verdict, reason = '') => ({ ...report, verdict, reason, busyMs: bench.busyMs - started });
  bench.policy = policy;
  const pipelines = new Pipelines(device);
  /** Both ways read the same weights. @type {Map<number, GPUBuffer>} */
  const constants = new Map();
  /** @type {LoadedPlan[]} */
  const loaded = [];
  /** @type {import('./lab-bench.js').Timed[]} */
  const ways = [];
  try {
    const begun = performance.now();
    await Promise.all(plans.flatMap(({ shaders }) => shaders.map((shader) => pipelines.get(shader))));
    throwIfAborted(signal);
    report.compileMs = performance.now() - begun;
    const watch = new Watch(device, 'two ways of a part of the model');
    const context = { host: new Host(), signal, progress: () => undefined, software: false };
    for (const [i, plan] of plans.entries()) {
      await bench.slice(signal, Infinity, async () => {
        loaded.push((await loadPlan(device, plan, pipelines, constants, [], context, 'lab')).loaded);
        ways.push(timed(loaded[i]));
        watch.open();
        for (const fill of fills[i]) bench.fill(fill, loaded[i].buffer(fill.buffer));
        for (const { buffer, other } of outputs) {
          const at = i ? other : buffer;
          bench.blank(loaded[i].buffer(at), plan.buffers[at].nbytes);
        }
        const taking = bench.clock.sample(ways[i].encode, 1); // what comes out now is what is compared
        watch.close();
        await taking.catch(() => undefined);
        await watch.told(); // what the device says of it comes first
        return taking;
      }, bench.held).then((ms) => {
        ways[i].ms = ms;
      });
    }
    const [base, mine] = ways;
    const [a, b] = loaded;
    const compared = outputs.map(({ buffer, other, name, ...how }) => ({ ...how, name: `output "${name}"`, wanted: a.buffer(buffer), got: b.buffer(other) }));
    const seen = await bench.same(compared, Infinity, signal);
    report.checked = seen.checked;
    report.worst = seen.worst;
    if (seen.reason) return done('wrong', seen.reason);
    await bench.settle(base, signal);
    await bench.settle(mine, signal);
    await bench.duel(base, mine, rounds, report, signal);
    return done(bench.hopeless(report) ? 'slow' : 'timed');
  } catch (cause) {
    throwIfAborted(signal);
    if (cause instanceof ShaderError) return done('refused', cause.message);
    if (cause instanceof NnjitError && REFUSED.has(cause.code)) return done('refused', cause.message);
    throw cause;
  } finally {
    for (const plan of loaded) plan.destroy();
    for (const buffer of constants.values()) buffer.destroy();
  }
}

/** All steps of a plan, one after another. @param {LoadedPlan} plan @returns {import('./lab-bench.js').Timed} */
function timed({ steps }) {
  return {
    encode: (pass) => {
      for (const { kernel, group } of steps) kernel.encode(pass, group);
    },
    inner: 1,
    ms: 0,
  };
}
