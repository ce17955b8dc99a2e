// Feeds and outputs on either side of the edge: how many bytes must come, which outputs are meant.

import { check } from './errors.js';
import { spread } from './windows.js';

/** @typedef {import('./types.d.ts').Feed} Feed */
/** @typedef {import('./types.d.ts').ValueRef} ValueRef */
/** @typedef {import('./windows.js').Window} Window */

/** Where a browser gives no shared memory there is no such name either. @param {unknown} buffer @returns {buffer is SharedArrayBuffer} */
export const isSharedBuffer = (buffer) => typeof SharedArrayBuffer !== 'undefined' && buffer instanceof SharedArrayBuffer;

/**
 * @param {unknown} data
 * @returns {Uint8Array | null} the same bytes, or null where it is neither buffer nor view
 */
export function asBytes(data) {
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (data instanceof ArrayBuffer || isSharedBuffer(data)) return new Uint8Array(data);
  return null;
}

/** @param {unknown} feed @returns {Window | null} where in the plan's input it goes; null: it is all of it */
export const windowIn = (feed) => /** @type {{window?: Window} | null} */ (feed)?.window ?? null;

/** @param {Uint8Array} bytes @returns {boolean} others may write there meanwhile */
export function isShared(bytes) {
  return isSharedBuffer(bytes.buffer);
}

/**
 * @param {Uint8Array} bytes
 * @returns {Uint8Array<ArrayBuffer>} a copy that owns its buffer, which is not shared
 */
export function copyOf(bytes) {
  return new Uint8Array(bytes); // which fills no zeros in first
}

/**
 * @param {ValueRef[]} inputs of the plan
 * @param {readonly unknown[]} feeds
 * @returns {(Uint8Array | null)[]} the bytes for each input that has an address; of one with a window, its own
 */
export function feedBytes(inputs, feeds) {
  check(feeds.length === inputs.length, 'BAD_FEED', `The plan has ${inputs.length} inputs; ${feeds.length} were fed.`,
    { expected: inputs.length, got: feeds.length });
  return inputs.map((ref, i) => {
    if (ref.host) return null;
    const window = windowIn(feeds[i]);
    const bytes = asBytes(window ? /** @type {import('./types.d.ts').Windowed} */ (feeds[i]).bytes : feeds[i]);
    const got = window?.whole ?? bytes?.byteLength;
    check(bytes !== null && got === ref.nbytes, 'BAD_FEED',
      `Input "${ref.name}" takes ${ref.nbytes} bytes; ${got ?? 'no buffer'} came.`,
      { name: ref.name, expected: ref.nbytes, got });
    return bytes;
  });
}

/**
 * @param {ValueRef[]} outputs of the plan
 * @param {string[] | undefined} fetch names; default all
 * @returns {ValueRef[]}
 */
export function fetched(outputs, fetch) {
  return fetch?.map((name) => {
    const ref = outputs.find((output) => output.name === name);
    check(ref !== undefined, 'BAD_FEED', `The plan has no output "${name}".`, { name });
    return ref;
  }) ?? outputs;
}

const PAGE = 4096;

/**
 * A new buffer whose pages are there already.
 * @param {number} length in bytes
 */
export function touched(length) {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += PAGE) bytes[at] = 0;
  return bytes;
}

/**
 * @param {Feed} feed
 * @param {boolean} [transfer] the caller gives its buffer away
 * @returns {Feed} with a buffer that nobody else has and that can move: it is copied here and not once more on the way
 */
export function own(feed, transfer = false) {
  if (windowIn(feed)) return whole(/** @type {import('./types.d.ts').Windowed} */ (feed));
  const bytes = asBytes(feed);
  if (!bytes) return feed;
  const alone = bytes.buffer instanceof ArrayBuffer && bytes.byteLength === bytes.buffer.byteLength;
  return transfer && alone ? bytes : copyOf(bytes);
}

/** @param {import('./types.d.ts').Windowed} feed @returns {Uint8Array<ArrayBuffer>} all of the plan's input */
export function whole({ bytes, window }) {
  const all = new Uint8Array(window.whole);
  spread(window, bytes, all);
  return all;
}

/**
 * @param {Feed[]} feeds
 * @returns {ArrayBuffer[]} each once
 */
export function buffers(feeds) {
  const found = feeds.flatMap((feed) => (ArrayBuffer.isView(feed) ? [/** @type {ArrayBuffer} */ (feed.buffer)] : []));
  return [...new Set(found)];
}

/**
 * @param {{name: string, nbytes: number}} ref
 * @param {ArrayBufferView | null | undefined} place
 * @returns {Uint8Array | null} the bytes of `place`
 */
export function target({ name, nbytes }, place) {
  const bytes = place ? asBytes(place) : null;
  check(!bytes || bytes.byteLength === nbytes, 'BAD_FEED',
    `Output "${name}" has ${nbytes} bytes; there is room for ${bytes?.byteLength}.`,
    { name, expected: nbytes, got: bytes?.byteLength });
  return bytes;
}
