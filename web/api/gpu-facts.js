// The GPU's facts: measured once in this browser for each adapter, kept, and told to the compiler; and the class of
// devices that what is found there is recorded under.
import { tell } from './device-facts.js';
import { loadFacts, loadRecords, saveFacts } from './tuning-store.js';
import { getCompiler } from './workers.js';

/** @typedef {import('../engine/webgpu/client.js').GpuClient} GpuClient */
/** @typedef {{measured: boolean, gflops: number, gbytes: number, near: number, dispatch_us: number, version: number}} GpuRates */

/** Compilers and adapters that have been told: "generation key". @type {Map<string, Promise<GpuRates>>} */
const told = new Map();

/** @type {GpuRates | null} */
let latest = null;

/** Facts of the GPU used last as far as they are known by now. */
export const gpuFactsNow = () => latest;

/** Which browser and adapter facts hold for. @param {GpuClient} client */
export const adapterKey = ({ facts: { vendor, architecture, description } }) => [navigator.userAgent, 'gpu', vendor, architecture, description].join('|');

/** The name of the class of devices this GPU belongs to. @param {GpuClient} client @returns {Promise<string>} */
export function gpuClass({ facts: { vendor, architecture, subgroup, features } }) {
  return /** @type {Promise<string>} */ (tell('device', { userAgent: navigator.userAgent, gpu: { vendor, architecture, subgroup, features } }));
}

/**
 * Tells a fresh compiler what earlier visits stored; measures nothing.
 * @param {GpuClient} client @returns {Promise<GpuRates>} what it believes now
 */
export function recallGpu(client) {
  const key = `${getCompiler().generation} ${adapterKey(client)}`;
  const known = told.get(key);
  if (known) return known;
  const telling = (async () => {
    const gpu = await loadFacts(adapterKey(client));
    const own = await loadRecords(await gpuClass(client));
    const rates = /** @type {GpuRates} */ ((await tell('know', { gpu: gpu ?? null, own })).gpu);
    latest = rates.measured ? rates : null;
    return rates;
  })();
  told.set(key, telling);
  telling.catch(() => told.delete(key));
  return telling;
}

/**
 * The facts, measured if this browser has none for the adapter.
 * @param {import('./plans.js').Plans} plans of a session there @param {GpuClient} client @returns {Promise<GpuRates>}
 */
export async function gpuFacts(plans, client) {
  const known = await recallGpu(client);
  if (known.measured) return known;
  const { probes, pace } = await plans.ask('tune.gpuProbing', {});
  const ms = await client.measure(probes, pace);
  const facts = /** @type {GpuRates} */ (await tell('gpuProbed', { ms }));
  latest = facts;
  told.set(`${getCompiler().generation} ${adapterKey(client)}`, Promise.resolve(facts));
  await saveFacts(adapterKey(client), facts);
  return facts;
}
