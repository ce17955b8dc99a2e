// Sessions on models, driven from Python: open a model by URL, run bundles of feeds through it, close it.
import { Encoder, decode, readBundle } from '/t/support/values.js';
import { load } from '/t/support/libraries.js';

/** @type {import('../support/libraries.js').Library} */
let library;
/** @type {any} */
let session;

/** @param {number} threads @param {'nnjit' | 'onnxruntime-web'} name */
export async function start(threads, name = 'nnjit') {
  library = await load(name, threads);
  await library.api.ready;
}

/**
 * A worker that never answers becomes an error here: the test that waits could not be woken otherwise.
 * @template T
 * @param {Promise<T>} work @param {number} seconds @param {string} what @returns {Promise<T>}
 */
async function within(work, seconds, what) {
  let timer = 0;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: no answer within ${seconds} s`)), 1000 * seconds);
  });
  try {
    return await Promise.race([work, /** @type {Promise<never>} */ (late)]);
  } finally {
    clearTimeout(timer);
  }
}

/** @param {string} url @param {number} seconds */
export async function open(url, seconds) {
  session = await within(library.create(url), seconds, 'create');
  return { inputs: session.inputNames, outputs: session.outputNames };
}

/**
 * Runs once and gives every output, where the nodes ran, and timings.
 * @param {string} url of a bundle {inputs: {name: head}} @param {number} seconds
 */
export async function run(url, seconds) {
  const { head, blob } = readBundle(await (await fetch(url)).arrayBuffer());
  const names = Object.keys(head.inputs);
  const feeds = Object.fromEntries(names.map((n) => [n, decode(head.inputs[n], blob, library.Tensor)]));
  const outputs = await within(session.run(feeds), seconds, 'run');
  const encoder = new Encoder();
  const heads = Object.fromEntries(session.outputNames.map((/** @type {string} */ n) => [n, encoder.add(outputs[n])]));
  const stats = session.stats?.() ?? null;
  const text = JSON.stringify(stats, (_, value) => (typeof value === 'bigint' ? Number(value) : value));
  return { heads, data: await encoder.text(), placement: session.placement?.() ?? [], stats: JSON.parse(text) };
}

export async function close() {
  const open = session;
  session = undefined;
  if (open) await within(open.release(), 20, 'release');
}
