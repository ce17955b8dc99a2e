// The GPU's side of the bench: single shaders by timestamp queries, peers and whole models by the wall clock. Python
// decides what to time (gpu.py); everything happens in one page, on one device for nnjit and those of the peers.
import { GpuDevice } from '/engine/webgpu/device.js';
import { COPY_DST, COPY_SRC, STORAGE, ShaderKernel } from '/engine/webgpu/shader.js';
import { readBuffer } from '/engine/webgpu/readback.js';
import { StepClock } from '/engine/webgpu/timing.js';
import { decode } from '/t/support/values.js';
import { bring, open, touch, touchApart } from './gpu_readback.js';

/** @typedef {import('/engine/webgpu/shader.js').Shader} Shader */

/** @type {GpuDevice} */
let gpu;
/** @type {any} */
let tf;
/** @type {any} */
let ort;

/** Facts about the adapter, for the compiler and for the record. */
async function start() {
  gpu = await GpuDevice.open();
  if (!gpu.facts.software) heater = new Heater(gpu.device);
  return gpu.facts;
}

/** @type {Heater | undefined} */
let heater;

const HEAT = `@group(0) @binding(0) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(256) fn kernel(@builtin(global_invocation_id) id: vec3u) {
  var x = vec4f(f32(id.x));
  for (var i = 0; i < 8192; i++) { x = fma(x, vec4f(0.999), vec4f(0.5)); }
  out[id.x & 1023u] = x.x + x.y + x.z + x.w;
}`;

/**
 * Keeps a GPU at its full clock between timings: one that has little to do falls to a sixth of it within seconds, and
 * kernels of microseconds do not raise it. It rests while something is timed.
 */
class Heater {
  #on = false;
  /** @type {Promise<void>} */
  #done = Promise.resolve();

  /** @param {GPUDevice} device */
  constructor(device) {
    this.device = device;
    this.pipeline = device.createComputePipeline({ layout: 'auto', compute: { module: device.createShaderModule({ code: HEAT }) } });
    const buffer = device.createBuffer({ size: 4096, usage: STORAGE });
    this.group = device.createBindGroup({ layout: this.pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer } }] });
  }

  start() {
    if (this.#on) return;
    this.#on = true;
    this.#done = this.#run();
  }

  /** Comes back when the queue is empty, after at least `ms` of work. @param {number} ms */
  async rest(ms) {
    this.start();
    await new Promise((resolve) => setTimeout(resolve, ms));
    this.#on = false;
    await this.#done;
  }

  async #run() {
    let before = Promise.resolve();
    while (this.#on) {
      const encoder = this.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(this.pipeline);
      pass.setBindGroup(0, this.group);
      for (let i = 0; i < 4; i++) pass.dispatchWorkgroups(4096);
      pass.end();
      this.device.queue.submit([encoder.finish()]);
      const now = this.device.queue.onSubmittedWorkDone();
      await before; // the next is queued while this one runs
      before = now;
    }
    await before;
  }
}

/** Before the wall clock is used: nothing else may run then. */
const settled = async () => heater?.rest(HEAT_MS);
const HEAT_MS = 60;
/** What an idle GPU takes to come to its full clock, and more. */
const RAISE_MS = 400;

/** Numbers in -0.5 .. 0.5 that gpu.py could make too: element i of stream s. @param {number} i @param {number} s */
const number = (i, s) => ((((i + s * 7919) * 2654435761) >>> 8) & 0xffff) / 65536 - 0.5;

/** Four bytes in a word, element i of stream s. @param {number} i @param {number} s */
const word = (i, s) => Math.imul((i + s * 7919) ^ 0x5bd1e995, 2654435761) ^ (i >>> 3);

/** @param {number} count @param {number} stream */
function numbers(count, stream) {
  const out = new Float32Array(count);
  for (let i = 0; i < count; i++) out[i] = number(i, stream);
  return out;
}

/** @type {Map<string, GPUBuffer>} filled once: the candidates of a shape read the same */
const filled = new Map();

