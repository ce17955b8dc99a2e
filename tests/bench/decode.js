// Runs whose inputs' lengths change every time, for decode.py: a decoder that is fed its own past, and sentences. Each
// library has a session in this page and they take turns, run by run. Gives ms of each run.
import { decode, readBundle } from '/t/support/values.js';
import { load } from '/t/support/libraries.js';

/**
 * @typedef {{layers: number, heads: number, depth: number}} Size
 * @typedef {{ms: number[], engineMs: number[], cold: number[], keys: string[], createMs: number, plans: number, off: number}} Times
 *   ms: of each run; engineMs: of nnjit's in the engine; cold: the runs that waited for a plan; keys: the plans that served, as they
 *   came; off: largest distance from the first library's output
 */

/** @type {Record<string, import('../support/libraries.js').Library>} */
const libraries = {};

/** ms between the sessions' creation and the first run. */
let pauseMs = 0;
/** Whether nnjit's plans have room. */
let room = true;

/**
 * @param {string[]} names @param {number} threads @param {string} provider @param {number} pause ms before the first run
 * @param {boolean} exact each shape has a plan of its own
 */
export async function start(names, threads, provider, pause, exact) {
  pauseMs = pause;
  room = !exact;
  for (const name of names) {
    libraries[name] = await load(/** @type {any} */ (name), threads, provider);
    await libraries[name].api.ready;
  }
}

/** A library's threads may spin for work for some time and hold the cores. @returns {Promise<void>} */
const rest = () => new Promise((resolve) => { setTimeout(resolve, 15); });

/** @param {any} a @param {any} b */
function apart(a, b) {
  let most = 0;
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i] - b[i]));
  return most;
}

/**
 * The same runs in each library.
 * @param {string} url the model's @param {number} count runs
 * @param {(Tensor: any, before: any, at: number) => Record<string, any>} feedsOf before: outputs of the run before
 * @param {string} watched an output that must agree; the first if ''
 * @returns {Promise<Record<string, Times>>}
 */
async function runs(url, count, feedsOf, watched) {
  const all = [];
  for (const library of Object.values(libraries)) {
    const begin = performance.now();
    /** @type {any} */
    const session = await library.create(url, library.name === 'nnjit' ? { room } : {});
    /** @type {Times} */
    const times = { ms: [], engineMs: [], cold: [], keys: [], createMs: performance.now() - begin, plans: 0, off: 0 };
    all.push({ library, session, times, outputs: /** @type {any} */ (null) });
  }
  await new Promise((resolve) => { setTimeout(resolve, pauseMs); });
  for (let at = 0; at < count; at++) {
    for (const each of all) {
      const { library, session, times } = each;
      const feeds = feedsOf(library.Tensor, each.outputs, at);
      await rest();
      const begin = performance.now();
      each.outputs = await session.run(feeds);
      times.ms.push(performance.now() - begin);
      if (session.lastRun) times.engineMs.push(session.lastRun.engineMs);
      if (session.lastRun?.cold) times.cold.push(at);
      const key = session.stats?.().key;
      if (key && times.keys.at(-1) !== key) times.keys.push(key);
      const which = watched || session.outputNames[0];
      times.off = Math.max(times.off, apart(each.outputs[which].data, all[0].outputs[which].data));
    }
  }
  for (const { session, times } of all) {
    times.plans = session.stats?.().plans ?? 0;
    await session.release();
  }
  return Object.fromEntries(all.map(({ library, times }) => [library.name, times]));
}

/**
 * A prompt, then a token a run.
 * @param {string} url @param {Size} size @param {number[]} ids the prompt's, then one for each run @param {number} prompt its length
 */
export function tokens(url, { layers, heads, depth }, ids, prompt) {
  return runs(url, 1 + ids.length - prompt, (Tensor, before, at) => {
    const fed = at ? ids.slice(prompt + at - 1, prompt + at) : ids.slice(0, prompt);
    const past = at ? prompt + at - 1 : 0;
    /** @type {Record<string, any>} */
    const feeds = {
      input_ids: new Tensor('int64', BigInt64Array.from(fed, BigInt), [1, fed.length]),
      attention_mask: new Tensor('int64', new BigInt64Array(past + fed.length).fill(1n), [1, past + fed.length]),
    };
    for (let layer = 0; layer < layers; layer++) {
      for (const part of ['key', 'value']) {
        feeds[`past_key_values.${layer}.${part}`] = before
          ? before[`present.${layer}.${part}`]
          : new Tensor('float32', new Float32Array(0), [1, heads, 0, depth]);
      }
    }
    return feeds;
  }, 'logits');
}

/** @param {string} url the model's @param {string} bundleUrl of {inputs: one feeds a run, output} */
export async function series(url, bundleUrl) {
  const { head, blob } = readBundle(await (await fetch(bundleUrl)).arrayBuffer());
  return runs(url, head.inputs.length, (Tensor, _, at) =>
    Object.fromEntries(Object.entries(head.inputs[at]).map(([n, one]) => [n, decode(/** @type {any} */ (one), blob, Tensor)])), head.output);
}
