// Makes a snapshot for the next visit: starts a Python of its own from the files of one that has booted, lets it import and
// try out everything, and keeps its memory. Takes one message of what compiler.worker.js says of its Python; tells when done.
// Another such worker proves it: it starts Python from the snapshot, as the next visit will, and has it compile a model.
import { loadBytecode, servedBytecode } from './bytecode-cache.js';
import { connections, pyodideOptions, startWith } from './restore.js';
import { forgetSnapshot, loadSnapshot, saveSnapshot, snapshotProven } from './snapshot.js';

/**
 * @typedef {{libraries: import('./snapshot.js').Library[], files: [string, number][], data: Uint8Array<ArrayBuffer>, key: string,
 *   bytecode: string, standIns: string[], manifest: any}} Given
 */

/** @param {Given} given @returns {Promise<boolean>} whether it is kept */
async function make({ libraries, files, data, key, bytecode, standIns, manifest }) {
  const root = new URL('../', import.meta.url).href;
  const served = servedBytecode(manifest, root);
  const { loadPyodide } = await import(new URL(manifest.pyodide.module, root).href);
  const pyodide = await startWith(loadPyodide, pyodideOptions(manifest.pyodide), { libraries, files }, Promise.resolve(data.slice())); // Python may write to its own
  pyodide.runPython('import importlib; importlib.invalidate_caches()'); // the files have come after its start
  pyodide.pyimport('nnjit.runtime.bridge_bytecode').install(await loadBytecode(bytecode), await served);
  const install = pyodide.pyimport('nnjit.runtime.bridge_install');
  install.stand_ins().destroy();
  install.destroy();
  pyodide.pyimport('nnjit.runtime.bridge').destroy();
  const last = pyodide.pyimport('nnjit.runtime.bridge_snapshot');
  const proof = last.before();
  last.destroy();
  const memory = pyodide.makeMemorySnapshot();
  return saveSnapshot(key, { facts: { ...connections(pyodide._module), files, standIns, proof, size: memory.byteLength }, memory, files: data });
}

/**
 * @param {Pick<Given, 'key' | 'manifest'>} given @returns {Promise<boolean>} whether later visits may use it
 */
async function prove({ key, manifest }) {
  const kept = await loadSnapshot(key, 'unproven');
  if (!kept) return false; // another page is at it
  try {
    const { loadPyodide } = await import(new URL(manifest.pyodide.module, new URL('../', import.meta.url)).href);
    const pyodide = await startWith(loadPyodide, pyodideOptions(manifest.pyodide), kept.facts, kept.files, kept);
    const found = pyodide.pyimport('nnjit.runtime.bridge_snapshot').proof();
    if (found !== kept.facts.proof) throw new Error('Python is another one when it comes back');
    await snapshotProven(key);
    return true;
  } catch (error) {
    await forgetSnapshot();
    throw error;
  }
}

self.addEventListener('message', async ({ data }) => {
  try {
    postMessage({ kept: await (data.prove ? prove(data) : make(data)) });
  } catch (error) {
    postMessage({ kept: false, error: String(error) });
  }
}, { once: true });
