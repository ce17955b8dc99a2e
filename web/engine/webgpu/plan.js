// A plan comes onto a device: pipelines are compiled in parallel while constants stream in, steps at load run, and every
// step gets its bind group once. Fails whole: what it had made is destroyed.

import { NnjitError, check, throwIfAborted } from '../errors.js';
import { chunks } from '../source.js';
import { callHost } from './host.js';
import { COPY_DST, COPY_SRC, STORAGE, ShaderKernel } from './shader.js';
import { wholeWords, widen } from './stored.js';

/** @typedef {import('./types.d.ts').GpuPlan} GpuPlan */
/** @typedef {import('./types.d.ts').GpuBinding} GpuBinding */
/** @typedef {import('../types.d.ts').HostValue} HostValue */
/** @typedef {{host: import('../host.js').Host, signal: AbortSignal, progress: import('../types.d.ts').Progress}} Context */
/** @typedef {{kernel: ShaderKernel, group: GPUBindGroup}} Bound */

/** Bytes of constants between two waits for the device, so that what is under way stays bounded. */
const IN_FLIGHT = 64 << 20;

export class LoadedPlan {
  /** @type {Bound[]} one a step */
  steps = [];
  /** What host calls made at load. @type {Map<string, HostValue>} */
  values = new Map();
  /** @type {Set<string>} */
  #hosted;
  /** Whether a run of it has been looked at for errors. */
  proven = false;
  /** Where outputs are read back, made at the first run. @type {GPUBuffer | null} */
  readback = null;

