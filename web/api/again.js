// Work with a plan that failed for no fault of its own: the device was lost meanwhile, or has no room beside what the session
// holds for other shapes. Gives the plan for one more try.
import { asFailure } from './errors.js';
import { Tensor } from './tensor.js';

/** @typedef {import('./feeds.js').Feed} Feed */

/** @param {Feed} feed */
export const onGpu = (feed) => feed instanceof Tensor && feed.location === 'gpu-buffer';

/** On a lost device, or a view of what was mapped from it. @param {Feed} feed */
const lost = (feed) => onGpu(feed) || (feed instanceof Tensor && feed.location === 'none');

/** A device that is found in place of a lost one does not know the session. */
const GONE = new Set(['DEVICE_LOST', 'UNKNOWN_SESSION']);

/**
 * The plan made anew, on a new device or with all memory to itself; rejects with `error` where that does not help: feeds that
 * lay on the device are gone with it.
 * @param {import('./plans.js').Plans | import('./backends.js').Backends} plans @param {unknown} error
 * @param {import('./shelf.js').Prepared} plan it happened with @param {Map<string, Feed>} feeds
 * @param {import('./shelf.js').Request} request @param {import('./options.js').Progress} progress @param {AbortSignal | null} signal
 * @returns {Promise<import('./shelf.js').Prepared>}
 */
export async function remade(plans, error, plan, feeds, request, progress, signal) {
  const { code } = asFailure(error);
  if (plan.backend !== 'webgpu') throw error;
  if (code === 'OUT_OF_MEMORY') return plans.alone(request, progress, signal);
  if (!GONE.has(code) || [...feeds.values()].some(lost)) throw error;
  return plans.get(request, progress, signal);
}
