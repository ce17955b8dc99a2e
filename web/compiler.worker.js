// The compiler worker: boots Pyodide from web/vendor, puts numpy, onnx and nnjit into it, and hands calls to
// py/nnjit/runtime/bridge.py. It decides nothing itself.
import { Rpc, Transferred } from './api/rpc.js';
import { NnjitError, asFailure, failure } from './api/errors.js';
import { holdLock } from './engine/alive.js';
import { collect } from './engine/garbage.js';
import { bytecodeKey, loadBytecode, saveBytecode, servedBytecode } from './api/bytecode-cache.js';
import { fetchAll } from './api/fetch-parts.js';
import { ArrivingFile } from './api/arriving.js';
import { contents, packageFiles, pyodideOptions, startWith } from './api/restore.js';
import { forgetOthers, forgetSnapshot, loadSnapshot, snapshotKey, snapshotUsed } from './api/snapshot.js';

/**
 * @typedef {{json: string, paths: (string | number)[][], buffers: Uint8Array[]}} Answer
 * @typedef {{dispatch: (method: string, args: unknown, progress?: unknown, cancel?: unknown) => Answer,
 *   run_python: (code: string) => Promise<Answer>, connect: (call: (method: string, args: unknown) => Promise<unknown>, fetch: (name: string) => unknown) => string}} Bridge
 */

/** @type {Bridge | undefined} */
let bridge;
/** Whether a plan has been asked for. */
let preparing = false;
/** Until when the compiler does nothing that nobody waits for, by performance.now(). */
let restUntil = 0;
/** Keeps bytecode that was compiled since the last time; soon, when nobody waits. */
let keepBytecode = () => {};
/** What another worker makes a snapshot of Python from. @type {() => object} */
let forSnapshot = () => ({});
/** Whether the page's own code has run in Python: it may have written files, and no later visit is to find them. */
let ranCode = false;

const rpc = new Rpc(/** @type {import('./api/rpc.js').Port} */ (/** @type {unknown} */ (self)), {
  'boot.locked': ({ lock }) => holdLock(lock),
  boot: () => booted,
  connectEngine: ({ port }) => serveEngine(port),
  'snapshot.from': async () => (await up(), ranCode ? {} : forSnapshot()),
  'snapshot.forget': forgetSnapshot,
  rest: ({ ms }) => void (restUntil = performance.now() + ms),
  python: async ({ code }) => {
    const python = await up();
    ranCode = true;
    return unpack(await python.run_python(code));
  },
});

// Everything else is Python's: the table of methods is bridge.METHODS.
const METHODS = ['settle', 'reads', 'prepare', 'suggest', 'release', 'reference', 'check', 'kernel', 'stats', 'refuse', 'proof.policy', 'proof.open', 'proof.next', 'proof.told'];
const TUNING = ['know', 'forget', 'device', 'probing', 'probed', 'gpuProbing', 'gpuProbed', 'moving', 'policy', 'prefer', 'open', 'surveyed', 'records', 'next', 'measured', 'report',
  'paired', 'link', 'replaced', 'unlinked', 'restore', 'adoption', 'adopted', 'refused', 'status', 'dump', 'reset', 'drop'];
for (const method of [...METHODS, ...TUNING.map((name) => `tune.${name}`)]) {
  rpc.handlers[method] = async (args, { progress, cancel }) => {
    preparing ||= method === 'prepare';
    const answer = (await up()).dispatch(method, args, progress, cancel);
    keepBytecode();
    if (method === 'release' || method === 'settle') collect(); // a session's files live while any worker has not collected them
    return unpack(answer);
  };
}

/**
 * A file may be on its way still: its graph is read as far as it has come, and other calls have their turn meanwhile.
 * @param {any} args @param {import('./api/rpc.js').CallContext} context
 */
rpc.handlers.create = async (args, { progress, cancel, signal }) => {
  const file = (/** @type {import('./engine/source.js').Bytes} */ bytes) => (bytes instanceof Blob ? bytes : new ArrivingFile(bytes));
  const model = file(args.model);
  const given = { ...args, model, external: args.external.map((/** @type {any} */ one) => ({ ...one, bytes: file(one.bytes) })) };
  for (;;) {
    const { need } = answered((await up()).dispatch('walk', given, progress, cancel));
    if (!need) break;
    if (model instanceof ArrivingFile) await model.need(need, signal);
    if (signal.aborted) throw failure('ABORTED', 'Creating the session was cancelled');
  }
  const answer = (await up()).dispatch('create', given, progress, cancel);
  keepBytecode();
  return unpack(answer);
};

const booted = boot();
booted.catch(() => undefined); // whoever asks is told

