// What tuning learnt, kept in IndexedDB: the device's facts, and a record a kernel for each device class. Where the
// browser gives no storage (private windows, a full disk) everything works and nothing is kept.
import { database } from './database.js';

const transact = database('nnjit-tuning', ['facts', 'records'], 'tuning is');

/** @param {string} device @returns {Promise<Record<string, unknown> | undefined>} */
export const loadFacts = (device) => transact('facts', 'readonly', (store) => store('facts').get(device));

/** @param {string} device @param {Record<string, unknown>} facts */
export const saveFacts = (device, facts) => transact('facts', 'readwrite', (store) => void store('facts').put(facts, device));

/** Records of a device class as lines. @param {string} device @returns {Promise<string[]>} */
export async function loadRecords(device) {
  const range = IDBKeyRange.bound(`${device}|`, `${device}|\uffff`);
  const found = await transact('records', 'readonly', (store) => store('records').getAll(range));
  return (found ?? []).filter((line) => typeof line === 'string');
}

/** @param {string} device @param {{key: string, line: string}[]} records  a later record of a spec takes the place of an earlier one */
export const saveRecords = (device, records) =>
  transact('records', 'readwrite', (store) => {
    for (const { key, line } of records) store('records').put(line, `${device}|${key}`);
  });

/** Forgets all records of a device class. @param {string} device */
export const clearRecords = (device) =>
  transact('records', 'readwrite', (store) => void store('records').delete(IDBKeyRange.bound(`${device}|`, `${device}|\uffff`)));
