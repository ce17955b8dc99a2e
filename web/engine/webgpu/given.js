// Buffers that are no plan's own: the page made them, or keeps an output in them. Reads, fills and tries them, and looks each time
// for what the device has against one: a buffer that was destroyed, is mapped or lies on another device would read as zeros.

import { NnjitError } from '../errors.js';
import { readTensors } from './readback.js';
import { COPY_DST, COPY_SRC, STORAGE } from './shader.js';
import { asIs, wholeWords } from './stored.js';
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

/** The lower half of the first word, over the upper half of the second: copies are of whole words, an odd count of halves is not. */
const JOIN = `@group(0) @binding(0) var<storage, read_write> words: array<u32, 2>;
@compute @workgroup_size(1) fn join() { words[0] = (words[0] & 0xffffu) | (words[1] & 0xffff0000u); }`;

/** @type {WeakMap<GPUDevice, GPUComputePipeline>} */
const joins = new WeakMap();

/**
 * The word that a tensor ends in the middle of, with what lies behind the tensor's end as it is.
 * @param {GPUDevice} device @param {GPUCommandEncoder} encoder @param {GPUBuffer} into @param {number} at a multiple of four
 * @param {(word: GPUBuffer) => void} put writes the new word to the beginning of a buffer
 */
function joined(device, encoder, into, at, put) {
  let pipeline = joins.get(device);
  if (!pipeline) {
    pipeline = device.createComputePipeline({ layout: 'auto', compute: { module: device.createShaderModule({ code: JOIN, label: 'join' }) } });
    joins.set(device, pipeline);
  }
  const words = device.createBuffer({ size: 8, usage: STORAGE | COPY_SRC | COPY_DST });
  put(words);
  encoder.copyBufferToBuffer(into, at, words, 4, 4);
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer: words } }] }));
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(words, 0, into, at, 4);
  return words;
}

/**
 * Writes a tensor into a buffer with usage COPY_DST. What lies behind the tensor's end stays, where the buffer has COPY_SRC too.
 * @param {GPUDevice} device @param {GPUBuffer} into @param {GPUBuffer | Uint8Array} from of whole words @param {number} nbytes
 */
export async function fillTensor(device, into, from, nbytes) {
  const split = nbytes % 4 !== 0 && (into.usage & COPY_SRC) !== 0;
  const size = split ? nbytes - (nbytes % 4) : Math.ceil(nbytes / 4) * 4;
  await tried(device, 'to fill the buffer of a tensor', async () => {
    if (!nbytes) return;
    const encoder = device.createCommandEncoder();
    const bytes = from instanceof Uint8Array ? wholeWords(from) : null;
    if (size && bytes) device.queue.writeBuffer(into, 0, bytes, 0, size); // copied at once
    else if (size) encoder.copyBufferToBuffer(/** @type {GPUBuffer} */ (from), 0, into, 0, size);
    const last = split && joined(device, encoder, into, size, (word) => {
      if (bytes) device.queue.writeBuffer(word, 0, bytes, size, 4);
      else encoder.copyBufferToBuffer(/** @type {GPUBuffer} */ (from), size, word, 0, 4);
    });
    device.queue.submit([encoder.finish()]);
    if (last) last.destroy();
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
