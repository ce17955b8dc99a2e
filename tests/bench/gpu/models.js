// Whole models on WebGPU by the wall clock: with tensors that stay on the device, many small steps one run after another, and
// with inputs and outputs on the processor, as programs use them.
import { COPY_DST, COPY_SRC, STORAGE } from '/engine/webgpu/shader.js';
import { decode } from '/t/support/values.js';
import { RAISE_MS, heater, settled } from './device.js';
import { numbers } from './numbers.js';
import { library, wall } from './peers.js';

/**
 * A model whose tensors stay on the device: ms a run over `queued` runs, and the first values of its first output.
 * @param {'nnjit' | 'onnxruntime-web'} name @param {string} url @param {number[][]} dims of the inputs, in order
 * @param {string} type @param {number} queued
 */
export async function resident(name, url, dims, type, queued) {
  const api = await library(name);
  const session = await api.InferenceSession.create(url, { executionProviders: ['webgpu'], preferredOutputLocation: 'gpu-buffer' });
  const device = await api.env.webgpu.device;
  const feeds = Object.fromEntries(session.inputNames.map((/** @type {string} */ input, /** @type {number} */ i) => {
    const data = numbers(dims[i].reduce((x, y) => x * y), i);
    const values = type === 'float16' ? new (/** @type {any} */ (globalThis).Float16Array)(data) : data;
    const buffer = device.createBuffer({ size: Math.ceil(values.byteLength / 16) * 16, usage: STORAGE | COPY_SRC | COPY_DST });
    device.queue.writeBuffer(buffer, 0, values);
    return [input, api.Tensor.fromGpuBuffer(buffer, { dataType: type, dims: dims[i] })];
  }));
  /** @type {any[]} */
  let made = [];
  const call = async () => {
    const out = await session.run(feeds);
    made.push(...Object.values(out));
    return out;
  };
  const finish = async () => {
    await device.queue.onSubmittedWorkDone();
    made.forEach((tensor) => tensor.dispose());
    made = [];
  };
  try {
    const first = /** @type {any} */ (Object.values(await session.run(feeds))[0]);
    const head = Array.from((await first.getData(true)).slice(0, 64), Number);
    const ms = await wall(call, finish, queued);
    return { ms, head, ...(name === 'nnjit' ? { backend: session.backend, steps: session.stats().compile.steps } : {}) };
  } finally {
    Object.values(feeds).forEach((/** @type {any} */ tensor) => tensor.gpuBuffer?.destroy());
    await session.release();
  }
}

/** @type {{session: any, feeds: any} | null} the model whose steps are counted, see dispatch.py */
let chain = null;

/** @param {string} url @param {number[]} dims of its input @returns {Promise<number>} steps of a run */
export async function openChain(url, dims) {
  const api = await library('nnjit');
  const session = await api.InferenceSession.create(url, { executionProviders: ['webgpu'], preferredOutputLocation: 'gpu-buffer', tune: { mode: 'off' } });
  const { device } = api.env.webgpu;
  const values = numbers(dims.reduce((x, y) => x * y), 0);
  const buffer = device.createBuffer({ size: values.byteLength, usage: STORAGE | COPY_SRC | COPY_DST });
  device.queue.writeBuffer(buffer, 0, values);
  chain = { session, feeds: { x: api.Tensor.fromGpuBuffer(buffer, { dataType: 'float32', dims }) } };
  await spinChain(20);
  return session.stats().compile.steps;
}

/** @param {number} runs queued one after another @returns {Promise<{ms: number, encodeMs: number}>} of all of them */
export async function spinChain(runs) {
  if (!chain) throw new Error('no chain is open');
  const { session, feeds } = chain;
  heater?.start();
  await settled();
  const begun = performance.now();
  let encodeMs = 0;
  for (let i = 0; i < runs; i++) {
    const { y } = await session.run(feeds);
    for (const { kind, ms } of session.lastRun.segments) if (kind === 'gpu') encodeMs += ms;
    y.dispose();
  }
  await (await library('nnjit')).env.webgpu.device.queue.onSubmittedWorkDone();
  return { ms: performance.now() - begun, encodeMs };
}

