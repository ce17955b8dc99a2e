// What a run() costs beside its kernels: one small model and one rival at a time, in this page, for overhead.py.
import { decode, readBundle } from '/t/support/values.js';
import { load } from '/t/support/libraries.js';
import { spares } from '/engine/spares.js';
import { alternate, spread } from './clock.js';

/** @type {Record<string, import('../support/libraries.js').Library>} */
const libraries = {};

/** @param {string[]} names @param {number} threads */
export async function start(names, threads) {
  for (const name of names) {
    libraries[name] = await load(/** @type {any} */ (name), threads);
    await libraries[name].api.ready;
  }
}

/**
 * run() of each library in turn, nnjit also with the output's tensor given by the caller.
 * @param {string} url of a bundle {url, x} @param {{repeats: number, warmMs: number}} how
 */
export async function measure(url, how) {
  const { head, blob } = readBundle(await (await fetch(url)).arrayBuffer());
  /** @type {Record<string, () => Promise<any>>} */
  const calls = {};
  /** @type {Record<string, number[]>} */
  const inside = {};
  const sessions = [];
  for (const [name, { create, Tensor }] of Object.entries(libraries)) {
    /** @type {any} */
    const session = await create(head.url);
    sessions.push(session);
    const feeds = { x: decode(head.x, blob, Tensor) };
    const check = (/** @type {any} */ { y }) => {
      const wrong = y.data.findIndex((/** @type {number} */ v, /** @type {number} */ i) => v !== -feeds.x.data[i]);
      if (wrong >= 0) throw new Error(`${name}: element ${wrong} is ${y.data[wrong]}`);
    };
    check(await session.run(feeds));
    calls[name] = () => session.run(feeds);
    if (name !== 'nnjit') continue;
    const given = { y: new Tensor('float32', new Float32Array(feeds.x.data.length), feeds.x.dims) };
    check(await session.run(feeds, given));
    inside[name] = [];
    calls[name] = async () => {
      const result = await session.run(feeds);
      inside[name].push(session.lastRun.engineMs);
      return result;
    };
    calls['nnjit, output given'] = () => session.run(feeds, given);
  }
  const times = await alternate(calls, how);
  const streams = calls.nnjit ? await streamed(calls.nnjit, how.repeats) : {};
  for (const session of sessions) await session.release();
  return { times, streams, inside: inside.nnjit && spread(inside.nnjit).median };
}

/**
 * Medians of runs that follow each other without a pause, in four blocks with memory made ready for outputs and four
 * without, by turns.
 * @param {() => Promise<any>} call @param {number} repeats
 */
async function streamed(call, repeats) {
  /** @type {Record<string, number[]>} */
  const ms = { ready: [], 'not ready': [] };
  const { take } = spares;
  for (let block = 0; block < 8; block++) {
    const samples = ms[block % 2 ? 'not ready' : 'ready'];
    spares.take = block % 2 ? () => null : take;
    for (let i = -5; i < repeats; i++) {
      const start = performance.now();
      await call();
      if (i >= 0) samples.push(performance.now() - start);
    }
  }
  spares.take = take;
  return Object.fromEntries(Object.entries(ms).map(([name, samples]) => [name, spread(samples).median]));
}
