// What is done once when a plan comes onto a device: constants from the model's bytes, steps at load, host calls. Takes the
// init list, which is in an order that works; gives nothing. Several ranges are read side by side, and each step waits
// for what it reads alone.

import { throwIfAborted } from '../errors.js';
import { chunks } from '../source.js';
import { fillBuffer } from './fill.js';
import { callHost } from './host.js';
import { wholeWords, widen } from './stored.js';

/** @typedef {import('./types.d.ts').GpuPlan} GpuPlan */
/** @typedef {import('./types.d.ts').GpuInitItem} GpuInitItem */
/** @typedef {import('./plan.js').LoadedPlan} LoadedPlan */
/** @typedef {import('./plan.js').Context} Context */
/** @typedef {import('./shader.js').ShaderKernel} ShaderKernel */

/** Bytes of constants sent between two looks at how far the device is: twice as many are under way at most. */
const IN_FLIGHT = 64 << 20;
/** Ranges read side by side: opening one takes as long as reading a megabyte. */
const READERS = 4;

export class Initializer {
  /** By buffer: until all that was put there so far has been sent. @type {Map<number, Promise<void>>} */
  #ready = new Map();
  /** @type {Set<Promise<void>>} */
  #reading = new Set();
  /** @type {Promise<unknown>} */
  #drained = Promise.resolve();
  #unsent = 0;
  #read = 0;
  #stepped = 0;
  /** @type {unknown} */
  #failed;

  /**
   * @param {GPUDevice} device @param {GpuPlan} plan @param {LoadedPlan} loaded @param {Promise<ShaderKernel>[]} kernels
   * @param {import('../source.js').Bytes[]} sources @param {Context} context @param {string} session
   */
  constructor(device, plan, loaded, kernels, sources, context, session) {
    this.device = device;
    this.plan = plan;
    this.loaded = loaded;
    this.kernels = kernels;
    this.sources = sources;
    this.context = context;
    this.session = session;
    this.bytes = plan.init.reduce((sum, item) => sum + (item.kind === 'range' ? item.length : 0), 0);
    this.steps = plan.init.filter(({ kind }) => kind === 'step' || kind === 'host').length;
  }

  /** Settles when nothing is under way any more; rejects with the first thing that went wrong. */
  async run() {
    /** @type {Promise<void>[]} */
    const all = [];
    for (const item of this.plan.init) {
      if (this.#failed) break;
      if (item.kind === 'range') {
        while (this.#reading.size >= READERS) await Promise.race(this.#reading);
      } else if (item.kind === 'host') {
        await Promise.allSettled(all);
      }
      all.push(this.#begin(item).catch((cause) => {
        this.#failed ??= cause;
      }));
    }
    await Promise.all(all);
    if (this.#failed) throw this.#failed;
  }

  /** @param {GpuInitItem} item */
  #begin(item) {
    // constants that fill a buffer together are read side by side
    const fills = item.kind === 'range' || item.kind === 'bytes';
    const before = fills ? Promise.resolve() : this.#waitFor(item);
    const work = before.then(() => {
      if (this.#failed) return undefined;
      throwIfAborted(this.context.signal);
      return this.#done(item);
    });
    const quiet = work.then(() => undefined, () => undefined);
    if (item.kind === 'range') {
      this.#reading.add(quiet);
      quiet.finally(() => this.#reading.delete(quiet));
    }
    for (const buffer of touched(item)) {
      const earlier = fills ? this.#ready.get(buffer) : undefined;
      this.#ready.set(buffer, earlier ? Promise.all([earlier, quiet]).then(() => undefined) : quiet);
    }
    return work;
  }

  /** @param {GpuInitItem} item */
  #waitFor(item) {
    return Promise.all(touched(item).map((buffer) => this.#ready.get(buffer)));
  }

  /** @param {GpuInitItem} item @returns {void | Promise<void>} */
  #done(item) {
    switch (item.kind) {
      case 'bytes': {
        const filler = new Filler(this.device, this.loaded.buffer(item.buffer), item);
        filler.add(item.data);
        return filler.end();
      }
      case 'pattern':
        return fillBuffer(this.device, this.loaded.buffer(item.buffer), item.nbytes, item);
      case 'range':
        return this.#upload(item);
      case 'step':
        return this.#step(item);
      case 'free':
        this.loaded.buffer(item.buffer).destroy(); // after what was submitted
        this.loaded.buffers[item.buffer] = null;
        return undefined;
      case 'host':
        return this.#host(item);
    }
  }

  /** @param {Extract<GpuInitItem, {kind: 'range'}>} item */
  async #upload(item) {
    const filler = new Filler(this.device, this.loaded.buffer(item.buffer), item);
    for await (const { bytes } of chunks(this.sources[item.source], item, this.context.signal)) {
      throwIfAborted(this.context.signal);
      if (this.#failed) return;
      filler.add(bytes);
      this.#read += bytes.byteLength;
      this.#unsent += bytes.byteLength;
      this.context.progress('load', this.#read, this.bytes);
      if (this.#unsent > IN_FLIGHT) {
        this.#unsent = 0;
        this.device.queue.submit([]);
        const before = this.#drained;
        this.#drained = this.device.queue.onSubmittedWorkDone();
        await before; // of the window before this one: the device copies while more is read
      }
    }
    filler.end();
  }

  /** @param {Extract<GpuInitItem, {kind: 'step'}>} item */
  async #step(item) {
    const kernel = await this.kernels[item.shader];
    if (this.#failed) return;
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    kernel.encode(pass, this.loaded.bind(kernel, item.bindings));
    pass.end();
    this.device.queue.submit([encoder.finish()]);
    this.context.progress('init', ++this.#stepped, this.steps);
  }

  /** @param {Extract<GpuInitItem, {kind: 'host'}>} item */
  async #host(item) {
    await callHost(this.device, this.loaded, this.session, item, this.loaded.values, new Map(), this.context);
    this.context.progress('init', ++this.#stepped, this.steps);
  }
}

/** The buffers that an item reads or writes. @param {GpuInitItem} item @returns {number[]} */
function touched(item) {
  if (item.kind === 'step') return [...new Set(item.bindings.map(([buffer]) => buffer))];
  return item.kind === 'host' ? [] : [item.buffer];
}

/** Bytes of a constant, in pieces of any length, into a buffer in whole words. */
class Filler {
  #at;
  /** @type {Uint8Array} what does not fill 16 bytes yet */
  #rest = new Uint8Array(0);

  /**
   * @param {GPUDevice} device @param {GPUBuffer} buffer @param {{type: string, stored: string, at?: number}} how
   */
  constructor(device, buffer, { type, stored, at = 0 }) {
    this.device = device;
    this.buffer = buffer;
    this.type = type;
    this.stored = stored;
    this.#at = at;
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
