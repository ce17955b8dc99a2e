// Buffers that are no plan's own: the page made them, or keeps an output in them. Reads, fills and tries them, and looks each time
// for what the device has against one: a buffer that was destroyed, is mapped or lies on another device would read as zeros.

import { NnjitError } from '../errors.js';
import { readTensors } from './readback.js';
import { asIs } from './stored.js';
import { Watch } from './watch.js';

/** @typedef {import('./types.d.ts').GpuFeed} GpuFeed */
/** @typedef {import('./types.d.ts').GpuValueRef} GpuValueRef */

const HINT = 'it needs the usage, must be neither mapped nor destroyed, and lie on the device in env.webgpu.device; what lay on a lost device is gone';

/**
 * @template T @param {GPUDevice} device @param {string} what @param {() => Promise<T>} work submits before it awaits anything
 * @returns {Promise<T>} rejects with TENSOR_LOCATION where the device refuses it
 */
async function tried(device, what, work) {
  const watch = new Watch(device, what);
  watch.open();
  const made = work();
  watch.close();
  made.catch(() => undefined); // why it failed is told by the device
  await watch.told('TENSOR_LOCATION', HINT);
  return made;
}

/**
 * The first bytes of a buffer with usage COPY_SRC.
 * @param {GPUDevice} device @param {GPUBuffer} buffer @param {number} nbytes @returns {Promise<Uint8Array>}
 */
export function readBuffer(device, buffer, nbytes) {
  const ref = { name: buffer.label, type: 'float32', dims: [], buffer: 0, nbytes, stored: 'f32' };
  return tried(device, 'to read the buffer of a tensor', async () => (await readTensors(device, [{ ref, buffer }]))[0]);
}

/**
 * Writes a tensor into a buffer with usage COPY_DST.
 * @param {GPUDevice} device @param {GPUBuffer} into @param {GPUBuffer | Uint8Array} from of whole words @param {number} nbytes
 */
export async function fillTensor(device, into, from, nbytes) {
  const size = Math.ceil(nbytes / 4) * 4;
  await tried(device, 'to fill the buffer of a tensor', async () => {
    if (!size) return;
    if (from instanceof Uint8Array) {
      const words = size === from.byteLength ? from : new Uint8Array(size);
      if (words !== from) words.set(from);
      device.queue.writeBuffer(into, 0, /** @type {any} */ (words)); // copied at once
      return;
    }
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(from, 0, into, 0, size);
    device.queue.submit([encoder.finish()]);
  });
}

/**
 * After a run was refused: which of its feeds cannot be read, if it is one of them.
 * @param {GPUDevice} device @param {GpuValueRef[]} inputs @param {GpuFeed[]} feeds @returns {Promise<NnjitError | null>}
 */
export async function unfit(device, inputs, feeds) {
  for (const [i, ref] of inputs.entries()) {
    const feed = feeds[i];
    if (ref.host || !feed || !('gpuBuffer' in feed) || !asIs(ref.type, ref.stored)) continue;
    try {
      await readBuffer(device, feed.gpuBuffer, 4);
    } catch (error) {
      const { code, message } = /** @type {NnjitError} */ (error);
      if (code !== 'TENSOR_LOCATION') return null; // the device was lost meanwhile, or has no room: nothing was found out
      return new NnjitError('FEED', `Input '${ref.name}' was fed a buffer that cannot be read. ${message}`, { reason: 'buffer', input: ref.name }, HINT);
    }
  }
  return null;
}