export async function closeChain() {
  await chain?.session.release();
  chain = null;
}

/**
 * Both libraries are up, with a device and their code compiled, before the first model is timed.
 * @param {'nnjit' | 'onnxruntime-web'} name @param {string} url of y = f(x), three numbers
 */
export async function warm(name, url) {
  const api = await library(name);
  const session = await api.InferenceSession.create(url, { executionProviders: ['webgpu'] });
  await session.run({ x: new api.Tensor('float32', new Float32Array(3), [3]) });
  await session.release();
}

/**
 * A model with inputs and outputs on the processor, as programs use it: ms of the first result and of later runs.
 * @param {'nnjit' | 'onnxruntime-web'} name @param {string} url @param {Record<string, any>} inputs @param {string} blobUrl
 * @param {number} repeats @param {boolean} stays also runs whose outputs stay on the GPU
 */
export async function model(name, url, inputs, blobUrl, repeats, stays) {
  const blob = new Uint8Array(await (await fetch(blobUrl)).arrayBuffer());
  const api = await library(name);
  /** When a stage was last heard of, nnjit's alone. @type {Record<string, number>} */
  const stages = {};
  const progress = (/** @type {string} */ stage) => (stages[stage] = performance.now() - start);
  const start = performance.now();
  const session = await api.InferenceSession.create(url, { executionProviders: ['webgpu'], ...(name === 'nnjit' ? { progress } : {}) });
  const createMs = performance.now() - start;
  const feeds = Object.fromEntries(Object.entries(inputs).map(([n, head]) => [n, decode(head, blob, api.Tensor)]));
  const results = await session.run(feeds, ...(name === 'nnjit' ? [undefined, { progress }] : []));
  const firstMs = performance.now() - start;
  await settled(); // on the device of the shaders; a model is timed at whatever clock its own runs keep the GPU at
  const later = await timed(() => session.run(feeds), repeats);
  /** @type {Record<string, number[]>} */
  const heads = {};
  for (const [output, tensor] of Object.entries(results)) heads[output] = Array.from(tensor.data.slice(0, 64), Number);
  // a step's time is that at the full clock: runs that wait for their outputs let it fall, and the first steps would be slow
  if (name === 'nnjit') await heater?.rest(RAISE_MS);
  const facts = name === 'nnjit' ? { stages, backend: session.backend, stats: session.stats(), profile: await session.profile({ repeats: 3 }),
    elsewhere: session.placement().filter((/** @type {any} */ row) => row.backend === 'reference').length } : {};
  await session.release();
  const staying = stays ? { stays: await left(api, url, feeds, repeats) } : {};
  return { createMs, firstMs, ms: later[later.length >> 1], min: later[0], max: later[later.length - 1], heads, ...facts, ...staying };
}

/**
 * The same runs with outputs that stay on the GPU: ms until the device is through with a run. @param {any} api a library
 * @param {string} url @param {Record<string, any>} feeds @param {number} repeats
 */
async function left(api, url, feeds, repeats) {
  const session = await api.InferenceSession.create(url, { executionProviders: ['webgpu'], preferredOutputLocation: 'gpu-buffer' });
  try {
    const device = await api.env.webgpu.device;
    const later = await timed(async () => {
      const results = await session.run(feeds);
      await device.queue.onSubmittedWorkDone();
      for (const tensor of Object.values(results)) tensor.dispose();
    }, repeats);
    return later[later.length >> 1];
  } finally {
    await session.release();
  }
}

/** @param {() => Promise<unknown>} run @param {number} repeats @returns {Promise<number[]>} ms, in order of size */
async function timed(run, repeats) {
  // the first second is slower: drivers and browsers are still at it
  for (const warm = performance.now(); performance.now() - warm < 1000;) await run();
  const samples = [];
  for (let i = 0; i < repeats; i++) {
    const begun = performance.now();
    await run();
    samples.push(performance.now() - begun);
  }
  return samples.sort((a, b) => a - b);
}
