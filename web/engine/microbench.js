// Kernels timed by themselves, and a plan of nothing but barriers, for the device's facts: nothing serves meanwhile that
// they could be compared with.

import { Way } from './pair.js';

/** @typedef {import('./lab-bench.js').LabBench} LabBench */
/** @typedef {import('./lab-bench.js').Ready} Ready */

const MEASURED = 3;
/** Runs of the barriers, of which the first few are not counted. */
const [PASSES, FIRST] = [30, 6];

/**
 * Rounds are doubled until a call shows on the clock.
 * @param {LabBench} bench
 * @param {import('./types.d.ts').LabWork} work
 * @param {AbortSignal} signal
 * @returns {Promise<import('./types.d.ts').LabTimes>} ms of one round, by name; the bytes asked for
 */
export async function microbench(bench, { pages, fill: [address, nbytes], kernels, barriers, reads, policy }, signal) {
  const { memory } = bench.session;
  bench.policy = policy;
  memory.ensure(pages);
  memory.fill(address, nbytes, 0); // fresh pages would all be one page of zeros
  /** @type {Ready[]} */
  const ready = [];
  for (const [i, kernel] of kernels.entries()) {
    memory.write(kernel.args, new Uint8Array(Uint32Array.from(kernel.pointers).buffer));
    ready.push({ ...kernel, no: MEASURED + i, compiled: await bench.compile(kernel.module, signal) });
  }
  await bench.mail(ready.map(({ no, compiled }) => [no, compiled]));
  const each = bench.sampleMs;
  const start = performance.now();
  const rounds = ready.map((kernel) => (kernel.parallel ? kernel.tiles * bench.session.threads : kernel.tiles));
  /** @param {number} i */
  const call = async (i) => {
    const { args, pointers } = ready[i];
    memory.write(args, new Uint8Array(Uint32Array.from(pointers).buffer));
    return bench.slice(signal, () => bench.call(ready[i], 0, rounds[i]));
  };
  for (let pass = 0; pass < 3; pass++) for (let i = 0; i < ready.length; i++) await call(i);
  const left = start + policy.tierMs - performance.now();
  if (left > 0) await bench.rest(left, signal);
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
  await bench.mail(ready.map(({ no }) => [no, null]));
  return { times, barriersMs: barriers ? await passes(bench, barriers, signal) : 0, values: reads.map(({ address: at, length }) => [...memory.read(at, length)]) };
}

/**
 * @param {LabBench} bench
 * @param {import('./types.d.ts').LabPlan} plan
 * @param {AbortSignal} signal
 * @returns {Promise<number>} ms of the fastest run of it
 */
async function passes(bench, plan, signal) {
  const { session } = bench;
  const way = new Way(bench, plan);
  await way.link(await bench.compile(plan.module, signal));
  let least = Infinity;
  for (let i = 0; i < PASSES; i++) {
    const [ms] = await bench.slice(signal, () => session.runSteps(way.plan, 0, plan.steps.length));
    if (i >= FIRST) least = Math.min(least, ms);
  }
  await session.mail({ op: 'dropPlan', session: session.no, plan: way.plan.no });
  return least;
}
