// A database of the browser's (IndexedDB), opened when it is first used. Where the browser gives no storage (private windows,
// a full disk, cookies refused) nothing is found, nothing is kept, and nothing fails.
import { log } from './env.js';
import { pause } from './tuning-calm.js';

/** Sessions wait for what they read: a browser that does not answer for so long is not asked again until it has. */
const LIMIT_MS = 3000;
const LOOKS = 10;

/** @typedef {<T>(stores: string | string[], mode: IDBTransactionMode, work: (store: (name: string) => IDBObjectStore) => IDBRequest<T> | void) => Promise<T | undefined>} Transact
 *   gives what the request found, once all of it is done; undefined where it could not be done */

/** Where storage is blocked there is no factory, or asking it throws. @param {string} name @returns {IDBOpenDBRequest | null} */
function openable(name) {
  try {
    return indexedDB.open(name, 1);
  } catch {
    return null;
  }
}

/**
 * @param {string} name @param {string[]} stores @param {string} what is not kept where it fails, for the log
 * @param {number} [limitMs] after which a reader goes on without
 * @returns {Transact}
 */
export function database(name, stores, what, limitMs = LIMIT_MS) {
  /** Readers that went on without an answer. */
  let unanswered = 0;
  /** @type {Promise<IDBDatabase | null> | undefined} */
  let opened;
  const open = () => {
    opened ??= new Promise((resolve) => {
      const request = openable(name);
      if (!request) return resolve(null);
      request.onupgradeneeded = () => {
        for (const store of stores) request.result.createObjectStore(store);
      };
      request.onsuccess = () => {
        request.result.onversionchange = () => {
          request.result.close();
          opened = undefined;
        };
        request.result.onclose = () => { // the browser did, as where the user deletes what pages have stored
          opened = undefined;
        };
        resolve(request.result);
      };
      request.onerror = () => resolve(null);
      request.onblocked = () => resolve(null);
    });
    return opened;
  };
  /** @type {Transact} */
  const transact = async (used, mode, work) => {
    const db = await open();
    if (!db) return undefined;
    return new Promise((resolve) => {
      const failed = (/** @type {unknown} */ cause) => {
        log('info', `${what} not kept: ${String(cause)}`);
        resolve(undefined);
      };
      try {
        const transaction = db.transaction(used, mode);
        const request = work((store) => transaction.objectStore(store));
        transaction.oncomplete = () => resolve(request ? request.result : undefined);
        transaction.onabort = () => failed(transaction.error);
        transaction.onerror = (event) => event.preventDefault();
      } catch (cause) {
        failed(cause);
      }
    });
  };
  return async (used, mode, work) => {
    if (mode !== 'readonly') return transact(used, mode, work);
    if (unanswered) return undefined;
    let over = false;
    const answer = transact(used, mode, work).finally(() => { over = true; });
    const late = async () => {
      // in parts: where the page's thread was busy all the time, the answer has its turn between them
      for (let looks = 0; looks < LOOKS && !over; looks++) await pause(limitMs / LOOKS);
      if (over) return answer;
      log('info', `${what} not read: no answer after ${limitMs} ms`);
      unanswered++;
      void answer.finally(() => { unanswered--; });
      return undefined;
    };
    return Promise.race([answer, late()]);
  };
}
