// What starting a run's threads costs: runs of one job with pauses of given lengths between them, for starts.py.
import { decode, readBundle } from '/t/support/values.js';
import { spread } from './clock.js';

/** @type {any} */
let nnjit;

/** @param {number} threads */
export async function start(threads) {
  nnjit = await import('/nnjit.js');
  nnjit.env.wasm.numThreads = threads;
  await nnjit.ready;
}

/**
 * @param {string} url of a bundle {job} as run.py makes it
 * @param {number} runs a sample each, after a third as many
 * @param {number[]} pauses ms between the end of a run and the next, the caller's thread kept busy
 * @returns {Promise<{kernel: number, pauses: {engine: number, q3: number, call: number, thread: string}[]}>} ms: the steps by
 *   themselves, repeated; then for each pause the steps inside a run (median, third quartile) and the whole call
 */
export async function measure(url, runs, pauses) {
  const { head, blob } = readBundle(await (await fetch(url)).arrayBuffer());
  const session = await nnjit.InferenceSession.create(head.job.url, { preferredOutputLocation: 'cpu-pinned' });
  const feeds = Object.fromEntries(
    Object.entries(head.job.inputs).map(([n, value]) => [n, decode(/** @type {any} */ (value), blob, nnjit.Tensor)]),
  );
  for (const until = performance.now() + 300; performance.now() < until;) await session.run(feeds);
  const means = [];
  for (let i = 0; i < 3; i++) {
    const { steps } = await session.profile({ feeds, repeats: 40 });
    means.push(steps.reduce((/** @type {number} */ sum, /** @type {any} */ step) => sum + step.mean, 0));
  }
  const found = [];
  for (const pause of pauses) {
    const engine = [];
    const call = [];
    for (let i = 0; i < runs + runs / 3; i++) {
      for (const until = performance.now() + pause; performance.now() < until;);
      const start = performance.now();
      await session.run(feeds);
      if (i < runs / 3) continue;
      call.push(performance.now() - start);
      engine.push(session.lastRun.engineMs);
    }
    const { median, q3 } = spread(engine);
    found.push({ engine: median, q3, call: spread(call).median, thread: session.lastRun.thread });
  }
  await session.release();
  return { kernel: spread(means).median, pauses: found };
}
