// A session's plan is replaced while it serves: Python links a new one, the engine loads it beside the old one, makes
// its fast code, holds both against each other, and between two runs the new one takes over.
import { asFailure } from './errors.js';
import { toFeeds } from './execute.js';
import { feedsFor } from './generate.js';

/**
 * @typedef {import('./plans.js').Plans} Plans
 * @typedef {{reason: string, plan: import('../engine/types.js').Plan, warm: number[], outputs: import('../engine/types.js').Agreement[],
 *   placement: import('./plans.js').PlacedNode[], pace: import('../engine/types.js').PacePolicy, pauseMs: number, patienceMs: number}} Linked pauseMs: without a run for so
 *   long counts as a pause; patienceMs: one is waited for so long, then the old plan stays
 */

/**
 * @param {Plans} plans
 * @param {import('../engine/client.js').EngineClient & {freeConstants?: (id: string, constants: number[]) => Promise<void>}} client
 * @param {string} key the plan's
 * @param {{ask: (method: string, args?: Record<string, unknown>) => Promise<any>, queue: <T>(work: () => Promise<T>) => Promise<T>,
 *   signal: AbortSignal, lab: string, modelMs: number, mayMs: () => Promise<number>, idleMs: () => number}} how lab: in whose
 *   name; mayMs: how long inferences may still wait; idleMs: how long ago the last run ended; Infinity: no pause is asked for
 * @returns {Promise<string>} why the old plan stays; '' if the new one serves
 */
export async function relink(plans, client, key, { ask, queue, signal, lab, modelMs, mayMs, idleMs }) {
  await quiet(plans, queue, signal); // what is being loaded must be known to be there, or not
  if (signal.aborted) return 'interrupted';
  /** @type {Linked} */
  const linked = await ask('link', { loaded: plans.loaded });
  if (linked.reason) return linked.reason;
  const { plan, warm, outputs, placement, pace, pauseMs, patienceMs } = linked;
  const { id } = plans;
  let loaded = false;
  /** @param {string} reason */
  const give = async (reason) => {
    if (loaded) await client.dropPlan(id, plan.key).catch(() => undefined);
    await ask('unlinked', { reason });
    return reason;
  };
  try {
    const load = await client.loadBeside(id, plan, plans.files, lab, signal);
    loaded = true;
    await client.warmPlan(id, plan.key, lab, warm, pace, signal);
    const until = performance.now() + patienceMs;
    while (idleMs() < pauseMs && 2 * modelMs > 0.8 * await mayMs()) {
      if (signal.aborted) return await give('interrupted');
      if (performance.now() > until) return await give('no pause was long enough to verify the new plan');
      await pause(50);
    }
    return await queue(async () => {
      const serving = plans.latest;
      if (serving?.key !== key || !serving.facts) return give('the input shapes changed');
      const feeds = feedsFor(plans.description.inputs, serving);
      const seen = await client.verifyPlan(id, key, plan.key, lab, toFeeds(serving, feeds), outputs);
      if (!seen.ok) return give(seen.reason);
      await client.replacePlan(id, key, plan.key);
      loaded = false;
      plans.replaced(key, plan, placement, load);
      const { free } = await ask('replaced');
      if (free.length) await client.freeConstants?.(id, free); // on a GPU constants have buffers of their own
      return '';
    });
  } catch (error) {
    return give(asFailure(error).message);
  }
}

/**
 * Until no plan is being made. One that was made ahead and waits to be loaded is: runs may be over.
 * @param {Pick<Plans, 'preparing' | 'waits' | 'settle'>} plans @param {(work: () => Promise<void>) => Promise<void>} queue @param {AbortSignal} signal
 */
export async function quiet(plans, queue, signal) {
  while (plans.preparing && !signal.aborted) {
    if (plans.waits) await queue(() => plans.settle());
    else await pause(20);
  }
}

/** @param {number} ms @returns {Promise<void>} */
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
