// One inference on the GPU: feeds are written, segments encoded (a pass each, everything in one command buffer as far as
// the host is not needed), outputs copied and mapped. Also the times of each step, for profile().

import { check, throwIfAborted } from '../errors.js';
import { asBytes, copyOf, whole, windowIn } from '../values.js';
import { cut } from '../windows.js';
import { unfit } from './given.js';
import { callHost, storedTensor } from './host.js';
import { COPY_DST, COPY_SRC, STORAGE } from './shader.js';
import { asIs, storedBytes } from './stored.js';
import { StepClock } from './timing.js';
import { Waiter } from './wait.js';
import { Watch } from './watch.js';
import { Windows } from './windows.js';

/** @typedef {import('./plan.js').LoadedPlan} LoadedPlan */
/** @typedef {import('./types.d.ts').GpuFeed} GpuFeed */
/** @typedef {import('./types.d.ts').GpuOutput} GpuOutput */
/** @typedef {import('./types.d.ts').GpuRef} GpuRef */
/** @typedef {import('./outputs.js').Output} Output */
/** @typedef {import('../types.d.ts').HostValue} HostValue */
/** @typedef {import('../windows.js').Window} Window */
/** @typedef {{host: import('../host.js').Host, signal: AbortSignal}} Context */
/**
 * @typedef {object} RunOptions
 * @property {string[]} [fetch] names of the outputs wanted; default all
 * @property {(ArrayBufferView | null)[]} [into] where outputs go
 * @property {boolean[]} [stay] outputs that stay on the device
 * @property {boolean[]} [pin] outputs that may be views until the plan's next run
 * @property {(Window | null)[]} [windows] the parts of outputs that are wanted; null: all of it
 */

/**
 * @param {GPUDevice} device @param {LoadedPlan} loaded @param {string} session @param {GpuFeed[]} feeds
 * @param {RunOptions} options @param {Context} context @param {boolean} software
 * @returns {Promise<{outputs: GpuOutput[], ms: number, segments: {kind: string, ms: number}[]}>}
 */
export async function run(device, loaded, session, feeds, options, context, software) {
  if (loaded.asking) await loaded.asked();
  loaded.look();
  const watch = new Watch(device, `plan "${loaded.key}"`);
  /** @type {GPUBuffer[]} */
  const staying = [];
  watch.open();
  try {
    return await watched(watch, staying, device, loaded, session, feeds, options, context, software);
  } catch (cause) {
    for (const buffer of staying) buffer.destroy(); // nobody gets them, and their memory may be what is missing
    throw cause;
  } finally {
    watch.close();
  }
}

/**
 * @param {Watch} watch open @param {GPUBuffer[]} staying gets those of outputs that stay @param {GPUDevice} device @param {LoadedPlan} loaded @param {string} session @param {GpuFeed[]} feeds
 * @param {RunOptions} options @param {Context} context @param {boolean} software
 * @returns {Promise<{outputs: GpuOutput[], ms: number, segments: {kind: string, ms: number}[]}>}
 */
