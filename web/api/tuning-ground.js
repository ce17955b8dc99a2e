// Where a plan is tuned: the engine that carries it out, the device's facts, and the class that records are kept under.
import { deviceClass, deviceFacts } from './device-facts.js';
import { gpuClass, gpuFacts } from './gpu-facts.js';
import { getEngine, getGpu } from './workers.js';

/**
 * @typedef {object} Ground
 * @property {import('../engine/client.js').EngineClient} client GpuClient answers the same calls as far as its plans have use for them
 * @property {(how?: {mode?: 'idle' | 'now'}) => Promise<unknown>} facts measured, if they are not known
 * @property {() => Promise<string>} device the class
 */

/** @param {import('./plans.js').Plans} plans @returns {Promise<Ground>} that of the plan used last */
export async function groundOf(plans) {
  if (plans.latest?.backend === 'webgpu') {
    const { client } = await getGpu();
    return { client: /** @type {any} */ (client), facts: () => gpuFacts(plans, client), device: () => gpuClass(client) };
  }
  const { client } = await getEngine();
  return { client, facts: deviceFacts, device: () => deviceClass(plans.options.threads || undefined) };
}
