// What the way home from the GPU is made of: pieces mapped and not looked at, copied into memory that is there, into memory
// that is new; and pages of new memory by themselves, on this thread and on several others. readback.py says which.
import { nextTask } from '/engine/webgpu/wait.js';
import { COPY_DST, COPY_SRC, MAP_READ, STORAGE } from '/engine/webgpu/shader.js';

const PAGE = 4096;

/** @type {GPUDevice} */
let device;
/** @type {GPUBuffer} what is read, as large as any */
let source;

/** @param {GPUDevice} from @param {number} nbytes */
export function open(from, nbytes) {
  device = from;
  source?.destroy();
  source = device.createBuffer({ size: nbytes, usage: STORAGE | COPY_SRC });
}

/** Looks after the device while a promise is open, as a run does (wait.js). @param {Promise<void>} promise @param {number} everyMs */
async function watched(promise, everyMs) {
  let done = false;
  const settled = promise.finally(() => {
    done = true;
  });
  settled.catch(() => undefined);
  while (!done) {
    device.queue.submit([]);
    for (const at = performance.now(); !done && performance.now() - at < everyMs;) await nextTask();
  }
  return settled;
}

/**
 * Ms to bring bytes home, each round into what `memory` says: 'none' (mapped, and that is all), 'kept' (an array that is
 * there), 'new' (an array of each round's own). The pieces' buffers stay from round to round.
 * @param {{nbytes: number, piece: number, most: number, maps: number, memory: 'none' | 'kept' | 'new', rounds: number, everyMs: number}} how
 *   most: buffers, maps: of them that are asked for at a time
 */
export async function bring({ nbytes, piece, most, maps, memory, rounds, everyMs }) {
  const count = Math.ceil(nbytes / piece);
  const length = (/** @type {number} */ i) => Math.min(piece, nbytes - i * piece);
  const buffers = Array.from({ length: Math.min(count, most) }, () => device.createBuffer({ size: piece, usage: MAP_READ | COPY_DST }));
  const kept = memory === 'kept' ? new Uint8Array(nbytes).fill(1) : null;
  const copy = (/** @type {number} */ i) => {
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(source, i * piece, buffers[i % buffers.length], 0, length(i));
    device.queue.submit([encoder.finish()]);
  };
  /** @type {number[]} */
  let arrivals = [];
  let copyMs = 0;
  const round = async () => {
    const start = performance.now();
    arrivals = [];
    copyMs = 0;
    const into = kept ?? (memory === 'new' ? new Uint8Array(nbytes) : null);
    for (let i = 0; i < buffers.length; i++) copy(i);
    /** @type {Promise<void>[]} */
    const mapped = [];
    const map = (/** @type {number} */ i) => {
      mapped[i] = buffers[i % buffers.length].mapAsync(1, 0, length(i)).then(() => {
        arrivals[i] = performance.now() - start;
      });
    };
    const ahead = Math.min(maps, buffers.length);
    for (let i = 0; i < ahead; i++) map(i);
    for (let i = 0; i < count; i++) {
      await mapped[i];
      const buffer = buffers[i % buffers.length];
      const begun = performance.now();
      if (into) into.set(new Uint8Array(buffer.getMappedRange(0, length(i))), i * piece);
      copyMs += performance.now() - begun;
      buffer.unmap();
      if (i + buffers.length < count) copy(i + buffers.length);
      if (i + ahead < count) map(i + ahead);
    }
  };
  const ms = [], copies = [];
  try {
    for (let i = 0; i <= rounds; i++) {
      const start = performance.now();
      await watched(round(), everyMs);
      if (i) ms.push(performance.now() - start), copies.push(copyMs); // the first one makes what the others find
      await new Promise((done) => setTimeout(done, 5));
    }
  } finally {
    for (const buffer of buffers) buffer.destroy();
  }
  return { ms, copyMs: copies, arrivals };
}

/** How pages are touched. @type {Record<string, (bytes: Uint8Array) => void>} */
const TOUCH = {
  write: (bytes) => {
    for (let at = 0; at < bytes.length; at += PAGE) bytes[at] = 1;
  },
  'read and write': (bytes) => {
    for (let at = 0; at < bytes.length; at += PAGE) bytes[at] |= 1;
  },
  fill: (bytes) => {
    bytes.fill(1);
  },
  'every 64 KB, then every page': (bytes) => {
    for (let at = 0; at < bytes.length; at += 1 << 16) bytes[at] = 1;
    for (let at = 0; at < bytes.length; at += PAGE) bytes[at] = 1;
  },
};

/** Ms to touch the pages of a new array, per way. @param {number} nbytes @param {number} rounds */
export function touch(nbytes, rounds) {
  /** @type {Record<string, number[]>} */
  const found = { allocate: [], again: [] };
  for (let i = 0; i < rounds; i++) {
    for (const [name, how] of Object.entries(TOUCH)) {
      const start = performance.now();
      const bytes = new Uint8Array(nbytes);
      const made = performance.now();
      how(bytes);
      const end = performance.now();
      TOUCH.fill(bytes);
      (found[name] ??= []).push(end - made);
      found.allocate.push(made - start);
      found.again.push(performance.now() - end);
    }
  }
  return found;
}

/**
 * Ms until several workers have each made and touched an array of so many bytes, all at once, and they are here.
 * @param {number} nbytes @param {number} workers @param {number} rounds
 */
export async function touchApart(nbytes, workers, rounds) {
  const all = Array.from({ length: workers }, () => new Worker('/t/bench/gpu/readback_worker.js', { type: 'module' }));
  const ask = (/** @type {Worker} */ worker, /** @type {number} */ n) => new Promise((done) => {
    worker.onmessage = ({ data }) => done(data);
    worker.postMessage(n);
  });
  await Promise.all(all.map((worker) => ask(worker, PAGE)));
  const ms = [];
  for (let i = 0; i < rounds; i++) {
    const start = performance.now();
    await Promise.all(all.map((worker) => ask(worker, nbytes)));
    ms.push(performance.now() - start);
  }
  for (const worker of all) worker.terminate();
  return ms;
}
