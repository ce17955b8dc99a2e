// A decoder that is fed its own past on WebGPU, for decode.py: the caches come back to the page with each run, or stay in
// buffers of the device and are fed from there.
import { settled } from './device.js';
import { library } from './peers.js';

/** Logits that are compared, from a row's first on. */
const SHOWN = 64;

/**
 * @param {'nnjit' | 'onnxruntime-web'} name @param {string} url @param {{layers: number, heads: number, depth: number}} size
 * @param {number[]} ids the prompt's, then one for each run @param {number} prompt its length
 * @param {boolean} stays caches stay on the device
 */
export async function decoded(name, url, { layers, heads, depth }, ids, prompt, stays) {
  const api = await library(name);
  const caches = Array.from({ length: layers }, (_, i) => ['key', 'value'].map((part) => `${i}.${part}`)).flat();
  const locations = Object.fromEntries([['logits', 'cpu'], ...caches.map((part) => [`present.${part}`, 'gpu-buffer'])]);
  const begun = performance.now();
  const session = await api.InferenceSession.create(url, {
    executionProviders: ['webgpu'], ...(stays ? { preferredOutputLocation: locations } : {}),
  });
  const createMs = performance.now() - begun;
  await settled();
  const [ms, cold, first] = [/** @type {number[]} */ ([]), /** @type {number[]} */ ([]), /** @type {number[][]} */ ([])];
  /** @type {any} */
  let before = null;
  for (let at = 0; at <= ids.length - prompt; at++) {
    const fed = at ? ids.slice(prompt + at - 1, prompt + at) : ids.slice(0, prompt);
    const past = at ? prompt + at - 1 : 0;
    /** @type {Record<string, any>} */
    const feeds = {
      input_ids: new api.Tensor('int64', BigInt64Array.from(fed, BigInt), [1, fed.length]),
      attention_mask: new api.Tensor('int64', new BigInt64Array(past + fed.length).fill(1n), [1, past + fed.length]),
    };
    for (const part of caches) {
      feeds[`past_key_values.${part}`] = before?.[`present.${part}`] ?? new api.Tensor('float32', new Float32Array(0), [1, heads, 0, depth]);
    }
    const start = performance.now();
    const results = await session.run(feeds);
    ms.push(performance.now() - start);
    if (session.lastRun?.cold) cold.push(at);
    first.push(Array.from(results.logits.data.slice(0, SHOWN), Number));
    if (before && stays) for (const part of caches) before[`present.${part}`].dispose();
    before = results;
  }
  const facts = name === 'nnjit' ? { backend: session.backend, cold, plans: session.stats().plans, steps: session.stats().compile?.steps,
    where: before[`present.${caches[0]}`].location,
    elsewhere: session.placement().filter((/** @type {any} */ row) => row.backend === 'reference').length } : {};
  await session.release();
  if (stays) for (const part of caches) before[`present.${part}`].dispose();
  return { createMs, ms, heads: first, ...facts };
}
