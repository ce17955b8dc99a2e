// A file on its way into memory that all threads see: who fetches it counts the bytes that are there, from the first one
// on without a gap; who reads waits for that count.

import { NnjitError, throwIfAborted } from './errors.js';

/**
 * What goes to workers. there: bytes from the first on that are there, or FAILED; url: where pieces of it may be asked for
 * beforehand, '' where they may not; began: when its first byte came, ms of Date.now()
 * @typedef {{view: Uint8Array, there: BigInt64Array, url: string, headers: [string, string][], credentials: RequestCredentials,
 *   version: string, began: number}} Arriving
 */

const FAILED = -1n;

/** Where the browser cannot wait for a word without blocking, it is looked at this often, in ms. */
const LOOK = 5;

/** At least this often it is seen that nobody waits any more, in ms. */
const GLANCE = 50;

/** @param {Uint8Array} view @returns {Arriving} */
export const arriving = (view) => ({
  view, there: new BigInt64Array(new SharedArrayBuffer(8)), url: '', headers: [], credentials: 'same-origin', version: '', began: Date.now(),
});

/** Bytes that are there. @param {Arriving} file @returns {number} rejects where no more will come */
export function arrived({ there, view }) {
  const count = Atomics.load(there, 0);
  if (count !== FAILED) return Number(count);
  throw new NnjitError('NETWORK', 'The model\'s file did not come whole', { expected: view.byteLength }, 'Create the session again.');
}

/** @param {Arriving} file @param {number} count */
export function announce({ there }, count) {
  Atomics.store(there, 0, BigInt(count));
  Atomics.notify(there, 0);
}

/** No more will come. @param {Arriving} file */
export const give = ({ there }) => {
  Atomics.store(there, 0, FAILED);
  Atomics.notify(there, 0);
};

/**
 * Resolves when all bytes before `end` are there, or when so many ms have passed.
 * @param {Arriving} file @param {number} end @param {{signal?: AbortSignal, ms?: number}} [how]
 * @returns {Promise<boolean>} whether they are there
 */
export async function arrival(file, end, { signal, ms = Infinity } = {}) {
  const until = performance.now() + ms;
  for (let count = arrived(file); count < end; count = arrived(file)) {
    throwIfAborted(signal);
    const left = until - performance.now();
    if (left <= 0) return false;
    const waited = Atomics.waitAsync?.(file.there, 0, BigInt(count), Math.min(left, GLANCE));
    if (!waited) await new Promise((later) => setTimeout(later, LOOK));
    else if (waited.async) await waited.value;
  }
  return true;
}

/** The same in a worker whose caller cannot wait: it sleeps. @param {Arriving} file @param {number} end */
export function arrivalHere(file, end) {
  for (let count = arrived(file); count < end; count = arrived(file)) Atomics.wait(file.there, 0, BigInt(count));
}
