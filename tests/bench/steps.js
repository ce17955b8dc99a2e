// Per-step times of one model in this page, for tests/bench/steps.py.
import { readBundle, decode } from '/t/support/values.js';

/**
 * @param {string} url of a bundle {job} as run.py makes it
 * @param {number} threads
 * @param {number} repeats
 * @param {boolean} every the spec of each kernel, too
 */
export async function profile(url, threads, repeats, every) {
  const nnjit = await import('/nnjit.js');
  nnjit.env.wasm.numThreads = threads;
  const { head, blob } = readBundle(await (await fetch(url)).arrayBuffer());
  const session = await nnjit.InferenceSession.create(head.job.url);
  const feeds = Object.fromEntries(
    Object.entries(head.job.inputs).map(([n, value]) => [n, decode(/** @type {any} */ (value), blob, nnjit.Tensor)]),
  );
  /** @type {number[]} */
  const times = [];
  /** Outputs given again: no new pages. @type {number[]} */
  const again = [];
  /** @type {any} */
  let outputs;
  for (const samples of [times, again]) {
    for (let i = 0; i < repeats; i++) {
      const start = performance.now();
      const result = await session.run(feeds, samples === again ? outputs : undefined);
      samples.push(performance.now() - start);
      outputs = result;
    }
  }
  const found = await session.profile({ feeds, repeats });
  /** @type {Record<string, string>} */
  const schedules = {};
  // a kernel's listing takes a moment: those of the slowest steps are what one looks at
  const slowest = [...found.steps].sort((a, b) => b.ms - a.ms).slice(0, 25);
  for (const { kernel, step } of slowest) schedules[kernel] ??= (await session.kernel(step)).schedule;
  /** @type {Record<string, string>} */
  const specs = {};
  for (const { kernel, step } of every ? found.steps : []) specs[kernel] ??= (await session.kernel(step)).spec;
  return { profile: found, schedules, specs, times, again, stats: session.stats() };
}
