// Looking into a plan: times of each step as a table or a Chrome trace, and one step's kernel in full.
import { remade } from './again.js';
import { failure } from './errors.js';
import { toFeeds } from './execute.js';
import { feedsFor } from './generate.js';
import { nodesOf, requestOf } from './shelf.js';
import { getEngine, getGpu } from './workers.js';

/**
 * @typedef {import('./feeds.js').Feed} Feed
 * @typedef {import('./plans.js').Plans} Plans
 * @typedef {{step: number, name: string, kernel: string, nodes: string[], ms: number, mean: number, perThread: number[], share: number,
 *   gflops: number | null, gbytes: number | null}} ProfiledStep
 * @typedef {{runMs: number, steps: ProfiledStep[], segments: {kind: string, ms: number}[], repeats: number}} Profile
 * @typedef {{traceEvents: Record<string, unknown>[], displayTimeUnit: 'ms'}} ChromeTrace
 */

/**
 * @param {Plans} plans
 * @param {{feeds?: Map<string, Feed>, repeats: number, format: 'table' | 'chrome', signal: AbortSignal | null}} options
 * @returns {Promise<Profile | ChromeTrace>}
 */
export async function profile(plans, { feeds, repeats, format, signal }) {
  // Made-up feeds are for the plan used last: values that decide its shapes, and inputs it has no use for, are not among them.
  const request = feeds ? requestOf(feeds) : plans.latest?.request;
  if (!request) throw failure('NO_PLAN', 'Nothing was compiled yet', { hint: 'run the session once, or give profile() feeds' });
  const silent = () => undefined;
  let plan = await plans.get(request, silent, signal);
  const measure = async () => {
    if (!plan.facts) throw failure('NOT_AVAILABLE', 'The reference backend has no steps to time', { hint: plan.reason });
    const gpu = plan.backend === 'webgpu';
    const { client } = gpu ? await getGpu() : await getEngine();
    const given = toFeeds(plan, feeds ?? feedsFor(plans.description.inputs, plan), gpu);
    plans.endLease(); // the feeds are views of what the memory still holds
    const measured = await client.profile(plans.id, plan.key, given, repeats, signal ? { signal } : {});
    return { measured, facts: plan.facts.steps };
  };
  const { measured, facts } = await measure().catch(async (error) => {
    plan = await remade(plans, error, plan, feeds ?? new Map(), request, silent, signal);
    return measure();
  });
  const wall = measured.steps.map(({ ms }) => Math.max(0, ...ms));
  const total = wall.reduce((n, ms) => n + ms, 0);
  /** @type {ProfiledStep[]} */
  const steps = measured.steps.map(({ step, ms, mean }, i) => ({
    step,
    name: facts[step].name,
    kernel: facts[step].kernel,
    nodes: nodesOf(plan, step),
    ms: wall[i],
    mean: Math.max(0, ...mean),
    perThread: ms,
    share: total > 0 ? wall[i] / total : 0,
    gflops: rate(facts[step].flops, wall[i]),
    gbytes: rate(facts[step].bytes, wall[i]),
  }));
  /** @type {Profile} */
  const table = { runMs: measured.runMs, steps, segments: measured.segments, repeats };
  return format === 'chrome' ? chromeTrace(table) : table;
}

/** 10^9 a second, or null where the clock saw nothing. @param {number | undefined} amount @param {number} ms */
const rate = (amount, ms) => (amount && ms > 0 ? amount / ms / 1e6 : null);

/** Steps one after another, a row a thread; opens in chrome://tracing and Perfetto. @param {Profile} profile @returns {ChromeTrace} */
export function chromeTrace({ steps }) {
  /** @type {Record<string, unknown>[]} */
  const traceEvents = [];
  let at = 0;
  for (const { step, name, kernel, nodes, ms, perThread, gflops } of steps) {
    perThread.forEach((own, tid) => {
      if (own > 0) {
        const args = { step, kernel, nodes: nodes.join(', '), gflops };
        traceEvents.push({ name, cat: 'step', ph: 'X', pid: 1, tid, ts: at * 1000, dur: own * 1000, args });
      }
    });
    at += ms;
  }
  return { traceEvents, displayTimeUnit: 'ms' };
}

/** @param {Plans} plans @param {number} step @returns {Promise<Record<string, any>>} */
export async function kernel(plans, step) {
  const plan = plans.latest;
  const steps = plan?.facts?.steps;
  if (!plan || !steps) throw failure('NO_PLAN', 'No kernels were compiled for this session', { hint: 'run it once on the wasm backend' });
  if (!Number.isInteger(step) || !steps[step]) {
    throw failure('BAD_ARGUMENT', `There is no step ${step}`, { hint: `steps 0 to ${steps.length - 1}` });
  }
  const { name, kernel: kernelName, tiles, parallel, flops, bytes } = steps[step];
  return { step, name, kernel: kernelName, nodes: nodesOf(plan, step), tiles, parallel, flops, bytes, ...(await plans.ask('kernel', { key: plan.key, step })) };
}
