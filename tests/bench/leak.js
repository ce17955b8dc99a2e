// One round of create, run, release, and what memory it left behind.
import { decode, readBundle } from '/t/support/values.js';
import { load } from '/t/support/libraries.js';

/** @type {import('../support/libraries.js').Library} */
let library;

export async function start() {
  library = await load('nnjit', 2);
  await library.api.ready;
}

/** @param {string} model URL @param {string} feedsUrl of a bundle {inputs} */
export async function round(model, feedsUrl) {
  const { head, blob } = readBundle(await (await fetch(feedsUrl)).arrayBuffer());
  const session = await library.create(model);
  const names = Object.keys(head.inputs);
  await session.run(Object.fromEntries(names.map((n) => [n, decode(head.inputs[n], blob, library.Tensor)])));
  await session.release();
  const { memory } = await library.api.device();
  return { engine: memory.total, python: await pythonBytes() };
}

/** Size of the compiler's own memory: Pyodide's heap only ever grows, so a leak shows. */
async function pythonBytes() {
  return Number(await library.api.python('import gc; gc.collect(); import pyodide_js; pyodide_js._module.HEAP8.length'));
}
