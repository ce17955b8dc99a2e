// Plans from one visit to the next, in IndexedDB: bytes by key, with a digest that tells whether they are as they were, the
// least recently used thrown away where there are too many.
import { database } from './database.js';

/** Numbers that are needed before there is a Python to ask. */
const LIMITS = { entries: 48, bytes: 32 << 20 };

const transact = database('nnjit-plans', ['plans', 'uses'], 'plans are');

/** @typedef {{digest: string, text: string, buffers: Uint8Array<ArrayBuffer>[]}} Packed */

/**
 * Plain data with byte arrays in it, for storage.
 * @param {unknown} value @returns {Promise<Packed>}
 */
export async function pack(value) {
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const buffers = [];
  const text = JSON.stringify(value, (_, each) => {
    if (!ArrayBuffer.isView(each)) return each;
    buffers.push(new Uint8Array(each.buffer, each.byteOffset, each.byteLength).slice());
    return { $bytes: buffers.length - 1 };
  });
  return { digest: await digestOf(text, buffers), text, buffers };
}

/** What was packed; undefined where it is damaged. @param {any} stored @returns {Promise<any>} */
export async function unpack(stored) {
  const { digest, text, buffers } = stored ?? {};
  if (typeof text !== 'string' || !Array.isArray(buffers) || !buffers.every((each) => each instanceof Uint8Array)) return undefined;
  if (digest !== await digestOf(text, buffers)) return undefined;
  return JSON.parse(text, (_, each) => (Number.isInteger(each?.$bytes) ? buffers[each.$bytes] : each));
}

/** @param {string} text @param {Uint8Array[]} buffers */
function digestOf(text, buffers) {
  const first = new TextEncoder().encode(`${text.length} ${buffers.map(({ byteLength }) => byteLength).join(' ')} ${text}`);
  return sha256([first, ...buffers]);
}

/** SHA-256, hexadecimal, of byte arrays one after another; their memory may be shared. @param {Uint8Array[]} parts */
export async function sha256(parts) {
  const all = new Uint8Array(parts.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.byteLength;
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', all));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** @param {string} key @returns {Promise<any>} what was put there, undefined where there is nothing; what is damaged is thrown away */
export async function load(key) {
  const stored = await transact('plans', 'readonly', (store) => store('plans').get(key));
  if (!stored) return undefined;
  const found = await unpack(stored);
  if (found) void transact('uses', 'readwrite', (store) => void store('uses').put({ at: Date.now(), bytes: sizeOf(stored) }, key));
  else void drop(key);
  return found;
}

/** @param {Packed} packed */
const sizeOf = ({ text, buffers }) => 2 * text.length + buffers.reduce((sum, { byteLength }) => sum + byteLength, 0);

/**
 * @param {string} key @param {unknown} value @param {typeof LIMITS} [limits]
 * @returns {Promise<boolean>} whether it is there
 */
export async function save(key, value, limits = LIMITS) {
  const packed = await pack(value);
  const bytes = sizeOf(packed);
  if (bytes > limits.bytes) return false;
  const done = await transact(['plans', 'uses'], 'readwrite', (store) => {
    store('plans').put(packed, key);
    store('uses').put({ at: Date.now(), bytes }, key);
    const uses = store('uses').getAll();
    const keys = store('uses').getAllKeys();
    keys.onsuccess = () => {
      const all = keys.result.map((each, i) => ({ each, ...uses.result[i] })).sort((a, b) => b.at - a.at);
      let [count, sum] = [0, 0];
      for (const { each, bytes: taken } of all) {
        count++;
        sum += taken;
        if (each === key || (count <= limits.entries && sum <= limits.bytes)) continue;
        store('plans').delete(each);
        store('uses').delete(each);
      }
    };
    return keys;
  });
  return Boolean(done);
}

/** @param {string} key */
export const drop = (key) =>
  transact(['plans', 'uses'], 'readwrite', (store) => {
    store('plans').delete(key);
    store('uses').delete(key);
  });

/** Forgets all. */
export const clear = () =>
  transact(['plans', 'uses'], 'readwrite', (store) => {
    store('plans').clear();
    store('uses').clear();
  });
