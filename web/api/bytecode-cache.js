// Python's bytecode from one visit to the next, in the browser's Cache Storage. A blob belongs to the exact files
// it was made from; those of other versions are thrown away. Without Cache Storage nothing is kept.

import { fetchAll } from './fetch-parts.js';

const STORE = 'nnjit-bytecode';

/** @typedef {{url: string, size: number}} Served */

/**
 * @param {{nnjit: {sha256: string}, packages: {sha256: string}[], pyodide: {version: string, stdlib?: Served}}} manifest
 * @returns {string} the address a blob for these files is kept at
 */
export function bytecodeKey({ nnjit, packages, pyodide }) {
  const files = [nnjit, ...packages].map((file) => file.sha256.slice(0, 16)).join('-');
  const library = pyodide.stdlib ? `${encodeURIComponent(pyodide.stdlib.url)}/` : ''; // Python notes where in it a module lies
  return new URL(`bytecode/${pyodide.version}/${library}${files}`, import.meta.url).href;
}

/**
 * Bytecode that serve.py has made, for each file that it has made it of; what cannot be had is compiled.
 * @param {{nnjit: {bytecode?: Served}, packages: {bytecode?: Served}[]}} manifest @param {string} base
 * @returns {Promise<(ArrayBuffer | undefined)[]>}
 */
export function servedBytecode({ nnjit, packages }, base) {
  const nobody = () => {};
  return Promise.all([nnjit, ...packages].map(async ({ bytecode }) => {
    const found = bytecode && await fetchAll([bytecode], base, nobody).catch(() => undefined);
    return found?.[0];
  }));
}

/** @param {string} key @returns {Promise<ArrayBuffer | undefined>} */
export async function loadBytecode(key) {
  try {
    const found = await (await caches.open(STORE)).match(key);
    return await found?.arrayBuffer();
  } catch {
    return undefined; // no storage here, or it is full or blocked: imports compile
  }
}

/** @param {string} key @param {Uint8Array<ArrayBuffer>} [blob] without one, those of other versions go all the same */
export async function saveBytecode(key, blob) {
  try {
    if (!blob && !(await caches.has(STORE))) return;
    const store = await caches.open(STORE);
    for (const { url } of await store.keys()) if (url !== key) await store.delete(url);
    if (blob) await store.put(key, new Response(blob));
  } catch {
    // the next visit compiles again
  }
}
