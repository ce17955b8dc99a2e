// A session's plan is replaced while it serves: Python links a new one, the engine loads it beside the old one, makes
// its fast code, holds both against each other, and between two runs the new one takes over.
import { asFailure } from './errors.js';
import { generateFeeds } from './generate.js';
import { toFeeds } from './plans.js';

/**
 * @typedef {import('./plans.js').Plans} Plans
 * @typedef {{reason: string, plan: import('../engine/types.js').Plan, warm: number[], outputs: import('../engine/types.js').Agreement[],
 *   placement: import('./plans.js').PlacedNode[], verifyMs: number}} Linked
 */

/** How long without a run counts as a pause long enough for one that cannot be cut into slices. */
const PAUSE_MS = 1000;
/** A pause is waited for so long; then the old plan stays. */
const PATIENCE_MS = 60_000;

/**
 * @param {Plans} plans
 * @param {import('../engine/client.js').EngineClient} client
 * @param {string} key the plan's
 * @param {{ask: (method: string, args?: Record<string, unknown>) => Promise<any>, queue: <T>(work: () => Promise<T>) => Promise<T>,
 *   signal: AbortSignal, modelMs: number, idleMs: () => number}} how idleMs: how long ago the last run ended; Infinity: no
 *   pause is asked for
 * @returns {Promise<string>} why the old plan stays; '' if the new one serves
 */
export async function relink(plans, client, key, { ask, queue, signal, modelMs, idleMs }) {
  while (plans.preparing && !signal.aborted) await pause(20); // what is being loaded must be known to be there, or not
  if (signal.aborted) return 'interrupted';
  /** @type {Linked} */
  const linked = await ask('link', { loaded: plans.loaded });
  if (linked.reason) return linked.reason;
  const { plan, warm, outputs, placement, verifyMs } = linked;
  const { id } = plans;
  let loaded = false;
  /** @param {string} reason */
  const give = async (reason) => {
    if (loaded) await client.dropPlan(id, plan.key).catch(() => undefined);
    await ask('unlinked', { reason });
    return reason;
  };
  try {
    const load = await client.loadBeside(id, plan, plans.blobs, signal);
    loaded = true;
    await client.warmPlan(id, plan.key, warm, signal);
    const until = performance.now() + PATIENCE_MS;
    while (2 * modelMs > verifyMs && idleMs() < PAUSE_MS) {
      if (signal.aborted) return await give('interrupted');
      if (performance.now() > until) return await give('no pause was long enough to verify the new plan');
      await pause(50);
    }
    return await queue(async () => {
      const serving = plans.latest;
      if (serving?.key !== key || !serving.facts) return give('the input shapes changed');
      const feeds = generateFeeds(plans.description.inputs, serving.facts.inputs);
      const seen = await client.verifyPlan(id, key, plan.key, toFeeds(serving.facts.inputs, feeds), outputs);
      if (!seen.ok) return give(seen.reason);
      await client.replacePlan(id, key, plan.key);
      loaded = false;
      plans.replaced(key, plan, placement, load);
      await ask('replaced');
      return '';
    });
  } catch (error) {
    return give(asFailure(error).message);
  }
}

/** @param {number} ms @returns {Promise<void>} */
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
