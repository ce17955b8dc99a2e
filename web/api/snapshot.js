// Python's memory from one visit to the next, in the browser's Cache Storage: with it a worker need not start Python,
// unpack packages and import them. A snapshot belongs to the exact files it was made from and to this browser.

/**
 * @typedef {{path: string, global: boolean}} Library of machine code, in the order of loading
 * @typedef {object} Facts
 * @property {Library[]} libraries
 * @property {[number, string][]} handles by which Python knows them
 * @property {[number, string, string][]} slots of the table that calls have got since: number, library, export
 * @property {number} tableStart its length when the libraries were in place
 * @property {number} table its length
 * @property {Record<string, number>} addresses that libraries find each other's symbols at
 * @property {[string, number][]} files path and size of each, in the order of their bytes
 * @property {string[]} standIns see CompilerInfo
 * @property {string} proof what Python makes of a small model, which it makes of it when it is back
 * @property {number} size of the memory, bytes
 *
 * @typedef {Facts & {made: string, digests: {memory: string, files: string}}} Kept  with the name of the making, which the
 *   memory's and the files' addresses have as well, and with SHA-256 of both
 * @typedef {{facts: Facts, memory: Promise<Uint8Array>, files: Promise<Uint8Array>}} Snapshot
 */

const STORE = 'nnjit-python';

/** Raised when what is kept, or how it is put back, changes. */
const FORMAT = 2;

/** A snapshot whose use began so long ago and did not end was fatal: it is not used again. */
const FATAL_MS = 60_000;

/** @param {string} bytecode the address of the same files' bytecode @returns {string} that of their snapshot in this browser */
export function snapshotKey(bytecode) {
  const browser = encodeURIComponent(`${globalThis.navigator.userAgent} ${globalThis.crossOriginIsolated}`);
  return bytecode.replace('/bytecode/', `/snapshot/${FORMAT}/${browser}/`);
}

/** @param {string} key */
export const hasSnapshot = async (key) => Boolean(await (await caches.open(STORE)).match(`${key}/facts`));

/**
 * A snapshot is kept as `unproven` until a Python has been started from it.
 * @param {string} key @param {'facts' | 'unproven'} [as]
 * @returns {Promise<Snapshot | undefined>} undefined: there is none, or none that may be used
 */
export async function loadSnapshot(key, as = 'facts') {
  try {
    const store = await caches.open(STORE);
    const [facts, begun] = await Promise.all([store.match(`${key}/${as}`), store.match(`${key}/begun`)]);
    if (!facts) return undefined;
    if (begun) {
      if (!(Date.now() - Number(await begun.text()) < FATAL_MS)) void forgetSnapshot();
      return undefined; // another page is at it, or has died of it
    }
    store.put(`${key}/begun`, new Response(String(Date.now()))).catch(() => undefined); // no room: it is used without
    const [digest, text] = split(await facts.text());
    if (await sha256(new TextEncoder().encode(text)) !== digest) {
      console.warn('[nnjit] Python starts anew: the snapshot of an earlier visit is damaged');
      await forgetSnapshot();
      return undefined;
    }
    /** @type {Kept} */
    const known = JSON.parse(text);
    const bytes = async (/** @type {'memory' | 'files'} */ name, /** @type {number} */ size) => {
      const answer = await store.match(`${key}/${known.made}/${name}`);
      const found = new Uint8Array(answer ? await answer.arrayBuffer() : []);
      if (found.byteLength !== size) throw new Error(`the snapshot's ${name} has ${found.byteLength} bytes, not ${size}`);
      if (await sha256(found) !== known.digests[name]) throw new Error(`the snapshot's ${name} is damaged`);
      return found;
    };
    const [memory, files] = [bytes('memory', known.size), bytes('files', known.files.reduce((sum, [, size]) => sum + size, 0))];
    for (const one of [memory, files]) one.catch(() => undefined); // told to who waits for it
    return { facts: known, memory, files };
  } catch {
    return undefined; // no storage here, or it is blocked
  }
}

/** @param {string} text @returns {[string, string]} a digest, and what it is of */
const split = (text) => [text.slice(0, text.indexOf('\n')), text.slice(text.indexOf('\n') + 1)];

/** @param {Uint8Array<ArrayBuffer>} bytes  where there is Cache Storage, there is this */
async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Python has been started from it, and is right: later visits may use it. @param {string} key */
export async function snapshotProven(key) {
  const store = await caches.open(STORE);
  const facts = await store.match(`${key}/unproven`);
  if (!facts) throw new Error('the snapshot is gone');
  await store.put(`${key}/facts`, facts);
  await Promise.all([store.delete(`${key}/unproven`), store.delete(`${key}/begun`)]);
}

/** The use of a snapshot has ended well. @param {string} key */
export async function snapshotUsed(key) {
  try {
    await (await caches.open(STORE)).delete(`${key}/begun`);
  } catch {
    // no storage any more: there is none
  }
}

/** None is used until one is saved anew. */
export async function forgetSnapshot() {
  try {
    await caches.delete(STORE);
  } catch {
    // no storage here: there is none
  }
}

/** Those of other files, or of this browser before it was renewed, are of no use. @param {string} key */
export async function forgetOthers(key) {
  try {
    if (!(await caches.has(STORE))) return;
    const store = await caches.open(STORE);
    for (const { url } of await store.keys()) if (!url.startsWith(`${new URL(key).href}/`)) await store.delete(url);
  } catch {
    // no storage here: there is none
  }
}

/**
 * Keeps what loadSnapshot gives, unproven.
 * @param {string} key
 * @param {{facts: Facts, memory: Uint8Array<ArrayBuffer>, files: Uint8Array<ArrayBuffer>}} snapshot
 * @returns {Promise<boolean>} false: there is no room for it
 */
export async function saveSnapshot(key, { facts, memory, files }) {
  try {
    await forgetSnapshot();
    const store = await caches.open(STORE);
    const made = String(Math.random()).slice(2); // two pages may be at it: the parts of one are never put with the other's
    await store.put(`${key}/${made}/memory`, new Response(memory));
    await store.put(`${key}/${made}/files`, new Response(files));
    const digests = { memory: await sha256(memory), files: await sha256(files) };
    const text = JSON.stringify({ ...facts, made, digests });
    const digest = await sha256(new TextEncoder().encode(text));
    await store.put(`${key}/unproven`, new Response(`${digest}\n${text}`)); // last: with it the snapshot is there
    return true;
  } catch {
    await forgetSnapshot();
    return false;
  }
}
