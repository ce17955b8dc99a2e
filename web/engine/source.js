// Bytes of a file, a piece at a time: takes a Blob and a range, gives chunks in order. What is held beside
// the file's bytes is one buffer, filled over and over. Of a file that is in memory the chunks are parts of it; while it
// is still on its way there, each is waited for.

import { arrival } from './arrival.js';
import { NnjitError } from './errors.js';

/**
 * Chromium hands out a megabyte at most. Reading into one buffer is faster than Blob.arrayBuffer() on slices
 * (226 ms against 575 for 192 MiB) and leaves no garbage behind, which was 60 MiB at the peak.
 */
const CHUNK = 1 << 20;

/** A read that has not answered by then is asked again, this often. */
const STALL_MS = 10_000;
const RETRIES = 3;
const STALLED = Symbol('stalled');

/**
 * @param {Blob} blob
 * @returns {{read: () => Promise<{done: boolean, value?: Uint8Array}>, cancel: () => Promise<void>}}
 *   read: a chunk that is valid until the next call
 */
function reader(blob) {
  const stream = /** @type {ReadableStream<Uint8Array<ArrayBuffer>>} */ (blob.stream());
  let byob;
  try {
    byob = stream.getReader({ mode: 'byob' });
  } catch {
    const plain = stream.getReader(); // a browser whose blobs are no byte streams
    return { read: () => plain.read(), cancel: () => plain.cancel() };
  }
  const into = byob;
  let buffer = new ArrayBuffer(CHUNK);
  return {
    async read() {
      const { done, value } = await into.read(new Uint8Array(buffer));
      if (value) ({ buffer } = value);
      return { done, value };
    },
    cancel: () => into.cancel(),
  };
}

/** @typedef {Blob | Uint8Array | import('./arrival.js').Arriving} Bytes of a file */

/** @param {Bytes} bytes */
export const sizeOf = (bytes) => (ArrayBuffer.isView(bytes) ? bytes.byteLength : 'view' in bytes ? bytes.view.byteLength : bytes.size);

/**
 * @param {Bytes} file
 * @param {{source: number, start: number, length: number}} range source: the file's number, for errors
 * @param {AbortSignal} [signal] ends the wait for bytes that are on their way
 * @returns {AsyncGenerator<{offset: number, bytes: Uint8Array}>} bytes are valid until the next chunk is asked for
 */
export async function* chunks(file, range, signal) {
  if (!ArrayBuffer.isView(file) && !('view' in file)) {
    yield* chunksOfBlob(file, range);
    return;
  }
  const { start, length } = range;
  const [view, coming] = ArrayBuffer.isView(file) ? [file, null] : [file.view, file];
  for (let offset = 0; offset < length; offset += CHUNK) {
    const end = Math.min(offset + CHUNK, length);
    if (coming) await arrival(coming, start + end, { signal });
    yield { offset, bytes: view.subarray(start + offset, start + end) };
  }
}

/**
 * @param {Blob} blob
 * @param {{source: number, start: number, length: number}} range
 * @returns {AsyncGenerator<{offset: number, bytes: Uint8Array}>}
 */
async function* chunksOfBlob(blob, { source, start, length }) {
  let { read, cancel } = reader(blob.slice(start, start + length));
  let stalls = 0;
  const hint = 'Choose the file again; it was moved or changed since.';
  const facts = { source, start, length };
  try {
    for (let offset = 0; offset < length;) {
      const chunk = await within(STALL_MS, read()).catch((cause) => {
        throw new NnjitError('SOURCE_READ', `File ${source} could not be read: ${cause}`, facts, hint);
      });
      if (chunk === STALLED) {
        // A browser that pages large Blobs to disk can leave a stream without an answer; a new one gets it.
        cancel().catch(() => {});
        if (++stalls > RETRIES) {
          throw new NnjitError('SOURCE_READ', `File ${source}: no bytes within ${STALL_MS / 1000} s, ${stalls} times.`, facts, hint);
        }
        ({ read, cancel } = reader(blob.slice(start + offset, start + length)));
        continue;
      }
      const { done, value } = chunk;
      if (done || !value) {
        throw new NnjitError('SOURCE_READ', `File ${source} ended ${length - offset} bytes early.`, facts, hint);
      }
      yield { offset, bytes: value };
      offset += value.byteLength;
    }
  } finally {
    cancel().catch(() => {}); // the caller may have stopped half way
  }
}

/**
 * @template T
 * @param {number} ms
 * @param {Promise<T>} work
 * @returns {Promise<T | typeof STALLED>}
 */
async function within(ms, work) {
  let timer = 0;
  /** @type {Promise<typeof STALLED>} */
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve(STALLED), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
