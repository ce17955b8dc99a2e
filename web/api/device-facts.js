// The device's facts: measured once in this browser (under two seconds, while nothing runs), kept, and told to the
// compiler, whose rules take their numbers from them.
import { loadFacts, loadRecords, saveFacts } from './tuning-store.js';
import { getCompiler, getEngine } from './workers.js';

/**
 * @typedef {{measured: boolean, fma_gflops: number, muladd_gflops: number, registers: number, l1_bytes: number, l2_bytes: number,
 *   bandwidth: [number, number][], threads: number, scaling: number, barrier_us: number, exp_ns: number, relaxed: string[], version: number,
 *   tookMs?: number}} Facts
 */

/** @type {Promise<Facts> | undefined} */
let known;
let generation = 0;
/** @type {Facts | null} */
let latest = null;

/** Facts as far as they are known by now. */
export const factsNow = () => latest;

/** Asks the compiler with plain data. @param {string} method @param {Record<string, unknown>} args @param {string} [session] */
export const tell = (method, args, session = '') =>
  getCompiler().call(`tune.${method}`, { session, json: JSON.stringify(args) });

/**
 * The facts, measured if this browser has none; the compiler then has them, and the records of earlier visits.
 * @param {{again?: boolean, mode?: 'idle' | 'now'}} [options] mode: whether inferences may be kept waiting for it
 * @returns {Promise<Facts>}
 */
export function deviceFacts({ again = false, mode = 'now' } = {}) {
  const now = getCompiler().generation;
  if (again || generation !== now) known = undefined;
  generation = now;
  known ??= find(again, mode).catch((error) => {
    known = undefined;
    throw error;
  });
  return known;
}

/** @type {Promise<Facts | null> | undefined} */
let stored;

/**
 * What a fresh compiler is told, or this one was: the facts as they are stored. They are read once: another page may measure
 * them meanwhile, which this one's compiler does not hear of.
 * @returns {Promise<Facts | null>}
 */
export function storedFacts() {
  stored ??= browserKey().then(loadFacts).then((found) => /** @type {Facts | undefined} */ (found) ?? null);
  stored.catch(() => {
    stored = undefined;
  });
  return stored;
}

/** @type {{generation: number, done: Promise<void>} | undefined} */
let recalled;

/**
 * Tells a fresh compiler what earlier visits stored; measures nothing.
 * @param {AbortSignal | null} signal @param {import('./options.js').Progress} progress
 */
export async function recall(signal, progress) {
  const compiler = getCompiler();
  await compiler.booted(signal, progress);
  if (recalled?.generation !== compiler.generation) {
    const mine = recalled = { generation: compiler.generation, done: tellStored() };
    mine.done.catch(() => {
      if (recalled === mine) recalled = undefined;
    });
  }
  await recalled.done; // sessions that are made at once wait for the same
}

async function tellStored() {
  const facts = await storedFacts();
  if (!facts) return;
  latest = { ...facts, ...(await tell('know', { facts })).facts };
  await tell('know', { own: await loadRecords(await deviceClass()) });
}

/** @param {boolean} again @param {'idle' | 'now'} mode @returns {Promise<Facts>} */
async function find(again, mode) {
  await recall(null, () => undefined);
  if (latest?.measured && !again) return latest;
  latest = await measure(mode);
  stored = Promise.resolve(latest);
  await saveFacts(await browserKey(), latest);
  await tell('know', { own: await loadRecords(await deviceClass()) });
  return latest;
}

/** @param {'idle' | 'now'} mode @returns {Promise<Facts>} */
async function measure(mode) {
  const { client } = await getEngine();
  const { threads, relaxed, sharedMemory: shared } = client.info;
  const start = performance.now();
  const work = await tell('probing', { relaxed, threads, shared });
  const lab = 'lab-facts';
  await client.openLab(lab, { shared, threads });
  try {
    await client.pace({ mode }, lab);
    const facts = await tell('probed', { ...await client.labMeasure(lab, work) });
    return { ...facts, tookMs: Math.round(performance.now() - start) };
  } finally {
    await client.closeLab(lab);
  }
}

/** Which browser on which machine the facts hold for. */
async function browserKey() {
  const { client } = await getEngine();
  const { threads, hardwareConcurrency, relaxed, sharedMemory } = client.info;
  return [navigator.userAgent, hardwareConcurrency, threads, relaxed, sharedMemory].join('|');
}

/** The name of the class of devices this one belongs to: what records are kept and shared under. @param {number} [threads] */
export async function deviceClass(threads) {
  const { client } = await getEngine();
  const { info } = client;
  const { relaxed, hardwareConcurrency: cores } = info;
  const agent = `${navigator.userAgent} ${navigator.platform ?? ''}`;
  const isa = /aarch64|arm/i.test(agent) ? 'arm' : /x86|win64|wow64|intel|amd64/i.test(agent) ? 'x86' : 'other';
  return /** @type {Promise<string>} */ (
    tell('device', { userAgent: navigator.userAgent, relaxed, cores, threads: threads ?? info.threads, isa })
  );
}
