// When a snapshot of Python is made for the next visit (snapshot.worker.js): some time after a start without one, while
// nothing else is going on. It takes some seconds of one core and some 100 MB, so any other work ends it, to be tried later.
import { env, log } from './env.js';
import { forgetSnapshot, hasSnapshot } from './snapshot.js';
import { pause } from './tuning-calm.js';
import { UnderWay } from './under-way.js';

/** Needed before there is a Python to ask: nothing has been asked of the compiler and no run was under way for so long. */
const CALM_MS = 4000;
const LOOK_MS = 100;
const TRIES = 4;
/** Where making one, or proving it, takes longer, its worker hangs. */
const LIMIT_MS = 120_000;
/** What it takes in the browser's storage, and how much must be left then. */
const BYTES = 1e8;
const SPARE = 3;
/**
 * What nobody asked for may take this part of a device's memory, for some seconds: more, and a phone that is short of it ends the
 * page for what only the next visit has of it. Making takes the memory of a second Python, a copy of it to be stored, and the
 * packages' files twice. Browsers tell memory in powers of two; one that tells nothing is no phone's, or has no storage either.
 */
const MAY_TAKE = 1 / 16;
const MAKING_BYTES = 4e8;
/** Held while one is made and proven: another page of this origin would delete it. */
const LOCK = 'nnjit-snapshot';

/** Runs of all sessions. */
export const allRuns = new UnderWay();

/** Why none is to be made, or ''. @returns {Promise<string>} */
async function against() {
  if (env.snapshot === true) return '';
  if (env.snapshot === false) return 'env.snapshot is false';
  const { webdriver, deviceMemory = Infinity, storage } = /** @type {Navigator & {deviceMemory?: number}} */ (navigator);
  if (webdriver) return 'a program drives this browser'; // it will hardly come back
  if (!('userAgentData' in navigator)) return 'it was tried in Chromium only';
  if (deviceMemory * 2 ** 30 * MAY_TAKE < MAKING_BYTES) return `the device has ${deviceMemory} GiB of memory`;
  const { quota = 0, usage = 0 } = (await storage?.estimate?.().catch(() => undefined)) ?? {};
  return quota - usage < SPARE * BYTES ? 'storage is short' : '';
}

/**
 * Begins once the compiler is up.
 * @param {import('./compiler-client.js').CompilerClient} client @param {number} [limitMs] for making it, and for proving it
 * @returns {Promise<string>} 'kept', or why none is
 */
export async function keepPython(client, limitMs = LIMIT_MS) {
  const { restored } = await client.ready;
  if (env.snapshot === false) await client.rpc.call('snapshot.forget', undefined);
  else if (restored) return 'this Python came from one';
  const calmMs = () => (client.death ? Infinity : Math.min(client.rpc.quietMs, allRuns.idleMs));
  for (let tries = 0; tries < TRIES; tries++) {
    while (calmMs() < CALM_MS * 2 ** tries) await pause(10 * LOOK_MS);
    const why = client.death ? 'the compiler is gone' : await against();
    if (why) return why;
    const result = await alone(async () => {
      const given = await client.rpc.call('snapshot.from', undefined);
      if (!given.data) return 'code of the page has run in this Python';
      if (await hasSnapshot(given.key)) return 'there is one';
      const begun = performance.now();
      const calm = () => {
        const ms = calmMs();
        return !client.death && ms > 0 && ms > performance.now() - begun - LOOK_MS;
      };
      const made = await inWorker(given, [given.data.buffer], calm, limitMs);
      return made === 'kept' ? inWorker({ prove: true, key: given.key, manifest: given.manifest }, [], calm, limitMs) : made;
    });
    if (result !== 'disturbed') {
      log('info', `a snapshot of Python: ${result}`);
      return result;
    }
  }
  return 'there was always something else to do';
}

/**
 * While no other page is at it. Without locks, as where storage is blocked, nobody is kept out.
 * @param {() => Promise<string>} work @returns {Promise<string>}
 */
async function alone(work) {
  let begun = false;
  const inside = (/** @type {Lock | null} */ lock) => {
    begun = true;
    return lock ? work() : 'another page is at it';
  };
  try {
    return await navigator.locks.request(LOCK, { ifAvailable: true }, inside);
  } catch (error) {
    if (begun) throw error;
    return work();
  }
}

/**
 * Makes a snapshot, or proves it.
 * @param {object} message @param {Transferable[]} transfer @param {() => boolean} calm  whether nothing else has been done since
 * @param {number} limitMs
 * @returns {Promise<string>}
 */
async function inWorker(message, transfer, calm, limitMs) {
  const worker = new Worker(new URL('./snapshot.worker.js', import.meta.url), { type: 'module', name: 'nnjit snapshot' });
  /** @type {string | undefined} */
  let result;
  worker.onmessage = ({ data: { kept, error } }) => (result = kept ? 'kept' : error ?? 'there is no room for it');
  worker.onerror = (event) => {
    event.preventDefault();
    result = event.message ?? 'its worker did not start';
  };
  worker.postMessage(message, transfer);
  const end = performance.now() + limitMs;
  while (result === undefined && calm() && performance.now() < end) await pause(LOOK_MS);
  worker.terminate();
  if (result === undefined) await forgetSnapshot(); // it was left half-way
  return result ?? (performance.now() < end ? 'disturbed' : `its worker was not done after ${limitMs / 1000} s`);
}
