// A plan that takes another's place in a running session: its fast code is made ahead, it is held against the serving
// plan, and then it gets its key, between two runs.

import { disagreement } from './compare.js';
import { UNWRITTEN } from './lab-bench.js';
import { run } from './run.js';

/** @typedef {import('./session.js').Session} Session */

/**
 * Calls the kernels of some steps on a few of their tiles, on whatever lies in the arena, which is free between runs.
 * @param {Session} session
 * @param {string} key
 * @param {number[]} steps
 * @param {number} from index in `steps`
 * @param {number} ms after so long
 * @param {number} eachMs how long each kernel is called
 * @returns {Promise<number>} where to go on
 */
export async function warmSteps(session, key, steps, from, ms, eachMs) {
  const plan = session.plan(key);
  const start = performance.now();
  let at = from;
  for (; at < steps.length && performance.now() - start < ms; at++) {
    const step = plan.steps[steps[at]];
    const few = { ...step, tiles: Math.min(step.tiles, step.parallel === false ? 1 : session.threads) };
    const until = performance.now() + eachMs;
    do await session.callStep(plan, few); while (performance.now() < until);
  }
  return at;
}

/**
 * Runs both plans on the same feeds and compares what they give.
 * @param {Session} session
 * @param {string} serving
 * @param {string} key
 * @param {import('./types.d.ts').Feed[]} feeds
 * @param {import('./types.d.ts').Agreement[]} outputs
 * @param {import('./run.js').Context} context
 * @returns {Promise<{ok: boolean, worst: number, reason: string, ms: number[]}>}
 */
export async function verifyPlan(session, serving, key, feeds, outputs, context) {
  const found = { ok: true, worst: 0, reason: '', ms: [0, 0] };
  try {
    const base = await run(session, serving, feeds, undefined, false, context);
    const mine = await run(session, key, feeds, undefined, false, context);
    found.ms = [base.ms, mine.ms];
    Object.assign(found, disagreement(outputs, base.outputs, mine.outputs, UNWRITTEN));
    found.ok = !found.reason;
  } catch (cause) {
    found.ok = false;
    found.reason = cause instanceof Error ? cause.message : String(cause);
  }
  return found;
}

/**
 * @param {Session} session
 * @param {string} serving
 * @param {string} key
 */
export async function replacePlan(session, serving, key) {
  const next = session.plan(key);
  await session.dropPlan(serving);
  session.plans.delete(key);
  next.key = serving;
  session.plans.set(serving, next);
}
