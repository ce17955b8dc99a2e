// The page that runs one case at a time: fetches its bundle, makes a session, runs each data set, gives the
// outputs back. Nothing here knows what the right answer is.
import { Encoder, decode, readBundle } from '/t/support/values.js';
import { load } from '/t/support/libraries.js';

/** @type {import('../support/libraries.js').Library} */
let library;

/** @param {'nnjit' | 'onnxruntime-web'} name @param {number} threads @param {string} provider */
export async function start(name, threads, provider) {
  library = await load(name, threads, provider);
  await library.api.ready;
}

/**
 * @param {string} url of a bundle {model, sets: [{inputs: {name: head}, outputs: [name]}]}
 * @param {number} timeout in ms
 */
export async function run(url, timeout) {
  const begin = performance.now();
  let timer = 0;
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve({ status: 'timeout', reason: `no answer within ${timeout / 1000} s` }), timeout);
  });
  const result = await Promise.race([attempt(url), late]);
  clearTimeout(timer);
  return { ...result, ms: performance.now() - begin };
}

/** @param {string} url */
async function attempt(url) {
  /** @type {import('../support/libraries.js').Session | undefined} */
  let session;
  try {
    const { head, blob } = readBundle(await (await fetch(url)).arrayBuffer());
    const { offset, length } = head.model;
    session = await library.create(blob.slice(offset, offset + length));
    const encoder = new Encoder();
    const sets = [];
    for (const set of head.sets) {
      const names = Object.keys(set.inputs);
      const feeds = Object.fromEntries(names.map((n) => [n, decode(set.inputs[n], blob, library.Tensor)]));
      const outputs = await session.run(feeds);
      sets.push(set.outputs.map((/** @type {string} */ n) => encoder.add(outputs[n])));
    }
    const placement = session.placement ? await session.placement() : null;
    return { status: 'ran', sets, data: await encoder.text(), placement };
  } catch (error) {
    return failure(error);
  } finally {
    await session?.release();
  }
}

/** @param {any} error */
function failure(error) {
  const reason = String(error?.message ?? error);
  return { status: 'error', code: String(error?.code ?? error?.name ?? ''), reason };
}
