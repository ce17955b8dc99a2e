// What is done once for a plan on a device: constants from the model's bytes, steps at load, host calls. Takes items of
// an init list, all at once or one after another as they are told, in an order that works; gives nothing. Several ranges
// are read side by side, and each step waits for what it reads alone.

import { throwIfAborted } from '../errors.js';
import { chunks } from '../source.js';
import { fillBuffer } from './fill.js';
import { wholeWords, widen } from './stored.js';

/** @typedef {import('./types.d.ts').GpuInitItem} GpuInitItem */
/** @typedef {import('./types.d.ts').GpuBinding} GpuBinding */
/** @typedef {import('./shader.js').ShaderKernel} ShaderKernel */
/**
 * Where items find what they name by number. give: the buffer is not needed any more
 * @typedef {{buffer(at: number): GPUBuffer, bind(kernel: ShaderKernel, bindings: GpuBinding[]): GPUBindGroup, give(at: number): void,
 *   kernel(at: number): Promise<ShaderKernel>, host(call: Extract<GpuInitItem, {kind: 'host'}>): Promise<void>}} Places
 */
/**
 * read: is told of the bytes that were sent, one after another; stepped: of each step and host call that is over; pause: between two
 * pieces of what lies in memory, so that other work has its turn
 * @typedef {{signal: AbortSignal, read?: (bytes: number) => void, stepped?: () => void, pause?: () => Promise<void>}} How
 */

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
  /** What has begun. @type {Set<Promise<void>>} */
  #all = new Set();
  /** @type {unknown} */
  #failed;

  /**
   * @param {GPUDevice} device @param {Places} places @param {import('../source.js').Bytes[]} sources @param {How} how
   */
  constructor(device, places, sources, { signal, read = () => {}, stepped = () => {}, pause }) {
    this.device = device;
    this.places = places;
    this.sources = sources;
    this.signal = signal;
    this.read = read;
    this.stepped = stepped;
    this.pause = pause;
  }

  /** Settles when nothing is under way any more; rejects with the first thing that went wrong. @param {GpuInitItem[]} items */
  async run(items) {
    await this.begin(items);
    await this.end();
  }

  /** Begins these items; another call may follow when it has resolved. @param {GpuInitItem[]} items */
  async begin(items) {
    for (const item of items) {
      if (this.#failed) break;
      if (item.kind === 'range') {
        while (this.#reading.size >= READERS) await Promise.race(this.#reading);
      } else if (item.kind === 'host') {
        await Promise.all(this.#all);
      }
      const work = this.#begin(item).catch((cause) => {
        this.#failed ??= cause;
      }).finally(() => this.#all.delete(work));
      this.#all.add(work);
    }
  }

  /** What `run` does of items that have begun. */
  async end() {
    await Promise.all(this.#all);
    if (this.#failed) throw this.#failed;
  }

  /** @param {GpuInitItem} item */
  #begin(item) {
    // constants that fill a buffer together are read side by side
    const fills = item.kind === 'range' || item.kind === 'bytes';
    const before = fills ? Promise.resolve() : this.#waitFor(item);
    const work = before.then(() => {
      if (this.#failed) return undefined;
      throwIfAborted(this.signal);
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
        const filler = new Filler(this.device, this.places.buffer(item.buffer), item);
        filler.add(item.data);
        return filler.end();
      }
      case 'pattern':
        return fillBuffer(this.device, this.places.buffer(item.buffer), item.nbytes, item);
      case 'range':
        return this.#upload(item);
      case 'step':
        return this.#step(item);
      case 'free':
        return this.places.give(item.buffer);
      case 'host':
        return this.places.host(item).then(this.stepped);
    }
  }

  /** @param {Extract<GpuInitItem, {kind: 'range'}>} item */
  async #upload(item) {
    const filler = new Filler(this.device, this.places.buffer(item.buffer), item);
    for await (const { bytes } of chunks(this.sources[item.source], item, this.signal)) {
      throwIfAborted(this.signal);
      if (this.#failed) return;
      filler.add(bytes);
      this.#unsent += bytes.byteLength;
      this.read(bytes.byteLength);
      await this.pause?.();
      if (this.#unsent > IN_FLIGHT) {
        this.#unsent = 0;
        this.device.queue.submit([]);
        const before = this.#drained;
        this.#drained = this.device.queue.onSubmittedWorkDone();
        await before; // of the window before this one: the device copies while more is read
      }
    }
    throwIfAborted(this.signal); // the buffer may be gone by now
    filler.end();
  }

  /** @param {Extract<GpuInitItem, {kind: 'step'}>} item */
  async #step(item) {
    const kernel = await this.places.kernel(item.shader);
    if (this.#failed) return;
    throwIfAborted(this.signal);
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    kernel.encode(pass, this.places.bind(kernel, item.bindings));
    pass.end();
    this.device.queue.submit([encoder.finish()]);
    this.stepped();
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
