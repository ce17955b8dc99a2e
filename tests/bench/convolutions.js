// One layer in this page, for tests/bench/convolutions.py: run() of each library in turn, then our steps by themselves.
import { readBundle, decode } from '/t/support/values.js';
import { alternate } from './clock.js';
import { load } from '/t/support/libraries.js';

/** @type {Record<string, Awaited<ReturnType<typeof load>>>} */
const loaded = {};

/** @param {string[]} names @param {number} threads */
export async function start(names, threads) {
  for (const name of names) {
    loaded[name] = await load(/** @type {any} */ (name), threads);
    await loaded[name].api.ready;
  }
}

/**
 * @param {string} url of a bundle {job} as run.py makes it
 * @param {{repeats: number, warmMs: number}} how
 * @returns {Promise<{times: Record<string, import('./clock.js').Timing>, steps: {name: string, kernel: string, nodes: string[], ms: number}[]}>}
 */
export async function measure(url, how) {
  const { head, blob } = readBundle(await (await fetch(url)).arrayBuffer());
  /** @type {Record<string, any>} */
  const sessions = {};
  /** @type {Record<string, () => Promise<unknown>>} */
  const calls = {};
  /** @param {string} name */
  const feedsOf = (name) =>
    Object.fromEntries(
      Object.entries(head.job.inputs).map(([n, value]) => [n, decode(/** @type {any} */ (value), blob, loaded[name].Tensor)]),
    );
  for (const [name, library] of Object.entries(loaded)) {
    const session = (sessions[name] = await library.create(head.job.url));
    const feeds = feedsOf(name);
    calls[name] = () => session.run(feeds);
  }
  const times = await alternate(calls, how);
  const { steps } = await sessions.nnjit.profile({ feeds: feedsOf('nnjit'), repeats: 3 * how.repeats });
  const found = [];
  for (const { step, name, kernel, nodes, ms } of steps) {
    found.push({ name, kernel, nodes, ms, schedule: (await sessions.nnjit.kernel(step)).schedule });
  }
  for (const session of Object.values(sessions)) await session.release();
  return { times, steps: found };
}
