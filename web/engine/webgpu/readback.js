// Tensors from the device: takes references and their buffers, gives each one's bytes, by one copy into a buffer that is
// mapped once.

import { COPY_DST, MAP_READ } from './shader.js';
import { narrow, storedBytes } from './stored.js';

/** @typedef {import('./types.d.ts').GpuRef} GpuRef */
/** @typedef {{ref: GpuRef, buffer: GPUBuffer}} Wanted */

const READ = 1; // GPUMapMode.READ

/** Bytes each tensor takes in the buffer that is mapped. @param {GpuRef} ref */
const room = (ref) => Math.ceil(storedBytes(ref.type, ref.stored, ref.nbytes) / 16) * 16;

/** @param {Wanted[]} wanted */
export const bytesToRead = (wanted) => wanted.reduce((sum, { ref }) => sum + room(ref), 0);

/** @param {GPUDevice} device @param {number} size @returns {GPUBuffer} */
export const readbackBuffer = (device, size) => device.createBuffer({ size: Math.max(size, 16), usage: MAP_READ | COPY_DST });

/** @param {GPUCommandEncoder} encoder @param {Wanted[]} wanted @param {GPUBuffer} into */
export function encodeCopies(encoder, wanted, into) {
  let at = 0;
  for (const { ref, buffer } of wanted) {
    const size = Math.ceil(storedBytes(ref.type, ref.stored, ref.nbytes) / 4) * 4;
    if (size) encoder.copyBufferToBuffer(buffer, 0, into, at, size);
    at += room(ref);
  }
}

/**
 * @param {GPUBuffer} from @param {Wanted[]} wanted
 * @param {(Uint8Array | null)[]} [places] where the bytes go; null or left out: into an array of their own
 * @param {<T>(work: Promise<T>) => Promise<T>} [wait] for the device
 * @returns {Promise<Uint8Array[]>}
 */
export async function mapped(from, wanted, places = [], wait = (work) => work) {
  const size = bytesToRead(wanted);
  if (!size) return wanted.map((_, i) => places[i] ?? new Uint8Array(0));
  await wait(from.mapAsync(READ, 0, size));
  const all = new Uint8Array(from.getMappedRange(0, size));
  let at = 0;
  const out = wanted.map(({ ref }, i) => {
    const raw = all.subarray(at, at + storedBytes(ref.type, ref.stored, ref.nbytes));
    at += room(ref);
    const bytes = narrow(ref.type, ref.stored, raw);
    const place = places[i];
    if (place) place.set(bytes);
    return place ?? (bytes === raw ? raw.slice() : bytes);
  });
  from.unmap();
  return out;
}

/** @param {GPUDevice} device @param {Wanted[]} wanted @returns {Promise<Uint8Array[]>} */
export async function readTensors(device, wanted) {
  if (!wanted.length) return [];
  const buffer = readbackBuffer(device, bytesToRead(wanted));
  const encoder = device.createCommandEncoder();
  encodeCopies(encoder, wanted, buffer);
  device.queue.submit([encoder.finish()]);
  try {
    return await mapped(buffer, wanted);
  } finally {
    buffer.destroy();
  }
}

/** Bytes of any buffer with usage COPY_SRC, from and to whole words. @param {GPUDevice} device @param {GPUBuffer} buffer @param {number} from @param {number} length */
export async function readBytes(device, buffer, from, length) {
  const staging = readbackBuffer(device, length);
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, from, staging, 0, length);
  device.queue.submit([encoder.finish()]);
  try {
    await staging.mapAsync(READ);
    return new Uint8Array(staging.getMappedRange().slice(0, length));
  } finally {
    staging.destroy();
  }
}

/** The first bytes of any buffer with usage COPY_SRC. @param {GPUDevice} device @param {GPUBuffer} buffer @param {number} nbytes */
export async function readBuffer(device, buffer, nbytes) {
  const ref = { name: buffer.label, type: 'float32', dims: [], buffer: 0, nbytes, stored: 'f32' };
  return (await readTensors(device, [{ ref, buffer }]))[0];
}
