// Python started from what an earlier one had: its files, its libraries at the same addresses, and, where there is a
// snapshot, its memory. Takes loadPyodide and what it is to be called with; gives what loadPyodide gives.
//
// A library's address and its places in the table are whatever is free when it is loaded. Loaded first of all, in the same
// order, they are the same each time: so libraries of a snapshot are loaded before Python starts, when it is made and when
// it is used. Pyodide's own part (`_makeSnapshot`, `_loadSnapshot`) knows Python's memory, not libraries and files.

/** @typedef {import('./snapshot.js').Facts} Facts */
/** @typedef {import('./snapshot.js').Library} Library */

/** Where packages are unpacked: wheels, and nnjit in the folder Python starts in. */
const ROOTS = ['/lib/python3.14/site-packages', '/home/pyodide'];

/**
 * What loadPyodide is called with, at each start alike: a snapshot knows where in the standard library's file a module lies.
 * @param {{indexURL: string, stdlib?: {url: string}}} pyodide of the manifest
 */
export function pyodideOptions({ indexURL, stdlib }) {
  const root = new URL('../', import.meta.url);
  return {
    indexURL: new URL(indexURL, root).href,
    fullStdLib: false,
    ...(stdlib ? { stdLibURL: new URL(stdlib.url, root).href } : {}), // with bytecode
  };
}

/** @param {any} pyodide @returns {string[]} paths of all files of packages */
export function packageFiles(pyodide) {
  const { FS } = pyodide._module;
  /** @type {string[]} */
  const found = [];
  const walk = (/** @type {string} */ folder) => {
    for (const name of FS.readdir(folder)) {
      if (name === '.' || name === '..') continue;
      const path = `${folder}/${name}`;
      if (FS.isDir(FS.stat(path).mode)) walk(path);
      else found.push(path);
    }
  };
  ROOTS.forEach(walk);
  return found;
}

/**
 * What a Python that has booted has beside its memory.
 * @param {any} pyodide @param {string[]} paths of the files that count
 * @returns {{libraries: Library[], files: [string, number][], data: Uint8Array<ArrayBuffer>}}
 */
export function contents(pyodide, paths) {
  const { FS, LDSO } = pyodide._module;
  /** @type {Uint8Array[]} */
  const found = paths.map((path) => FS.readFile(path));
  const data = new Uint8Array(found.reduce((sum, bytes) => sum + bytes.byteLength, 0));
  let at = 0;
  for (const bytes of found) {
    data.set(bytes, at);
    at += bytes.byteLength;
  }
  const there = new Set(paths);
  const needed = libraries(LDSO).filter(({ path }) => there.has(path)); // one that came with a model is none of every start
  return { libraries: needed, files: paths.map((path, i) => [path, found[i].byteLength]), data };
}

/** @param {any} loaded @returns {Library[]} */
function libraries({ loadedLibsByName }) {
  const files = Object.values(loadedLibsByName).filter(({ name }) => name.startsWith('/'));
  return files.map(({ name, global }) => ({ path: name, global }));
}

/**
 * Starts Python with files and libraries in place.
 * @param {(options: object) => Promise<any>} loadPyodide
 * @param {Record<string, any>} options
 * @param {Pick<Facts, 'libraries' | 'files'>} given
 * @param {Promise<Uint8Array>} files their bytes
 * @param {{facts: Facts, memory: Promise<Uint8Array>}} [snapshot] Python goes on where that was made
 * @returns {Promise<any>}
 */
export async function startWith(loadPyodide, options, given, files, snapshot) {
  /** @type {(error: unknown) => void} */
  let fail = () => {};
  const failed = new Promise((_, reject) => (fail = reject));
  failed.catch(() => undefined);
  const { default: original } = await import(`${options.indexURL}pyodide.asm.mjs`);
  const createPyodideModule = async (/** @type {any} */ settings) => {
    settings.preRun.push((/** @type {any} */ module) => {
      module.addRunDependency('libraries');
      byPath(given, files).then((found) => load(module, given, found)).then(() => module.removeRunDependency('libraries'), fail);
    });
    const module = await original(settings);
    if (snapshot) {
      module.growMemory((await snapshot.memory).byteLength);
      connect(module, snapshot.facts);
    }
    return module;
  };
  const more = snapshot ? { _loadSnapshot: snapshot.memory } : { _makeSnapshot: true };
  const pyodide = await Promise.race([loadPyodide({ ...options, ...more, createPyodideModule }), failed]);
  Object.assign(pyodide._api.config, { _loadSnapshot: undefined, createPyodideModule: undefined }); // they hold its memory a second time
  write(pyodide.FS, await byPath(given, files)); // a Python that starts on packages takes note of them in JavaScript, which no snapshot has
  return pyodide;
}