/** @param {number} nbytes @param {string} dtype @param {number} size @param {number} stream */
function filledBuffer(nbytes, dtype, size, stream) {
  const key = `${nbytes} ${dtype} ${stream}`;
  let buffer = filled.get(key);
  if (!buffer) {
    buffer = gpu.device.createBuffer({ size: nbytes, usage: STORAGE | COPY_SRC | COPY_DST });
    let data = /** @type {ArrayBufferView} */ (numbers(size, stream));
    if (dtype === 'i32') data = Int32Array.from({ length: size }, (_, i) => word(i, stream));
    if (dtype === 'f16') data = new (/** @type {any} */ (globalThis).Float16Array)(data);
    const bytes = new Uint8Array(data.buffer, 0, data.byteLength - (data.byteLength % 4));
    gpu.device.queue.writeBuffer(buffer, 0, bytes);
    filled.set(key, buffer);
  }
  return buffer;
}

function forget() {
  for (const buffer of filled.values()) buffer.destroy();
  filled.clear();
}

/**
 * Times a shader on numbers; with `product` looks at places of the result first: a shader that computes something else
 * has no time.
 * @param {Shader} shader @param {{m: number, k: number, n: number, right: string} | null} product @param {{samples?: number}} how
 */
async function timeShader(shader, product, how) {
  const begun = performance.now();
  const kernel = await ShaderKernel.create(gpu.device, shader);
  const compileMs = performance.now() - begun;
  const buffers = shader.bindings.map((b, i) =>
    b.role === 'in' ? filledBuffer(b.nbytes, b.dtype, b.size, i)
      : gpu.device.createBuffer({ size: b.nbytes, usage: STORAGE | COPY_SRC | COPY_DST }));
  const group = kernel.bind(buffers.map((buffer) => ({ buffer })));
  const clock = new StepClock(gpu.device);
  gpu.device.pushErrorScope('validation');
  try {
    await settled();
    const timed = await clock.time((pass) => kernel.encode(pass, group), { samples: 3, sampleMs: 3, limitMs: 400, ...how });
    heater?.start();
    const check = shader.bindings[0].dtype === 'i32' ? wrongBytes : wrong;
    const error = product ? await check(buffers[2], shader.bindings[2], product) : 0;
    return { ...timed, compileMs, error };
  } finally {
    const scope = await gpu.device.popErrorScope();
    clock.destroy();
    shader.bindings.forEach((b, i) => b.role === 'out' && buffers[i].destroy());
    if (scope) throw new Error(scope.message);
  }
}

/** The largest error relative to the root of k, of 64 places. @param {GPUBuffer} buffer @param {any} binding @param {any} product */
async function wrong(buffer, binding, { m, k, n, right }) {
  const half = binding.dtype === 'f16' && gpu.facts.features.includes('shader-f16');
  const bytes = await readBuffer(gpu.device, buffer, Math.ceil((m * n * (half ? 2 : 4)) / 4) * 4);
  const found = half ? new (/** @type {any} */ (globalThis).Float16Array)(bytes.buffer) : new Float32Array(bytes.buffer);
  let most = 0;
  for (let i = 0; i < 64; i++) {
    const at = Math.floor(((i * 2654435761) % 2 ** 32) / 2 ** 32 * m * n);
    const [row, column] = [Math.floor(at / n), at % n];
    let sum = 0;
    for (let j = 0; j < k; j++) sum += number(row * k + j, 0) * number(right === 'kn' ? j * n + column : column * k + j, 1);
    most = Math.max(most, Math.abs(found[at] - sum));
  }
  return most / Math.sqrt(k);
}

/** The same of i8 in words along the sum, on both sides, where sums are exact. @param {GPUBuffer} buffer @param {any} binding @param {any} product */
async function wrongBytes(buffer, binding, { m, k, n }) {
  const found = new Int32Array((await readBuffer(gpu.device, buffer, m * n * 4)).buffer);
  const byte = (/** @type {number} */ i, /** @type {number} */ s) => (word(i >> 2, s) << (24 - 8 * (i & 3))) >> 24;
  let most = 0;
  for (let i = 0; i < 64; i++) {
    const at = Math.floor(((i * 2654435761) % 2 ** 32) / 2 ** 32 * m * n);
    const [row, column] = [Math.floor(at / n), at % n];
    let sum = 0;
    for (let j = 0; j < k; j++) sum += byte(row * k + j, 0) * byte(column * k + j, 1);
    most = Math.max(most, Math.abs(found[at] - sum));
  }
  return most;
}

