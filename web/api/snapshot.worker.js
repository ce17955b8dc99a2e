// Makes a snapshot for the next visit: starts a Python of its own from the files of one that has booted, lets it import and
// try out everything, and keeps its memory. Takes one message of what compiler.worker.js says of its Python; tells when done.
import { loadBytecode, servedBytecode } from './bytecode-cache.js';
import { connections, pyodideOptions, startWith } from './restore.js';
import { saveSnapshot } from './snapshot.js';

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
  last.before();
  last.destroy();
  const memory = pyodide.makeMemorySnapshot();
  return saveSnapshot(key, { facts: { ...connections(pyodide._module), files, standIns, size: memory.byteLength }, memory, files: data });
}

self.addEventListener('message', async ({ data }) => {
  try {
    postMessage({ kept: await make(data) });
  } catch (error) {
    postMessage({ kept: false, error: String(error) });
  }
}, { once: true });