/** @param {Pick<Facts, 'files'>} given @param {Promise<Uint8Array>} files @returns {Promise<Map<string, Uint8Array<ArrayBuffer>>>} */
async function byPath(given, files) {
  const data = /** @type {Uint8Array<ArrayBuffer>} */ (await files);
  let at = 0;
  const found = new Map(given.files.map(([path, size]) => [path, data.subarray(at, at += size)]));
  return found;
}

/** @param {any} FS @param {Map<string, Uint8Array>} files */
function write(FS, files) {
  const folders = new Set();
  for (const [path, bytes] of files) {
    const folder = path.slice(0, path.lastIndexOf('/'));
    if (!folders.has(folder)) FS.mkdirTree(folder);
    folders.add(folder);
    FS.writeFile(path, bytes, { canOwn: true });
  }
}

/** @param {any} module Pyodide's, before Python starts @param {Pick<Facts, 'libraries'>} given @param {Map<string, Uint8Array<ArrayBuffer>>} files */
async function load(module, given, files) {
  const compiled = await Promise.all(given.libraries.map(({ path }) => WebAssembly.compile(/** @type {Uint8Array<ArrayBuffer>} */ (files.get(path)))));
  for (const [i, { path, global }] of given.libraries.entries()) {
    const exports = module.loadWebAssemblyModule(compiled[i], { loadAsync: false, global, nodelete: true }, path, global ? null : {}, 0);
    const library = module.newDSO(path, undefined, exports);
    library.refcount = Infinity;
    library.global = global;
    if (global) module.mergeLibSymbols(exports, path);
  }
  Object.assign(module, { tableAfterLibraries: module.wasmTable.length, placed: given.libraries.length });
}

/**
 * What is known of libraries outside Python's memory.
 * @param {any} module of a Python with all that is to be kept
 * @returns {Pick<Facts, 'libraries' | 'handles' | 'slots' | 'tableStart' | 'table' | 'addresses'>}
 */
export function connections({ FS, LDSO, GOT, wasmTable, tableAfterLibraries, placed }) {
  const open = FS.streams.filter((/** @type {{fd: number} | undefined} */ file) => file && file.fd > 2); // beside stdin, stdout and stderr
  if (open.length) throw new Error(`${open[0].path} is open`);
  const loaded = libraries(LDSO);
  if (loaded.length !== placed) throw new Error(`${loaded.length - placed} libraries were loaded after Python had started`);
  /** @type {Map<unknown, [string, string]>} */
  const exported = new Map();
  for (const { name, exports } of Object.values(LDSO.loadedLibsByName)) {
    for (const [symbol, value] of Object.entries(exports ?? {})) if (typeof value === 'function') exported.set(value, [name, symbol]);
  }
  /** @type {[number, string, string][]} */
  const slots = [];
  for (let i = tableAfterLibraries; i < wasmTable.length; i++) {
    const call = wasmTable.get(i);
    const from = exported.get(call);
    if (call && !from) throw new Error(`slot ${i} of the table has a function of no library`);
    if (from) slots.push([i, ...from]);
  }
  return {
    libraries: loaded,
    handles: Object.entries(LDSO.loadedLibsByHandle).map(([handle, { name }]) => [Number(handle), name]),
    slots,
    tableStart: tableAfterLibraries,
    table: wasmTable.length,
    addresses: addresses(GOT),
  };
}

/** @param {Record<string, WebAssembly.Global>} table @returns {Record<string, number>} */
const addresses = (table) => Object.fromEntries(Object.entries(table).map(([symbol, { value }]) => [symbol, value]));

/** Makes those connections anew. @param {any} module @param {Facts} facts */
function connect(module, facts) {
  const { LDSO, GOT, wasmTable, tableAfterLibraries } = module;
  const now = addresses(GOT);
  for (const [symbol, address] of Object.entries(facts.addresses)) {
    if (now[symbol] !== address) throw new Error(`${symbol} is at ${now[symbol]}, in the snapshot at ${address}`);
  }
  for (const [handle, path] of facts.handles) LDSO.loadedLibsByHandle[handle] = LDSO.loadedLibsByName[path];
  for (const length of [tableAfterLibraries, wasmTable.length]) {
    if (length !== facts.tableStart) throw new Error(`the table has ${length} slots, in the snapshot ${facts.tableStart}`);
  }
  wasmTable.grow(facts.table - wasmTable.length);
  for (const [slot, path, symbol] of facts.slots) module.setWasmTableEntry(slot, LDSO.loadedLibsByName[path].exports[symbol]);
  module.updateTableMap(tableAfterLibraries, facts.table - tableAfterLibraries);
}
