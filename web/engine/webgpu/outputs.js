// The outputs of a plan on their way to the page: takes references and their buffers, gives bytes in arrays of their own or
// of the caller's, or views of buffers that stay mapped until the plan's next run. The buffers they come through stay too.

import { spares } from '../spares.js';
import { Readback, bytesToRead } from './readback.js';
import { COPY_DST, MAP_READ } from './shader.js';
import { asIs } from './stored.js';

/** @typedef {import('./types.d.ts').GpuRef} GpuRef */
/**
 * place: where the bytes go, null for an array of their own; pin: they may be a view.
 * @typedef {{ref: GpuRef, buffer: GPUBuffer, place: Uint8Array | null, pin: boolean}} Output
 */

const READ = 1; // GPUMapMode.READ
/** Threads that a run keeps busy: this one and the browser's for the GPU. */
const BUSY = 2;
/** Bytes from which on few large pieces come sooner than many small ones (docs/webgpu-measured.md). */
const LARGE = 128 << 20;
/** In whole words. @param {number} nbytes */
const whole = (nbytes) => Math.ceil(nbytes / 4) * 4;

export class Outputs {
  /** @type {Readback | null} */
  #readback = null;
  /** Those that views are of, by output. @type {Map<string, GPUBuffer>} */
  #pinned = new Map();

  /** @param {GPUDevice} device @param {import('../types.d.ts').SparePolicy} [policy] of memory kept ready */
  constructor(device, policy) {
    this.device = device;
    this.policy = policy;
  }

  /** Views of an earlier run lose what they show, and their length. @param {GPUCommandEncoder} encoder @param {Output[]} outputs */
  encode(encoder, outputs) {
    const copied = outputs.filter((each) => !viewed(each));
    const size = bytesToRead(copied);
    if (size && (!this.#readback || this.#readback.size < size)) {
      this.#readback?.destroy();
      this.#readback = size > LARGE ? new Readback(this.device, size, 16 << 20, 4) : new Readback(this.device, size);
    }
    if (size) this.#readback?.encode(encoder, copied);
    for (const { ref, buffer } of outputs.filter(viewed)) {
      const staging = this.#pinned.get(ref.name) ?? this.device.createBuffer({ size: whole(ref.nbytes), usage: MAP_READ | COPY_DST });
      this.#pinned.set(ref.name, staging);
      staging.unmap();
      encoder.copyBufferToBuffer(buffer, 0, staging, 0, whole(ref.nbytes));
    }
  }

  /**
   * After the copies were submitted.
   * @param {Output[]} outputs as they were encoded @param {import('./readback.js').Waiting} waiting
   * @returns {Promise<(Uint8Array | {pinned: Uint8Array})[]>}
   */
  async read(outputs, waiting) {
    const copied = outputs.filter((each) => !viewed(each));
    const places = copied.map(({ ref, place }) => place ?? (asIs(ref.type, ref.stored) ? spares.take(ref.nbytes, this.policy, BUSY) : null));
    const reading = bytesToRead(copied) ? this.#readback?.read(copied, places, waiting) : undefined;
    const views = outputs.map((each) => (viewed(each) ? this.#view(each.ref) : null));
    const viewing = Promise.all(views);
    const [bytes, pinned] = await Promise.all([reading, reading ? viewing : waiting.first?.(viewing) ?? viewing]);
    let next = 0;
    return outputs.map(({ place }, i) => pinned[i] ?? bytes?.[next++] ?? place ?? new Uint8Array(0));
  }

  /** @param {GpuRef} ref */
  async #view({ name, nbytes }) {
    const staging = /** @type {GPUBuffer} */ (this.#pinned.get(name));
    await staging.mapAsync(READ);
    return { pinned: new Uint8Array(staging.getMappedRange(), 0, nbytes) };
  }

  /** A run has failed, for want of room maybe: the next one has buffers of its own. */
  forget() {
    this.destroy();
    this.#readback = null;
    this.#pinned.clear();
  }

  destroy() {
    this.#readback?.destroy();
    for (const staging of this.#pinned.values()) staging.destroy();
  }
}

/** What the caller has no place for, and whose bytes on the device are its own. @param {Output} output */
const viewed = ({ ref, place, pin }) => pin && !place && asIs(ref.type, ref.stored) && ref.nbytes > 0;
