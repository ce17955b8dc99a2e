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
  return { engine: memory.total, ...(await pythonReadings()) };
}

const READINGS = 'import gc, pyodide_js; gc.collect(); f"{len(gc.get_objects())} {pyodide_js._module.HEAP8.length}"';

/** What the compiler holds: objects that Python's collector tracks, and the size of Pyodide's heap, which never shrinks. */
async function pythonReadings() {
  const [objects, python] = String(await library.api.python(READINGS)).split(' ').map(Number);
  return { objects, python };
}
