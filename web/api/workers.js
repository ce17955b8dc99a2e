// The two workers of a page and the channel between them: the compiler from import on, the engine from the
// first session on; and the GPU, which sessions on WebGPU use from the page itself. restart() replaces those that died; sessions notice by the generation they were made in.
import { EngineClient } from '../engine/client.js';
import { GpuClient } from '../engine/webgpu/client.js';
import { fillTensor, readBuffer } from '../engine/webgpu/given.js';
import { CompilerClient } from './compiler-client.js';
import { asFailure, failure } from './errors.js';
import { keepPython } from './snapshot-making.js';
import { env, log } from './env.js';
import { gpuAccess } from './tensor.js';

/** @typedef {{client: EngineClient, generation: number, death?: import('./errors.js').NnjitError}} Engine */

/** @typedef {{client: GpuClient, generation: number, death?: import('./errors.js').NnjitError}} Gpu */

/** @type {CompilerClient | undefined} */
let compiler;
/** @type {Promise<Engine> | undefined} */
let engine;
/** @type {Engine | undefined} the engine as far as it has started */
let current;
let engines = 0;
/** The last that was ended on purpose. */
let stopped = 0;
/** @type {Promise<Gpu> | undefined} */
let gpu;
let devices = 0;
/** @type {Record<string, import('./rpc.js').Handler>} */
const pageHandlers = {};
/** @type {Set<(which: 'compiler' | 'engine', error: import('./errors.js').NnjitError) => void>} */
const deathListeners = new Set();

/** Calls Python may make to the page (see python-sessions.js). @param {typeof pageHandlers} handlers */
export const servePython = (handlers) => Object.assign(pageHandlers, handlers);

/** The compiler, dead or alive; started if there was none. */
export function getCompiler() {
  compiler ??= startCompiler();
  return compiler;
}

function startCompiler() {
  const client = new CompilerClient(pageHandlers);
  client.onDeath((error) => {
    for (const listener of deathListeners) listener('compiler', error);
  });
  keepPython(client).catch(() => undefined); // who needs the compiler is told what failed
  void engine?.then((e) => link(e, client), () => undefined);
  void gpu?.then((g) => link(g, client), () => undefined);
  return client;
}

/** The engine, dead or alive; started if there was none. @returns {Promise<Engine>} */
export function getEngine() {
  engine ??= startEngine().catch((error) => {
    engine = undefined; // a later session may try again
    throw asFailure(error, 'ENGINE_START_FAILED');
  });
  return engine;
}

/** Why the engine in use is dead, if it is. */
export const engineDeath = () => current?.death;

/** The engine, if nothing has to be awaited to have it. */
export const engineNow = () => (current && !current.death && current.generation > stopped ? current : undefined);

/** @returns {Promise<Engine>} */
async function startEngine() {
  const wanted = env.wasm.numThreads;
  const client = await EngineClient.start(wanted > 0 ? { threads: wanted } : {});
  /** @type {Engine} */
  const started = { client, generation: ++engines };
  current = started;
  client.onDeath((error) => {
    started.death = error;
    for (const listener of deathListeners) listener('engine', error);
  });
  link(started, getCompiler());
  return started;
}

/**
 * The GPU, asked for at first use and again after its device was lost. Rejects with NO_GPU where there is none.
 * @returns {Promise<Gpu>}
 */
export function getGpu() {
  asking ??= currentGpu().finally(() => {
    asking = undefined;
  });
  return asking;
}

/** The GPU, if nothing has to be awaited to have it. */
export const gpuNow = () => (device && !device.client.death && env.webgpu.device === device.client.gpu.device ? device : undefined);

/** The GPU that was started last. @type {Gpu | undefined} */
let device;

/** Whoever asks meanwhile gets the same answer. @type {Promise<Gpu> | undefined} */
let asking;

/** @returns {Promise<Gpu>} */
async function currentGpu() {
  const running = await gpu?.catch(() => undefined);
  const theirs = env.webgpu.device && env.webgpu.device !== running?.client.gpu.device;
  if (!running || running.client.death || theirs) {
    if (!theirs) env.webgpu.device = undefined; // lost: where there is no other, it is not taken for the caller's next time
    gpu = startGpu(env.webgpu.device);
  }
  return /** @type {Promise<Gpu>} */ (gpu);
}

/** @param {GPUDevice | undefined} own the caller's @returns {Promise<Gpu>} */
async function startGpu(own) {
  if (own && !(typeof GPUDevice !== 'undefined' && own instanceof GPUDevice)) {
    throw failure('BAD_ARGUMENT', 'env.webgpu.device is no GPUDevice', { hint: 'await adapter.requestDevice(), or leave it undefined' });
  }
  const client = await GpuClient.start(own ? { device: own } : {});
  env.webgpu.device = client.gpu.device;
  device = { client, generation: ++devices };
  link(device, getCompiler());
  return device;
}

gpuAccess.download = async (buffer, nbytes, home) => {
  const gpu = home ?? (await getGpu()).client.gpu;
  return gpu.guard(() => readBuffer(gpu.device, buffer, nbytes));
};
gpuAccess.fill = async (buffer, from, nbytes, home) => {
  const gpu = home ?? (await getGpu()).client.gpu;
  return gpu.guard(() => fillTensor(gpu.device, buffer, from, nbytes));
};

/**
 * Host calls go from the engine to the compiler without the page in between.
 * @param {Engine | Gpu} to @param {CompilerClient} from
 */
function link(to, from) {
  if (to.death || from.death) return;
  const { port1, port2 } = new MessageChannel();
  void to.client.connectHost(port1);
  from.call('connectEngine', { port: port2 }, { transfer: [port2] }).catch((error) => log('warning', error.message)); // what is sent meanwhile waits in it
}

/** @param {(which: 'compiler' | 'engine', error: import('./errors.js').NnjitError) => void} listener */
export function onDeath(listener) {
  deathListeners.add(listener);
  return () => deathListeners.delete(listener);
}

/**
 * Starts what died anew (or everything, if asked) and resolves when it is up. Living sessions keep their plans;
 * those whose worker died compile again at their next run.
 * @param {{all?: boolean}} [options]
 */
export async function restart({ all = false } = {}) {
  const old = compiler;
  if (old && (old.death || all)) {
    old.terminate();
    compiler = undefined;
  }
  const running = await engine?.catch(() => undefined);
  if (running && (running.death || all)) {
    running.client.terminate();
    stopped = running.generation;
    engine = undefined;
  }
  const fresh = getCompiler();
  await fresh.ready;
  if (running) await getEngine();
}
