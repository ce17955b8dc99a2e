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

/** @param {string} url */
export async function open(url) {
  session = await library.create(url);
  return { inputs: session.inputNames, outputs: session.outputNames };
}

/**
 * Runs once and gives every output, where the nodes ran, and timings.
 * @param {string} url of a bundle {inputs: {name: head}}
 */
export async function run(url) {
  const { head, blob } = readBundle(await (await fetch(url)).arrayBuffer());
  const names = Object.keys(head.inputs);
  const outputs = await session.run(Object.fromEntries(names.map((n) => [n, decode(head.inputs[n], blob, library.Tensor)])));
  const encoder = new Encoder();
  const heads = Object.fromEntries(session.outputNames.map((/** @type {string} */ n) => [n, encoder.add(outputs[n])]));
  const stats = session.stats?.() ?? null;
  const text = JSON.stringify(stats, (_, value) => (typeof value === 'bigint' ? Number(value) : value));
  return { heads, data: await encoder.text(), placement: session.placement?.() ?? [], stats: JSON.parse(text) };
}

export async function close() {
  await session?.release();
  session = undefined;
}
