// Who is alive: a worker holds a lock for as long as it lives, and whoever gets that lock knows it is gone.
// No other event tells of a worker that ran out of memory or closed itself.

/**
 * @param {string} name
 * @returns {Promise<void>} when the lock is held; it is held until this worker ends
 */
export function holdLock(name) {
  const { locks } = globalThis.navigator;
  if (!locks) return Promise.resolve(); // not a secure context: deaths go unnoticed, errors do not
  return new Promise((resolve) => {
    locks.request(name, () => {
      resolve();
      return new Promise(() => {});
    }).catch(() => resolve()); // nor where storage is blocked, and locks with it
  });
}

/**
 * Calls `dead` once the holder of `name` is gone.
 * @param {string} name a lock that is held already
 * @param {() => void} dead
 * @param {AbortSignal} signal stops watching
 */
export function watchLock(name, dead, signal) {
  globalThis.navigator.locks?.request(name, { signal }, dead).catch(() => {});
}

/** @returns {string} a name that no other engine of this origin has */
export function lockName() {
  const random = crypto.getRandomValues(new Uint32Array(4));
  return `nnjit-engine-${[...random].map((word) => word.toString(36)).join('')}`;
}