/**
 * Times a shader whose operand `cold` is another buffer in every turn, as many as no cache holds together. Results lie
 * apart, so that no dispatch waits for another.
 * @param {Shader} shader @param {number} cold @param {number} total bytes of all of them
 * @param {{m: number, k: number, n: number, right: string} | null} product @param {number} bits of weights in words, 0 for none
 */
async function timeCold(shader, cold, total, product, bits) {
  const kernel = await ShaderKernel.create(gpu.device, shader);
  const made = /** @type {GPUBuffer[]} */ ([]);
  const groups = /** @type {GPUBindGroup[]} */ ([]);
  const [first, ...rest] = Array.from({ length: Math.ceil(total / shader.bindings[cold].nbytes) }, () => shader.bindings.map((b, i) => {
    if (b.role === 'in' && i !== cold) return filledBuffer(b.nbytes, b.dtype, b.size, i);
    const buffer = gpu.device.createBuffer({ size: b.nbytes, usage: STORAGE | COPY_SRC | COPY_DST });
    made.push(buffer);
    return buffer;
  }));
  const encoder = gpu.device.createCommandEncoder();
  const b = shader.bindings[cold];
  for (const set of [first, ...rest]) {
    encoder.copyBufferToBuffer(filledBuffer(b.nbytes, b.dtype, b.size, cold), 0, set[cold], 0, b.nbytes);
    groups.push(kernel.bind(set.map((buffer) => ({ buffer }))));
  }
  gpu.device.queue.submit([encoder.finish()]);
  const clock = new StepClock(gpu.device);
  gpu.device.pushErrorScope('validation');
  try {
    await settled();
    const timed = await clock.time((pass) => groups.forEach((group) => kernel.encode(pass, group)), { samples: 5, sampleMs: 3, limitMs: 400 });
    heater?.start();
    const out = shader.bindings.length - 1;
    const error = bits && product ? await wrongBits(first[out], shader.bindings[1], product, bits)
      : product ? await wrong(first[out], shader.bindings[out], product) : 0;
    const each = (/** @type {number} */ ms) => ms / groups.length;
    return { ...timed, ms: each(timed.ms), min: each(timed.min), max: each(timed.max), samples: timed.samples.map(each), buffers: groups.length, error };
  } finally {
    const scope = await gpu.device.popErrorScope();
    clock.destroy();
    made.forEach((buffer) => buffer.destroy());
    if (scope) throw new Error(scope.message);
  }
}

/** As `wrong`, of weights in words: (code - middle) * scale. @param {GPUBuffer} buffer @param {any} binding of the words @param {any} product @param {number} bits */
async function wrongBits(buffer, binding, { k, n }, bits) {
  const found = new Float32Array((await readBuffer(gpu.device, buffer, n * 4)).buffer);
  const each = 32 / bits;
  let most = 0;
  for (let i = 0; i < 64; i++) {
    const column = Math.floor(((i * 2654435761) % 2 ** 32) / 2 ** 32 * n);
    let sum = 0;
    for (let j = 0; j < k; j++) {
      const at = column * (binding.size / n) + Math.floor(j / each);
      const code = (word(at, 1) >>> (bits * (j % each))) & (2 ** bits - 1);
      sum += number(j, 0) * (code - 2 ** (bits - 1)) * number(column * (k / 32) + Math.floor(j / 32), 2);
    }
    most = Math.max(most, Math.abs(found[column] - sum));
  }
  return most / Math.sqrt(k) / 2 ** (bits - 1);
}

/** Bytes a second of reading and writing 256 MiB. @param {Shader} shader */
async function copyRate(shader) {
  const { ms } = await timeShader(shader, null, { samples: 5 });
  forget();
  return shader.bindings.reduce((sum, b) => sum + b.nbytes, 0) / ms / 1e6;
}