async function up() {
  await booted;
  return /** @type {Bridge} */ (bridge);
}

/** @returns {Promise<import('./api/compiler-client.js').CompilerInfo>} */
async function boot() {
  /** @type {Record<string, number>} */
  const bootMs = {};
  let last = performance.now();
  const mark = (/** @type {string} */ name) => {
    bootMs[name] = performance.now() - last;
    last = performance.now();
  };
  const tell = (/** @type {number} */ done, /** @type {number} */ total) => void rpc.call('boot.progress', ['runtime', done, total]).catch(() => undefined);

  const manifest = await (await fetchChecked('dist/manifest.json', { cache: 'no-cache' })).json();
  const key = bytecodeKey(manifest);
  const snapshot = snapshotKey(key);
  const anew = self.location.hash === '#anew'; // the page has given up a worker that hung on a snapshot
  const restoring = (/** @type {boolean} */ under) => void (anew || rpc.call('boot.restoring', under).catch(() => undefined));
  restoring(true);
  const kept = anew ? undefined : await loadSnapshot(snapshot);
  if (!kept) restoring(false);
  const parts = kept ? undefined : partsOf(manifest, tell);
  const { loadPyodide } = await import(new URL(manifest.pyodide.module, import.meta.url).href);
  const options = {
    ...pyodideOptions(manifest.pyodide),
    stdout: (/** @type {string} */ text) => console.log(text),
    stderr: (/** @type {string} */ text) => console.warn(text),
  };
  mark('loader');
  /** @param {any} pyodide */
  const connect = (pyodide) => {
    bridge = /** @type {Bridge} */ (pyodide.pyimport('nnjit.runtime.bridge'));
    return JSON.parse(bridge.connect((method, args) => rpc.call(method, args), (name) => fetchNow(manifest.onDemand?.[name])));
  };
  const back = kept && await goOn(loadPyodide, options, kept, connect);
  if (kept) {
    restoring(false);
    mark('snapshot');
  }
  const { pyodide, standIns, versions } = back ?? await startAnew(loadPyodide, options, manifest, parts, { tell, mark }, connect);
  watchForFatalErrors(pyodide);
  const bytecode = pyodide.pyimport('nnjit.runtime.bridge_bytecode');
  mark('import');
  tell(1, 1);
  let waiting = false;
  let tidy = false; // of earlier versions, also where this one keeps nothing
  keepBytecode = () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => {
      waiting = false;
      const blob = bytecode.take();
      if (blob || !tidy) void saveBytecode(key, blob);
      if (!tidy) void forgetOthers(snapshot);
      tidy = true;
    }, 3000);
  };
  keepBytecode();
  if (back) void snapshotUsed(snapshot);
  else {
    warmUp(pyodide.pyimport('nnjit.runtime.warming').parts());
    setTimeout(() => {
      const paths = packageFiles(pyodide);
      forSnapshot = () => {
        const given = { ...contents(pyodide, paths), key: snapshot, bytecode: key, standIns, manifest };
        return new Transferred(given, [given.data.buffer]);
      };
    });
  }
  const { taken, compiled } = bytecode.counts().toJs({ dict_converter: Object.fromEntries });
  return { ...versions, pyodide: pyodide.version, bootMs, standIns, bytecode: { taken, compiled }, restored: Boolean(back), files: key };
}

/**
 * Python as an earlier visit left it; undefined where that cannot be used.
 * @param {(options: object) => Promise<any>} loadPyodide @param {object} options @param {import('./api/snapshot.js').Snapshot} kept
 * @param {(pyodide: any) => any} connect
 * @returns {Promise<{pyodide: any, standIns: string[], versions: any} | undefined>}
 */
async function goOn(loadPyodide, options, kept, connect) {
  try {
    const pyodide = await startWith(loadPyodide, options, kept.facts, kept.files, kept);
    pyodide.pyimport('nnjit.runtime.bridge_snapshot').back();
    return { pyodide, standIns: kept.facts.standIns, versions: connect(pyodide) };
  } catch (error) {
    console.warn('[nnjit] Python starts anew: the snapshot of an earlier visit cannot be used', error);
    await forgetSnapshot();
    return undefined;
  }
}

/**
 * What Python needs beside itself, all on its way at once.
 * @param {any} manifest @param {(done: number, total: number) => void} tell
 */
function partsOf(manifest, tell) {
  return {
    wheels: fetchAll([manifest.nnjit, ...manifest.packages], import.meta.url, tell),
    bytecode: servedBytecode(manifest, import.meta.url),
  };
}

