// A plan comes onto a device: pipelines are compiled in parallel while constants stream in, steps at load run, and every
// step gets its bind group once. Fails whole: what it had made is destroyed.

import { NnjitError, check, throwIfAborted } from '../errors.js';
import { callHost } from './host.js';
import { Initializer } from './init.js';
import { Outputs } from './outputs.js';
import { COPY_DST, COPY_SRC, STORAGE, ShaderError } from './shader.js';
import { Upload } from './upload.js';
import { reclaimed } from './watch.js';

/** @typedef {import('./types.d.ts').GpuPlan} GpuPlan */
/** @typedef {import('./types.d.ts').GpuBinding} GpuBinding */
/** @typedef {import('./types.d.ts').GpuInitItem} GpuInitItem */
/** @typedef {import('./early.js').Early} Early */
/** @typedef {import('./shader.js').ShaderKernel} ShaderKernel */
/** @typedef {import('./shader.js').Pipelines} Pipelines */
/** @typedef {import('../types.d.ts').HostValue} HostValue */
/** @typedef {{host: import('../host.js').Host, signal: AbortSignal, progress: import('../types.d.ts').Progress, software: boolean}} Context */
/**
 * A step as the loop over a run's steps takes it: nothing is looked up there.
 * @typedef {{kernel: ShaderKernel, group: GPUBindGroup, pipeline: GPUComputePipeline, x: number, y: number, z: number}} Bound
 */

export class LoadedPlan {
  /** @type {Bound[]} one a step */
  steps = [];
  /** What host calls made at load. @type {Map<string, HostValue>} */
  values = new Map();
  /** @type {Set<string>} */
  #hosted;
  /** @type {Promise<unknown>[]} */
  #flight = [];
  /** No run has ended that could have told what is wrong. */
  #first = true;
  /** What was wrong with a run that had ended by then. @type {unknown} */
  #fault = null;
  /** A run whose outputs stay on the device was refused, and the device is asked why. */
  asking = false;
  /** @type {import('./wait.js').Waiter | null} */
  waiter = null;
  /** What moves parts of feeds and outputs, once a run has any. @type {import('./windows.js').Windows | null} */
  windows = null;

  /**
   * @param {GpuPlan} plan @param {(GPUBuffer | null)[]} buffers null once a staged one is given back
   * @param {Upload} upload what feeds come through @param {Outputs} outputs how they come back
   */
  constructor(plan, buffers, upload, outputs) {
    this.upload = upload;
    this.outputs = outputs;
    this.key = plan.key;
    this.plan = { ...plan, shaders: [], init: [] }; // the texts and the constants have done their work
    this.buffers = buffers;
    this.#hosted = new Set(plan.segments.flatMap((s) => (s.kind === 'host' ? s.inputs.map(({ name }) => name) : [])));
  }

  /** Whether a host call of a run reads this tensor. @param {string} name */
  needs(name) {
    return this.#hosted.has(name);
  }

  /** @param {number} at @returns {GPUBuffer} */
  buffer(at) {
    const found = this.buffers[at];
    check(found !== null && found !== undefined, 'BAD_PLAN', `Plan "${this.key}" uses buffer ${at} after it was freed.`);
    return found;
  }

