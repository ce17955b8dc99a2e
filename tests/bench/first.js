// The way to a first result in one page: when a model's bytes have come, its graph is read, its kernels are compiled, its
// constants are in place. Takes what first.py names; gives ms since create was called.
import { decode } from '/t/support/values.js';

/** @typedef {{label: string, asked: number, ms: number}} Pipeline */

/** Compute pipelines that the page asks for. @type {Pipeline[]} */
let pipelines = [];
let origin = 0;
const now = () => performance.now() - origin;

/** Constants that go to a device before there is a plan, by their buffers' label. */
const sent = { from: 0, to: 0, bytes: 0 };

const queue = /** @type {any} */ (globalThis).GPUQueue?.prototype;
if (queue) {
  const { writeBuffer } = queue;
  queue.writeBuffer = function (/** @type {any} */ buffer, /** @type {any[]} */ ...how) {
    const counts = buffer.label.startsWith('constant ');
    if (counts) sent.from ||= now();
    writeBuffer.call(this, buffer, ...how);
    if (!counts) return;
    sent.to = now();
    sent.bytes += how[1].byteLength;
  };
}

const device = /** @type {any} */ (globalThis).GPUDevice?.prototype;
if (device) {
  const asynchronous = device.createComputePipelineAsync;
  device.createComputePipelineAsync = async function (/** @type {any} */ how) {
    const one = { label: how.label ?? '', asked: now(), ms: 0 };
    pipelines.push(one);
    const made = await asynchronous.call(this, how);
    one.ms = now() - one.asked;
    return made;
  };
}

/** A plan that is not kept by then will not be. */
const KEPT_MS = 5000;

/** @param {'nnjit' | 'onnxruntime-web'} name @param {string} provider @param {number} threads @returns {Promise<any>} */
async function library(name, provider, threads) {
  if (name === 'nnjit') {
    const api = (await import(/** @type {string} */ ('/nnjit.js'))).default;
    await api.ready;
    return api;
  }
  const folder = new URL('/vendor/peers/onnxruntime-web-1.30.0/', location.href).href;
  const ort = await import(`${folder}ort.${provider}.min.mjs`);
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = folder;
  ort.env.logLevel = 'error';
  return ort;
}

/**
 * Milliseconds until a file is in memory, in so many parts side by side, with nothing else to do.
 * @param {string} url @param {number} parts @returns {Promise<number>}
 */
async function fetching(url, parts) {
  const head = await fetch(url, { method: 'HEAD' });
  const size = Number(head.headers.get('content-length'));
  const into = new Uint8Array(new SharedArrayBuffer(size));
  origin = performance.now();
  const each = Math.ceil(size / parts);
  await Promise.all(Array.from({ length: parts }, async (_, i) => {
    const [from, to] = [i * each, Math.min(size, (i + 1) * each)];
    const answer = await fetch(url, parts > 1 ? { headers: { Range: `bytes=${from}-${to - 1}` }, cache: 'no-store' } : {});
    const reader = /** @type {ReadableStream<Uint8Array>} */ (answer.body).getReader();
    for (let at = from; ;) {
      const { done, value } = await reader.read();
      if (done) break;
      into.set(value, at);
      at += value.byteLength;
    }
  }));
  return now();
}

/**
 * @param {'nnjit' | 'onnxruntime-web'} name @param {string} provider @param {number} threads @param {string} url
 * @param {Record<string, any>} inputs @param {string} blobUrl @param {number} settleMs
 * @param {boolean} plans nnjit keeps its plan for the next time
 */
async function first(name, provider, threads, url, inputs, blobUrl, settleMs = 0, plans = false) {
  const blob = new Uint8Array(await (await fetch(blobUrl)).arrayBuffer());
  const api = await library(name, provider, threads);
  const feeds = Object.fromEntries(Object.entries(inputs).map(([n, head]) => [n, decode(head, blob, api.Tensor)]));
  /** @type {Record<string, {from: number, to: number}>} */
  const stages = {};
  const progress = (/** @type {string} */ stage) => {
    stages[stage] ??= { from: now(), to: 0 };
    stages[stage].to = now();
  };
  await new Promise((later) => setTimeout(later, settleMs)); // boot's last work
  pipelines = [];
  Object.assign(sent, { from: 0, to: 0, bytes: 0 });
  origin = performance.now();
  const ours = name === 'nnjit';
  if (ours) api.env.plans = plans;
  const session = await api.InferenceSession.create(url, { executionProviders: [provider], ...(ours ? { progress, numThreads: threads } : {}) });
  const createMs = now();
  await session.run(feeds, ...(ours ? [undefined, { progress }] : []));
  const firstMs = now();
  const early = { ...sent };
  const { seconds, load, compile, kept } = ours ? session.stats() : /** @type {any} */ ({});
  const again = performance.now();
  await session.run(feeds);
  const runMs = performance.now() - again;
  const until = performance.now() + KEPT_MS;
  while (ours && plans && !session.stats().kept && performance.now() < until) await new Promise((later) => setTimeout(later, 20));
  await session.release();
  return { createMs, firstMs, runMs, stages, pipelines, ...(ours ? { sent: early, seconds, load, compile, kept } : {}) };
}

Object.assign(globalThis, { first: { first, fetching } });