async function watched(watch, staying, device, loaded, session, feeds, { fetch, into = [], stay = [], pin = [], windows = [] }, context, software) {
  const start = performance.now();
  const { plan } = loaded;
  const told = (later = false) => watch.told().catch(async (wrong) => {
    loaded.asking = later;
    throw (wrong.code === 'BAD_PLAN' && await unfit(device, plan.inputs, feeds)) || wrong;
  });
  const most = software ? plan.submit.softwareFlops : plan.submit.flops;
  /** @type {Map<string, HostValue>} */
  const values = new Map();
  /** @type {Map<string, Uint8Array>} */
  const known = new Map();
  let encoder = device.createCommandEncoder({ label: loaded.key });
  const moves = (loaded.windows ??= new Windows(device, plan.inputs.length + plan.outputs.length));
  storeFeeds(encoder, moves, loaded, feeds, values, known);
  const segments = [];
  for (const [at, segment] of plan.segments.entries()) {
    throwIfAborted(context.signal);
    const begun = performance.now();
    if (segment.kind === 'gpu') {
      for (const { first, last, full } of loaded.parts(at, most)) {
        encodeSteps(encoder, loaded.steps, first, last);
        if (full) {
          device.queue.submit([encoder.finish()]);
          encoder = device.createCommandEncoder();
        }
      }
    } else {
      device.queue.submit([encoder.finish()]);
      watch.close();
      await callHost(device, loaded, session, segment, values, known, context, told);
      watch.open();
      encoder = device.createCommandEncoder();
    }
    segments.push({ kind: segment.kind, ms: performance.now() - begun });
  }
  const refs = outputsOf(plan.outputs, fetch);
  /** @type {GpuOutput[]} */
  const outputs = new Array(refs.length);
  /** @type {(Output & {at: number})[]} */
  const wanted = [];
  refs.forEach((ref, at) => {
    if (ref.host) outputs[at] = /** @type {HostValue} */ (values.get(ref.name) ?? loaded.values.get(ref.name));
    else if (stay[at] && asIs(ref.type, ref.stored)) {
      const gpuBuffer = kept(device, encoder, moves, loaded, ref, windows[at]);
      staying.push(gpuBuffer);
      outputs[at] = { gpuBuffer };
    } else if (windows[at]) wanted.push({ ref, buffer: loaded.buffer(ref.buffer), place: null, pin: false, at });
    else wanted.push({ ref, buffer: loaded.buffer(ref.buffer), place: placeFor(ref, into[at]), pin: Boolean(pin[at]), at });
  });
  moves.encode(encoder);
  loaded.outputs.encode(encoder, wanted);
  device.queue.submit([encoder.finish()]);
  watch.close();
  const waited = performance.now();
  if (wanted.some(({ ref }) => ref.nbytes)) {
    const waiter = (loaded.waiter ??= new Waiter(!software, loaded.plan.wait));
    const everyMs = software ? Infinity : loaded.plan.wait.everyMs;
    const reading = loaded.outputs.read(wanted, { first: (piece) => waiter.until(device, piece), everyMs });
    reading.catch(() => undefined); // what is wrong with the run says more than that its outputs could not be read
    const read = await told().then(() => reading).catch(async (wrong) => {
      await reading.catch(() => undefined); // their buffers are free again first
      loaded.outputs.forget(); // some may never have got any memory
      throw wrong;
    });
    wanted.forEach(({ at }, i) => {
      const window = windows[at];
      outputs[at] = window ? part(/** @type {Uint8Array} */ (read[i]), window, into[at]) : read[i];
    });
  } else {
    wanted.forEach(({ at, place }) => {
      outputs[at] = place ?? new Uint8Array(0); // a part of nothing is nothing
    });
    // nothing to read: what stays on the device is there for whoever is queued next, and few runs wait at a time
    await loaded.queued(Promise.all([device.queue.onSubmittedWorkDone(), told(true)]));
  }
  segments.push({ kind: 'readback', ms: performance.now() - waited });
  return { outputs, ms: performance.now() - start, segments };
}

/**
 * Times of each step by itself, by timestamp queries where the device has them, and of whole runs.
 * @param {GPUDevice} device @param {LoadedPlan} loaded @param {string} session @param {GpuFeed[]} feeds
 * @param {number} repeats @param {Context} context @param {boolean} software
 * @returns {Promise<import('../types.d.ts').ProfileResult>}
 */
export async function profile(device, loaded, session, feeds, repeats, context, software) {
  check(repeats >= 1, 'BAD_FEED', 'A profile takes at least one run.');
  const runs = [];
  /** @type {{kind: string, ms: number}[]} */
  let segments = [];
  for (let i = 0; i < repeats; i++) {
    const whole = await run(device, loaded, session, feeds, {}, context, software);
    runs.push(whole.ms);
    segments = whole.segments;
  }
  const clock = new StepClock(device);
  const steps = [];
  try {
    for (let step = 0; step < loaded.steps.length; step++) {
      throwIfAborted(context.signal);
      const { ms } = await clock.time((pass) => loaded.steps[step].kernel.encode(pass, loaded.steps[step].group), { samples: Math.min(repeats, 5) });
      steps.push({ step, ms: [ms], mean: [ms] });
    }
  } finally {
    clock.destroy();
  }
  runs.sort((a, b) => a - b);
  return { steps, segments: /** @type {any} */ (segments), runMs: runs[runs.length >> 1] };
}

/** @param {GPUCommandEncoder} encoder @param {import('./plan.js').Bound[]} steps @param {number} first @param {number} last */
function encodeSteps(encoder, steps, first, last) {
  const pass = encoder.beginComputePass();
  /** @type {GPUComputePipeline | undefined} */
  let before;
  for (let i = first; i < last; i++) {
    const { pipeline, group, x, y, z } = steps[i];
    if (pipeline !== before) pass.setPipeline(pipeline);
    before = pipeline;
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(x, y, z);
  }
  pass.end();
}