  /** When another run may be queued. @param {Promise<unknown>} done when the device is through with the last one */
  async queued(done) {
    done.catch((fault) => {
      this.#fault = fault;
    });
    this.#flight.push(done);
    const most = this.#first ? 0 : this.plan.submit.runs;
    await Promise.allSettled(this.#flight.splice(0, Math.max(0, this.#flight.length - most)));
    this.look();
    this.#first = false;
  }

  /** While the device is asked why it refused a run: resolves when `look` tells. */
  async asked() {
    await Promise.allSettled(this.#flight);
  }

  /** Throws what was wrong with a run whose outputs stayed on the device, once. */
  look() {
    const fault = this.#fault;
    this.#fault = null;
    if (!fault) return;
    this.asking = false;
    throw fault;
  }

  /** @param {ShaderKernel} kernel @param {GpuBinding[]} bindings @returns {Bound} */
  step(kernel, bindings) {
    const [x, y, z] = kernel.shader.dispatch;
    return { kernel, group: this.bind(kernel, bindings), pipeline: kernel.pipeline, x, y, z };
  }

  /**
   * The steps of a segment in parts of no more than so many operations: after each a run is submitted. What the segment
   * before it left open counts, and the last part stays open.
   * @param {number} at segment @param {number} most @returns {{first: number, last: number, full: boolean}[]}
   */
  parts(at, most) {
    return (this.#parts ??= cut(this.plan, most))[at];
  }

  /** @type {{first: number, last: number, full: boolean}[][] | undefined} */
  #parts;

  /** @param {ShaderKernel} kernel @param {GpuBinding[]} bindings */
  bind(kernel, bindings) {
    return kernel.bind(bindings.map(([at, offset, size]) => ({ buffer: this.buffer(at), offset, size })));
  }

  /**
   * Steps get other shaders, between two runs, with the constants these read made over first. Nothing has changed where
   * it fails.
   * @param {GPUDevice} device @param {Pipelines} pipelines @param {Map<number, GPUBuffer>} constants @param {import('./types.d.ts').GpuAdoption} adoption
   */
  async adopt(device, pipelines, constants, { steps, buffers, work, free }) {
    const kernels = await Promise.all([...steps, ...work].map(({ shader }) => pipelines.get(shader)));
    device.pushErrorScope('out-of-memory');
    device.pushErrorScope('validation');
    const before = this.buffers.length;
    const made = buffers.map(({ nbytes }, i) => device.createBuffer({ label: `${this.key} ${before + i}`, size: nbytes, usage: STORAGE | COPY_SRC | COPY_DST }));
    this.buffers.push(...made);
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    work.forEach(({ bindings }, i) => kernels[steps.length + i].encode(pass, this.bind(kernels[steps.length + i], bindings)));
    pass.end();
    const bound = steps.map(({ bindings }, i) => this.step(kernels[i], bindings));
    device.queue.submit([encoder.finish()]);
    const wrong = (await Promise.all([device.popErrorScope(), device.popErrorScope()])).find(Boolean);
    if (wrong) {
      this.buffers.length = before;
      for (const buffer of made) buffer.destroy();
      throw new NnjitError('BAD_PLAN', `The device refused a kernel for plan "${this.key}": ${wrong.message}`, { plan: this.key });
    }
    steps.forEach(({ step }, i) => {
      this.steps[step] = bound[i];
    });
    this.plan.buffers = [...this.plan.buffers, ...buffers];
    buffers.forEach(({ constant, staged }, i) => {
      if (staged) this.give(before + i);
      else if (constant >= 0) constants.set(constant, made[i]);
    });
    for (const at of free) {
      constants.delete(this.plan.buffers[at].constant);
      this.give(at);
    }
    this.#first = true;
  }

  /** Nothing reads it any more. @param {number} at */
  give(at) {
    this.buffers[at]?.destroy(); // after what was submitted
    this.buffers[at] = null;
  }

  /** Gives back all but the session's constants. */
  destroy() {
    this.plan.buffers.forEach(({ constant }, i) => {
      if (constant < 0) this.buffers[i]?.destroy();
    });
    this.outputs.destroy();
    this.upload.destroy();
    this.windows?.destroy();
  }
}

/** What LoadedPlan.parts gives, of all segments. @param {GpuPlan} plan @param {number} most */
function cut({ segments, steps }, most) {
  let pending = 0;
  return segments.map((segment) => {
    /** @type {{first: number, last: number, full: boolean}[]} */
    const parts = [];
    if (segment.kind !== 'gpu') {
      pending = 0; // it was submitted before the host was asked
      return parts;
    }
    for (let first = segment.first, last = first; first < segment.last; first = last) {
      while (last < segment.last && (last === first || pending < most)) pending += steps[last++].flops ?? 0;
      const full = pending >= most;
      parts.push({ first, last, full });
      if (full) pending = 0;
    }
    return parts;
  });
}

/**
 * A plan's buffers: constants of the session that are there, those that came early, and new ones.
 * @param {GPUDevice} device @param {GpuPlan} plan @param {Map<number, GPUBuffer>} constants @param {Early | null} early
 * @returns {Promise<{buffers: GPUBuffer[], fresh: Map<number, GPUBuffer>, there: Set<number>, full: GPUError | null}>} fresh: new constants;
 *   there: buffers that came early, by number; full: there was no room
 */
async function allocate(device, plan, constants, early) {
  /** @type {Map<number, GPUBuffer>} */
  const fresh = new Map();
  /** @type {Set<number>} */
  const there = new Set();
  device.pushErrorScope('out-of-memory');
  const buffers = plan.buffers.map(({ nbytes, constant, early: told }, i) => {
    const known = constants.get(constant) ?? fresh.get(constant);
    if (constant >= 0 && known) return known;
    const came = told === undefined ? undefined : early?.take(told, nbytes);
    if (came) there.add(i);
    const made = came ?? device.createBuffer({ label: `${plan.key} ${i}`, size: nbytes, usage: STORAGE | COPY_SRC | COPY_DST });
    if (constant >= 0) fresh.set(constant, made);
    return made;
  });
  return { buffers, fresh, there, full: await device.popErrorScope() };
}

/**
 * What is left to do at load. @param {GpuPlan} plan @param {Set<number>} there buffers that came early @returns {GpuInitItem[]}
 */
function missing({ init, shaders }, there) {
  return init.filter((item) => {
    if (item.kind === 'free' || item.kind === 'host') return true;
    if (item.kind !== 'step') return !there.has(item.buffer);
    const { bindings } = shaders[item.shader];
    return item.bindings.some(([buffer], i) => bindings[i].role === 'out' && !there.has(buffer));
  });
}

/**
 * @param {GPUDevice} device
 * @param {GpuPlan} plan
 * @param {Pipelines} pipelines of the session
 * @param {Map<number, GPUBuffer>} constants of the session by id; gets those that are new
 * @param {import('../source.js').Bytes[]} sources
 * @param {Context} context
 * @param {string} session
 * @param {Early | null} [given] constants that were told while the plan was being made; what it does not want is destroyed
 * @returns {Promise<{loaded: LoadedPlan, compileMs: number, initMs: number, early: number}>} early: bytes of constants that were there before
 */
export async function loadPlan(device, plan, pipelines, constants, sources, context, session, given = null) {
  const started = performance.now();
  context.progress('compile', 0, 1);
  const early = given?.sent || 0;
  // all at once: the browser compiles them on its own threads, and constants come in meanwhile
  const kernels = plan.shaders.map((shader) => pipelines.get(shader));
  for (const kernel of kernels) kernel.catch(() => undefined); // awaited below
  const bytes = plan.init.reduce((sum, item) => sum + (item.kind === 'range' ? item.length : 0), 0);
  const steps = plan.init.filter(({ kind }) => kind === 'step' || kind === 'host').length;
  let [read, stepped] = [early, 0];
  const progress = (/** @type {number} */ more) => context.progress('load', read = Math.min(read + more, bytes), bytes);
  if (given) given.onRead = progress;
  const coming = given && (await given.done(context.signal)) ? given : null;
  let { buffers, fresh, there, full } = await allocate(device, plan, constants, coming);
  coming?.destroy();
  if (full) {
    for (const buffer of new Set(buffers)) if (![...constants.values()].includes(buffer)) buffer.destroy();
    await reclaimed(device); // what others have let go may be all that is missing
    ({ buffers, fresh, there, full } = await allocate(device, plan, constants, null));
  }
  const loaded = new LoadedPlan(plan, buffers, new Upload(device, context.software ? 0 : undefined), new Outputs(device, plan.spares));
  const undo = () => {
    loaded.destroy();
    for (const buffer of fresh.values()) buffer.destroy();
  };
  try {
    throwIfAborted(context.signal);
    if (full) {
      const asked = plan.buffers.reduce((sum, { nbytes }) => sum + nbytes, 0);
      throw new NnjitError('MODEL_TOO_LARGE', `The GPU has no room for the ${asked} bytes of this plan: ${full.message}`, { asked });
    }
    const places = {
      buffer: (/** @type {number} */ at) => loaded.buffer(at),
      bind: (/** @type {ShaderKernel} */ kernel, /** @type {GpuBinding[]} */ bindings) => loaded.bind(kernel, bindings),
      give: (/** @type {number} */ at) => loaded.give(at),
      kernel: (/** @type {number} */ at) => kernels[at],
      host: (/** @type {import('./types.d.ts').GpuHostCall} */ call) =>
        callHost(device, loaded, session, call, loaded.values, new Map(), context),
    };
    const how = { signal: context.signal, read: progress, stepped: () => context.progress('init', ++stepped, steps) };
    await new Initializer(device, places, sources, how).run(missing(plan, there));
    const initialized = performance.now();
    const compiled = await Promise.all(kernels);
    throwIfAborted(context.signal);
    loaded.steps = plan.steps.map(({ shader, bindings }) => loaded.step(compiled[shader], bindings));
    context.progress('compile', 1, 1);
    for (const [id, buffer] of fresh) constants.set(id, buffer);
    return { loaded, initMs: initialized - started, compileMs: performance.now() - started, early };
  } catch (cause) {
    undo();
    if (cause instanceof ShaderError) {
      const ends = await Promise.allSettled(kernels);
      cause.kernels = ends.flatMap(({ status }, i) => (status === 'rejected' ? i : []));
    }
    throw cause;
  }
}
