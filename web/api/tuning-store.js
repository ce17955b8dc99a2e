// What tuning learnt, kept in IndexedDB: the device's facts, and a record a kernel for each device class. Where the
// browser gives no storage (private windows, a full disk) everything works and nothing is kept.
import { log } from './env.js';

const NAME = 'nnjit-tuning';
const STORES = ['facts', 'records'];

/** @type {Promise<IDBDatabase | null> | undefined} */
let opened;

/** Where storage is blocked there is no factory, or asking it throws. @returns {IDBOpenDBRequest | null} */
function openable() {
  try {
    return indexedDB.open(NAME, 1);
  } catch {
    return null;
  }
}

/** @returns {Promise<IDBDatabase | null>} */
function database() {
  opened ??= new Promise((resolve) => {
    const request = openable();
    if (!request) return resolve(null);
    request.onupgradeneeded = () => {
      for (const store of STORES) request.result.createObjectStore(store);
    };
    request.onsuccess = () => {
      request.result.onversionchange = () => {
        request.result.close();
        opened = undefined;
      };
      resolve(request.result);
    };
    request.onerror = () => resolve(null);
    request.onblocked = () => resolve(null);
  });
  return opened;
}

/**
 * @template T
 * @param {string} store @param {IDBTransactionMode} mode @param {(objects: IDBObjectStore) => IDBRequest<T> | void} work
 * @returns {Promise<T | undefined>}
 */
async function transact(store, mode, work) {
  const db = await database();
  if (!db) return undefined;
  return new Promise((resolve) => {
    const failed = (/** @type {unknown} */ cause) => {
      log('info', `tuning is not kept: ${String(cause)}`);
      resolve(undefined);
    };
    try {
      const transaction = db.transaction(store, mode);
      const request = work(transaction.objectStore(store));
      transaction.oncomplete = () => resolve(request ? request.result : undefined);
      transaction.onabort = () => failed(transaction.error);
      transaction.onerror = (event) => event.preventDefault();
    } catch (cause) {
      failed(cause);
    }
  });
}

/** @param {string} device @returns {Promise<Record<string, unknown> | undefined>} */
export const loadFacts = (device) => transact('facts', 'readonly', (objects) => objects.get(device));

/** @param {string} device @param {Record<string, unknown>} facts */
export const saveFacts = (device, facts) => transact('facts', 'readwrite', (objects) => void objects.put(facts, device));

/** Records of a device class as lines. @param {string} device @returns {Promise<string[]>} */
export async function loadRecords(device) {
  const range = IDBKeyRange.bound(`${device}|`, `${device}|\uffff`);
  const found = await transact('records', 'readonly', (objects) => objects.getAll(range));
  return (found ?? []).filter((line) => typeof line === 'string');
}

/** @param {string} device @param {{key: string, line: string}[]} records  a later record of a spec takes the place of an earlier one */
export const saveRecords = (device, records) =>
  transact('records', 'readwrite', (objects) => {
    for (const { key, line } of records) objects.put(line, `${device}|${key}`);
  });

/** Forgets all records of a device class. @param {string} device */
export const clearRecords = (device) =>
  transact('records', 'readwrite', (objects) => void objects.delete(IDBKeyRange.bound(`${device}|`, `${device}|\uffff`)));