  /**
   * @param {GpuPlan} plan @param {(GPUBuffer | null)[]} buffers null once a staged one is given back
   */
  constructor(plan, buffers) {
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

  /** Gives back all but the session's constants. */
  destroy() {
    this.plan.buffers.forEach(({ constant }, i) => {
      if (constant < 0) this.buffers[i]?.destroy();
    });
    this.readback?.destroy();
  }
}

/**
 * @param {GPUDevice} device
 * @param {GpuPlan} plan
 * @param {Map<number, GPUBuffer>} constants of the session by id; gets those that are new
 * @param {Blob[]} sources
 * @param {Context} context
 * @param {string} session
 * @returns {Promise<{loaded: LoadedPlan, compileMs: number, initMs: number}>}
 */
export async function loadPlan(device, plan, constants, sources, context, session) {
  const started = performance.now();
  context.progress('compile', 0, 1);
  /** @type {Map<number, GPUBuffer>} */
  const fresh = new Map();
  device.pushErrorScope('out-of-memory');
  const buffers = plan.buffers.map(({ nbytes, constant }, i) => {
    const known = constants.get(constant) ?? fresh.get(constant);
    if (constant >= 0 && known) return known;
    const made = device.createBuffer({ label: `${plan.key} ${i}`, size: nbytes, usage: STORAGE | COPY_SRC | COPY_DST });
    if (constant >= 0) fresh.set(constant, made);
    return made;
  });
  const full = await device.popErrorScope();
  const loaded = new LoadedPlan(plan, buffers);
  const undo = () => {
    loaded.destroy();
    for (const buffer of fresh.values()) buffer.destroy();
  };
  try {
    if (full) {
      const bytes = plan.buffers.reduce((sum, { nbytes }) => sum + nbytes, 0);
      throw new NnjitError('MODEL_TOO_LARGE', `The GPU has no room for the ${bytes} bytes of this plan: ${full.message}`, { asked: bytes });
    }
    // all at once: the browser compiles them on its own threads, and constants come in meanwhile
    const kernels = plan.shaders.map((shader) => ShaderKernel.create(device, shader));
    for (const kernel of kernels) kernel.catch(() => {}); // told below, in order
    await initialize(device, plan, loaded, kernels, sources, context, session);
    const initialized = performance.now();
    const compiled = await Promise.all(kernels);
    throwIfAborted(context.signal);
    loaded.steps = plan.steps.map(({ shader, bindings }) => bound(loaded, compiled[shader], bindings));
    context.progress('compile', 1, 1);
    for (const [id, buffer] of fresh) constants.set(id, buffer);
    return { loaded, initMs: initialized - started, compileMs: performance.now() - started };
  } catch (cause) {
    undo();
    throw cause;
  }
}

/**
 * @param {LoadedPlan} loaded @param {ShaderKernel} kernel @param {GpuBinding[]} bindings
 * @returns {Bound}
 */
function bound(loaded, kernel, bindings) {
  return { kernel, group: kernel.bind(bindings.map(([at, offset, size]) => ({ buffer: loaded.buffer(at), offset, size }))) };
}

/**
 * The init list, in order: constants from the model's bytes, steps at load, host calls.
 * @param {GPUDevice} device @param {GpuPlan} plan @param {LoadedPlan} loaded @param {Promise<ShaderKernel>[]} kernels
 * @param {Blob[]} sources @param {Context} context @param {string} session
 */
async function initialize(device, plan, loaded, kernels, sources, context, session) {
  const { progress, signal } = context;
  const total = plan.init.reduce((sum, item) => sum + (item.kind === 'range' ? item.length : 0), 0);
  const steps = plan.init.filter((item) => item.kind === 'step' || item.kind === 'host').length;
  let [read, stepped, unsent] = [0, 0, 0];
  for (const item of plan.init) {
    throwIfAborted(signal);
    switch (item.kind) {
      case 'bytes': {
        const filler = new Filler(device, loaded.buffer(item.buffer), item);
        filler.add(item.data);
        filler.end();
        break;
      }
      case 'range': {
        const filler = new Filler(device, loaded.buffer(item.buffer), item);
        for await (const chunk of chunks(sources[item.source], item)) {
          throwIfAborted(signal);
          filler.add(chunk.bytes);
          read += chunk.bytes.byteLength;
          unsent += chunk.bytes.byteLength;
          progress('load', read, total);
          if (unsent > IN_FLIGHT) {
            device.queue.submit([]);
            await device.queue.onSubmittedWorkDone();
            unsent = 0;
          }
        }
        filler.end();
        break;
      }
      case 'step': {
        const kernel = await kernels[item.shader];
        const encoder = device.createCommandEncoder();
        const pass = encoder.beginComputePass();
        kernel.encode(pass, bound(loaded, kernel, item.bindings).group);
        pass.end();
        device.queue.submit([encoder.finish()]);
        progress('init', ++stepped, steps);
        break;
      }
      case 'free':
        loaded.buffer(item.buffer).destroy(); // after what was submitted
        loaded.buffers[item.buffer] = null;
        break;
      case 'host':
        await callHost(device, loaded, session, item, loaded.values, new Map(), context);
        progress('init', ++stepped, steps);
        break;
    }
  }
}

/** Bytes of a constant, in pieces of any length, into a buffer in whole words. */
class Filler {
  #at = 0;
  /** @type {Uint8Array} what does not fill 16 bytes yet */
  #rest = new Uint8Array(0);

  /**
   * @param {GPUDevice} device @param {GPUBuffer} buffer @param {{type: string, stored: string}} how
   */
  constructor(device, buffer, { type, stored }) {
    this.device = device;
    this.buffer = buffer;
    this.type = type;
    this.stored = stored;
  }

  /** @param {Uint8Array} bytes */
  add(bytes) {
    let all = bytes;
    if (this.#rest.byteLength) {
      all = new Uint8Array(this.#rest.byteLength + bytes.byteLength);
      all.set(this.#rest);
      all.set(bytes, this.#rest.byteLength);
    }
    const whole = all.byteLength - (all.byteLength % 16);
    this.#rest = all.slice(whole);
    this.#write(all.subarray(0, whole));
  }

  end() {
    this.#write(this.#rest);
    this.#rest = new Uint8Array(0);
  }

  /** @param {Uint8Array} bytes */
  #write(bytes) {
    const padded = wholeWords(widen(this.type, this.stored, bytes));
    if (padded.byteLength) this.device.queue.writeBuffer(this.buffer, this.#at, padded);
    this.#at += padded.byteLength;
  }
}
