// The page of the side-by-side run: `start` loads the libraries, `measure` times one job on all of them in turn and
// compares their outputs, `peak` and `bandwidth` measure the machine. run.py decides what is measured and writes the report.
import { readBundle } from '/t/support/values.js';
import { alternate, spread } from './clock.js';
import * as rivals from './rivals.js';

/** @type {Record<string, import('./rivals.js').Rival>} */
const loaded = {};

/** @param {string[]} names @param {number} threads @returns {Promise<Record<string, string>>} what didn't start, and why */
export async function start(names, threads) {
  /** @type {Record<string, string>} */
  const failed = {};
  for (const name of names) {
    try {
      if (name === 'tfjs') loaded[name] = await rivals.tfjs(threads);
      else if (name === 'jax-js') loaded[name] = await rivals.jax();
      else loaded[name] = await rivals.onnx(/** @type {any} */ (name), threads);
    } catch (error) {
      failed[name] = String(error);
    }
  }
  return failed;
}

/**
 * @param {string} url of a bundle {job, expected: {name: head}}
 * @param {{repeats: number, warmMs: number, ways?: boolean}} how ways: with what else each library can do with outputs
 */
export async function measure(url, how) {
  const { head, blob } = readBundle(await (await fetch(url)).arrayBuffer());
  /** @type {Record<string, any>} */
  const results = {};
  /** @type {Record<string, import('./rivals.js').Prepared>} */
  const ready = {};
  for (const [name, rival] of Object.entries(loaded)) {
    try {
      const prepared = await rival.prepare(head.job, blob, how.ways);
      if (!prepared) continue;
      ready[name] = prepared;
      const outputs = await prepared.read(await prepared.call());
      results[name] = { ...prepared.facts, error: compare(outputs, head.expected, blob, head.job.slack ?? 0, name === 'tfjs' ? head.job : null) };
    } catch (error) {
      results[name] = { failed: String(/** @type {any} */ (error)?.message ?? error).slice(0, 500) };
      delete ready[name];
    }
  }
  const calls = Object.fromEntries(Object.entries(ready).map(([n, r]) => [n, r.call]));
  for (const [name, { ways }] of Object.entries(how.ways ? ready : {})) {
    for (const [way, call] of Object.entries(ways ?? {})) calls[`${name} ${way}`] = call;
  }
  for (const [called, timing] of Object.entries(await alternate(calls, how))) {
    const [name, way] = called.split(' ');
    if (way) (results[name].ways ??= {})[way] = timing;
    else Object.assign(results[name], timing);
  }
  for (const [name, prepared] of Object.entries(ready)) {
    Object.assign(results[name], await prepared.finish?.());
    await prepared.release();
  }
  // bigint has no JSON
  return JSON.parse(JSON.stringify(results, (_, v) => (typeof v === 'bigint' ? Number(v) : v)));
}

/**
 * Largest absolute error, and largest share of the tolerance (rtol 1e-3, atol 1e-4) used up: above 1 is wrong.
 * @param {Record<string, ArrayLike<number>>} outputs @param {Record<string, any>} expected @param {Uint8Array} blob
 * @param {number} slack a share of the largest output that is tolerated, too
 * @param {any} nhwc the job, when outputs are laid out as NHWC
 */
function compare(outputs, expected, blob, slack, nhwc) {
  let maxAbs = 0;
  let share = 0;
  for (const [name, head] of Object.entries(expected)) {
    const got = outputs[name];
    const bytes = blob.slice(head.offset, head.offset + head.length);
    const want = new Float32Array(bytes.buffer);
    if (got.length !== want.length) throw new Error(`${name} has ${got.length} values, not ${want.length}`);
    const [, c, h, w] = head.dims;
    const atol = 1e-4 + (slack && slack * want.reduce((most, v) => Math.max(most, Math.abs(v)), 0));
    const transposed = nhwc?.kind === 'conv';
    for (let i = 0; i < want.length; i++) {
      const place = transposed ? (i % (h * w)) * c + Math.floor(i / (h * w)) : i;
      const off = Math.abs(got[place] - want[i]);
      maxAbs = Math.max(maxAbs, off);
      share = Math.max(share, off / (atol + 1e-3 * Math.abs(want[i])));
      if (Number.isNaN(off)) share = Infinity;
    }
  }
  return { maxAbs, share };
}

/**
 * GFLOP/s of `threads` cores at once, by the relaxed_madd loop: the best of its samples, as a yardstick must be.
 * @param {string} url of the module @param {number} flopsPerRound @param {number} threads
 */
export async function peak(url, flopsPerRound, threads) {
  return await together(url, threads, (samples) => Math.max(...samples), `
    const { instance } = await WebAssembly.instantiate(bytes);
    const run = instance.exports.peak;
    let rounds = 1000;
    for (let t = 0; t < 15; rounds *= 2) { const s = performance.now(); run(rounds); t = performance.now() - s; }
    for (let i = 0; i < 30; i++) {
      const s = performance.now(); run(rounds); samples.push(rounds * ${flopsPerRound} / (performance.now() - s) / 1e6);
    }`);
}

/**
 * GB/s at which `threads` cores at once read `size` bytes in all, again and again, from a cache if they fit one: the
 * median, because others on the host share the memory.
 * @param {string} url of the module @param {number} size @param {number} threads
 */
export async function bandwidth(url, size, threads) {
  return await together(url, threads, (samples) => spread(samples).median, `
    const each = Math.ceil(${size} / ${threads} / 1024) * 1024;
    const memory = new WebAssembly.Memory({ initial: Math.ceil(each / 65536) + 1 });
    new Uint8Array(memory.buffer).fill(1);
    const { instance } = await WebAssembly.instantiate(bytes, { env: { memory } });
    const run = instance.exports.read;
    let times = 1;
    for (let t = 0; t < 15; times *= 2) { const s = performance.now(); for (let i = 0; i < times; i++) run(each); t = performance.now() - s; }
    for (let i = 0; i < 30; i++) {
      const s = performance.now();
      for (let j = 0; j < times; j++) run(each);
      samples.push(times * each / (performance.now() - s) / 1e6);
    }`);
}

/**
 * The sum over `threads` workers at once of what `pick` makes of the samples of each, after the first five.
 * @param {string} url of the module, `bytes` in the body @param {number} threads
 * @param {(samples: number[]) => number} pick @param {string} body pushes to `samples`
 */
async function together(url, threads, pick, body) {
  const code = `onmessage = async ({ data: bytes }) => { const samples = []; ${body}; postMessage(samples.slice(5)); };`;
  const source = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));
  const bytes = await (await fetch(url)).arrayBuffer();
  const each = Array.from({ length: threads }, () => {
    const worker = new Worker(source);
    return new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => (worker.terminate(), resolve(pick(data)));
      worker.onerror = (e) => reject(new Error(e.message));
      worker.postMessage(bytes);
    });
  });
  const rates = /** @type {number[]} */ (await Promise.all(each));
  return rates.reduce((sum, rate) => sum + rate, 0);
}