/**
 * Python with its packages unpacked, and with the bytecode of earlier visits.
 * @param {(options: object) => Promise<any>} loadPyodide @param {object} options
 * @param {any} manifest @param {ReturnType<typeof partsOf> | undefined} early its files, where they are on their way
 * @param {{tell: (done: number, total: number) => void, mark: (stage: string) => void}} watch
 * @param {(pyodide: any) => any} connect
 * @returns {Promise<{pyodide: any, standIns: string[], versions: any}>}
 */
async function startAnew(loadPyodide, options, manifest, early, { tell, mark }, connect) {
  const parts = early ?? partsOf(manifest, tell);
  const earlier = loadBytecode(bytecodeKey(manifest));
  const pyodide = await loadPyodide(options);
  mark('python');
  const [nnjit, ...wheels] = await parts.wheels;
  const [kept, served] = [await earlier, await parts.bytecode];
  mark('download');
  const steps = wheels.length + 2;
  pyodide.unpackArchive(nnjit, 'wheel');
  pyodide.pyimport('nnjit.runtime.bridge_bytecode').install(kept, served);
  mark('nnjit');
  const install = pyodide.pyimport('nnjit.runtime.bridge_install');
  tell(1, steps);
  wheels.forEach((wheel, i) => {
    install.unpack(manifest.packages[i].name, wheel);
    tell(i + 2, steps);
    mark(manifest.packages[i].name);
  });
  const standIns = install.stand_ins().toJs();
  install.destroy();
  return { pyodide, standIns, versions: connect(pyodide) };
}

/**
 * Lets the compiler try itself out, a part at a time while nobody waits: a first model is compiled the sooner.
 * @param {{next: () => {done?: boolean}, destroy: () => void}} parts
 */
function warmUp(parts) {
  const next = () => {
    const rest = restUntil - performance.now();
    if (rest > 0) return void setTimeout(next, rest);
    let more = false;
    try {
      more = !preparing && !parts.next().done;
    } catch (error) {
      console.error('warming up failed', error);
    }
    if (more) setTimeout(next);
    else parts.destroy();
  };
  setTimeout(next);
}

/** @param {string} path @param {RequestInit} [init] */
async function fetchChecked(path, init) {
  const url = new URL(path, import.meta.url).href;
  const response = await fetch(url, init).catch((cause) => {
    throw failure('NETWORK', `${url} could not be fetched`, { url, cause });
  });
  if (!response.ok) {
    throw failure('NETWORK', `${url} answered ${response.status}`, {
      url,
      status: response.status,
      hint: 'serve the page with `python3 serve.py`, which makes this file',
    });
  }
  return response;
}

/** A package's bytes while Python waits, which workers may; undefined where it cannot be had. @param {{url: string} | undefined} file */
function fetchNow(file) {
  if (!file) return undefined;
  const request = new XMLHttpRequest();
  request.open('GET', new URL(file.url, import.meta.url).href, false);
  request.responseType = 'arraybuffer';
  request.send();
  return request.status === 200 ? request.response : undefined;
}

/** The plain data of an answer of the bridge. @param {Answer} answer */
function answered({ json }) {
  const { value, error } = JSON.parse(json);
  if (error) throw NnjitError.from(error);
  return value;
}

/**
 * An answer of the bridge as a value; its buffers go back into place and are moved, not copied, to the page.
 * @param {Answer} answer
 */
function unpack(answer) {
  const { paths, buffers } = answer;
  const root = { value: answered(answer) };
  paths.forEach((path, i) => {
    /** @type {any} */
    let at = root;
    for (const step of path.slice(0, -1)) at = at[step];
    at[path[path.length - 1]] = buffers[i];
  });
  return new Transferred(root.value, buffers.map((bytes) => bytes.buffer));
}

/** Host calls straight from the engine; see web/engine/host.js for the messages. @param {MessagePort} port */
function serveEngine(port) {
  port.onmessage = async ({ data }) => {
    try {
      const { value, transfer } = unpack((await up()).dispatch('host', data));
      port.postMessage({ id: data.id, .../** @type {object} */ (value) }, transfer);
    } catch (error) {
      port.postMessage({ id: data.id, error: asFailure(error, 'HOST_CALL_FAILED').toJSON() });
    }
  };
}

/**
 * After a fatal error (a trap in the interpreter, memory gone) Pyodide answers nothing more: say so and end.
 * @param {any} pyodide
 */
function watchForFatalErrors(pyodide) {
  pyodide._api.on_fatal = async (/** @type {Error} */ error) => {
    await forgetSnapshot(); // what led here may be in it
    await rpc.call('boot.died', { message: `Python stopped: ${error.message}` }).catch(() => undefined);
    self.close();
  };
}