/** @param {string} url */
const script = (url) => new Promise((resolve, reject) => {
  const element = Object.assign(document.createElement('script'), { src: url, onload: resolve, onerror: reject });
  document.head.append(element);
});

async function loadTf() {
  if (tf) return;
  await script('/vendor/peers/tfjs-4.22.0/tf.min.js');
  await script('/vendor/peers/tfjs-4.22.0/tf-backend-webgpu.min.js');
  tf = /** @type {any} */ (globalThis).tf;
  await tf.setBackend('webgpu');
  await tf.ready();
  if (tf.getBackend() !== 'webgpu') throw new Error(`TF.js runs on ${tf.getBackend()}`);
}

async function loadOrt() {
  if (ort) return;
  const folder = new URL('/vendor/peers/onnxruntime-web-1.30.0/', location.href).href;
  ort = await import(`${folder}ort.webgpu.min.mjs`);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = folder;
  ort.env.logLevel = 'error';
}

/**
 * Milliseconds a call over `queued` calls, of which only the last is waited for: the median of five.
 * @param {() => any} call @param {(last: any) => Promise<void>} finish @param {number} queued
 */
async function wall(call, finish, queued) {
  await settled();
  await finish(await call());
  await finish(await call());
  const samples = [];
  for (let i = 0; i < 5; i++) {
    const start = performance.now();
    let last;
    for (let j = 0; j < queued; j++) last = await call();
    await finish(last);
    samples.push((performance.now() - start) / queued);
  }
  return samples.sort((a, b) => a - b)[2];
}

/** @param {{m: number, k: number, n: number, right: string}} product @param {number} queued */
async function tfProduct({ m, k, n, right }, queued) {
  await loadTf();
  const a = tf.tensor(numbers(m * k, 0), [m, k]);
  const b = tf.tensor(numbers(k * n, 1), right === 'kn' ? [k, n] : [n, k]);
  /** @type {any[]} */
  let made = [];
  const call = () => {
    const y = tf.matMul(a, b, false, right !== 'kn');
    made.push(y);
    return y;
  };
  const finish = async () => {
    // an element read back: the queue is TF.js's own business, and this waits for all of it
    const one = tf.slice(made[made.length - 1], [0, 0], [1, 1]);
    await one.data();
    one.dispose();
    made.forEach((y) => y.dispose());
    made = [];
  };
  try {
    return await wall(call, finish, queued);
  } finally {
    a.dispose();
    b.dispose();
  }
}

/**
 * A model whose tensors stay on the device: ms a run over `queued` runs, and the first values of its first output.
 * @param {'nnjit' | 'onnxruntime-web'} name @param {string} url @param {number[][]} dims of the inputs, in order
 * @param {string} type @param {number} queued
 */
async function resident(name, url, dims, type, queued) {
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

/** @param {'nnjit' | 'onnxruntime-web'} name @returns {Promise<any>} */
async function library(name) {
  if (name !== 'nnjit') {
    await loadOrt();
    return ort;
  }
  const api = (await import(/** @type {string} */ ('/nnjit.js'))).default;
  await api.ready;
  return api;
}

/** @param {number} nbytes */
const openReadback = (nbytes) => open(gpu.device, nbytes);

/** @type {{session: any, feeds: any} | null} the model whose steps are counted, see gpu_dispatch.py */
let chain = null;

/** @param {string} url @param {number[]} dims of its input @returns {Promise<number>} steps of a run */
async function openChain(url, dims) {
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
async function spinChain(runs) {
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

async function closeChain() {
  await chain?.session.release();
  chain = null;
}

/**
 * Both libraries are up, with a device and their code compiled, before the first model is timed.
 * @param {'nnjit' | 'onnxruntime-web'} name @param {string} url of y = f(x), three numbers
 */
async function warm(name, url) {
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
async function model(name, url, inputs, blobUrl, repeats, stays) {
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

Object.assign(globalThis, { bench: { start, timeShader, timeCold, copyRate, tfProduct, resident, openChain, spinChain, closeChain, warm, model, forget, openReadback, bring, touch, touchApart } });