/**
 * @param {GPUCommandEncoder} encoder @param {Windows} moves @param {LoadedPlan} loaded @param {GpuFeed[]} feeds
 * @param {Map<string, HostValue>} values @param {Map<string, Uint8Array>} known
 */
function storeFeeds(encoder, moves, loaded, feeds, values, known) {
  const { inputs } = loaded.plan;
  check(feeds.length === inputs.length, 'BAD_FEED', `The plan has ${inputs.length} inputs; ${feeds.length} were fed.`,
    { expected: inputs.length, got: feeds.length });
  /** @type {import('./upload.js').Tensor[]} */
  const given = [];
  inputs.forEach((ref, i) => {
    const feed = feeds[i];
    if (ref.host) {
      values.set(ref.name, /** @type {HostValue} */ (feed));
      return;
    }
    if ('gpuBuffer' in feed) {
      const size = feed.window?.nbytes ?? storedBytes(ref.type, ref.stored, ref.nbytes);
      check(asIs(ref.type, ref.stored), 'BAD_FEED', `Input "${ref.name}" is ${ref.type}, which this device keeps in wider elements: feed it from the processor.`,
        { name: ref.name });
      check(feed.gpuBuffer.size >= size && (feed.gpuBuffer.usage & COPY_SRC) !== 0, 'BAD_FEED',
        `Input "${ref.name}" takes ${size} bytes of a buffer with usage COPY_SRC.`, { name: ref.name });
      const to = loaded.buffer(ref.buffer);
      if (feed.window) moves.add(encoder, { slot: i, window: feed.window, source: feed.gpuBuffer, target: to, spread: true });
      else if (size) encoder.copyBufferToBuffer(feed.gpuBuffer, 0, to, 0, Math.ceil(size / 4) * 4);
      return;
    }
    const bytes = windowIn(feed) ? whole(/** @type {import('../types.d.ts').Windowed} */ (feed)) : asBytes(feed);
    check(bytes !== null && bytes.byteLength === ref.nbytes, 'BAD_FEED',
      `Input "${ref.name}" takes ${ref.nbytes} bytes; ${bytes?.byteLength ?? 'no buffer'} came.`,
      { name: ref.name, expected: ref.nbytes, got: bytes?.byteLength });
    given.push(storedTensor(loaded, ref, bytes));
    if (loaded.needs(ref.name)) known.set(ref.name, copyOf(bytes));
  });
  moves.encode(encoder);
  loaded.upload.write(given);
}

/**
 * An output that stays: a copy, because the plan's own buffer is written again by the next run.
 * @param {GPUDevice} device @param {GPUCommandEncoder} encoder @param {Windows} moves @param {LoadedPlan} loaded @param {GpuRef} ref
 * @param {Window | null | undefined} window the part that is wanted
 */
function kept(device, encoder, moves, loaded, ref, window) {
  const nbytes = window?.nbytes ?? ref.nbytes;
  const size = Math.max(16, Math.ceil(nbytes / 16) * 16);
  const buffer = device.createBuffer({ label: ref.name, size, usage: STORAGE | COPY_SRC | COPY_DST });
  const slot = loaded.plan.inputs.length + loaded.plan.outputs.indexOf(ref);
  if (window) moves.add(encoder, { slot, window, source: loaded.buffer(ref.buffer), target: buffer, spread: false });
  else if (ref.nbytes) encoder.copyBufferToBuffer(loaded.buffer(ref.buffer), 0, buffer, 0, Math.ceil(ref.nbytes / 4) * 4);
  return buffer;
}

/** @param {Uint8Array} all @param {Window} window @param {ArrayBufferView | null | undefined} place @returns {Uint8Array} */
function part(all, window, place) {
  const bytes = (place && asBytes(place)) ?? new Uint8Array(window.nbytes);
  cut(window, all, bytes);
  return bytes;
}

/** @param {GpuRef} ref @param {ArrayBufferView | null | undefined} place */
function placeFor(ref, place) {
  const bytes = place ? asBytes(place) : null;
  check(!bytes || bytes.byteLength === ref.nbytes, 'BAD_FEED',
    `Output "${ref.name}" has ${ref.nbytes} bytes; there is room for ${bytes?.byteLength}.`, { name: ref.name });
  return bytes;
}

/** @param {import('./types.d.ts').GpuValueRef[]} outputs @param {string[] | undefined} fetch */
function outputsOf(outputs, fetch) {
  return fetch?.map((name) => {
    const ref = outputs.find((output) => output.name === name);
    check(ref !== undefined, 'BAD_FEED', `The plan has no output "${name}".`, { name });
    return ref;
  }) ?? outputs;
}
