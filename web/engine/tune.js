// The mechanism under the tuner: one slot timed by itself, one slot swapped in every thread at once.

import { check, throwIfAborted } from './errors.js';
import { compile } from './load.js';
import { sample } from './measure.js';
import { turn } from './turns.js';

/** @typedef {import('./session.js').Session} Session */

/**
 * Puts the kernel of `bytes` into a slot, or the plan's own again.
 * @param {Session} session
 * @param {string} key
 * @param {number} slot absolute table index
 * @param {Uint8Array | null} bytes
 */
export async function swapSlot(session, key, slot, bytes) {
  const plan = session.plan(key);
  check(slot >= plan.tableBase && slot < plan.tableBase + plan.slots, 'BAD_PLAN',
    `Slot ${slot} is not one of plan "${key}".`, { plan: key, slot });
  const module = bytes ? await compile(bytes) : null;
  await session.mail({ op: 'swap', session: session.no, plan: plan.no, slot, module });
}

/**
 * The lab's candidate takes over a slot in every thread, or the plan's own kernel takes it back. Its module is the lab's, so its fast code comes along. Where
 * its tiles are others, the constants it reads are made over first: the arena is free between inferences.
 * @param {Session} session
 * @param {string} key
 * @param {import('./types.d.ts').Adoption} adoption
 * @param {import('./lab.js').Lab | null} lab null: the plan's own kernel again
 */
export async function adopt(session, key, { slot, pages, repacks }, lab) {
  const plan = session.plan(key);
  check(slot >= plan.tableBase && slot < plan.tableBase + plan.slots, 'BAD_PLAN',
    `Slot ${slot} is not one of plan "${key}".`, { plan: key, slot });
  const { memory } = session;
  memory.ensure(pages);
  // compiled before anything is touched: what fails, fails here
  const work = [];
  for (const { kernels, words, place } of repacks) {
    const ready = await Promise.all(kernels.map(async (kernel) => ({ ...kernel, module: await compile(kernel.module) })));
    work.push({ kernels: ready, words, place });
  }
  const module = lab ? await lab.promote() : null;
  for (const { kernels, words, place } of work) {
    for (const { module: packing, args, pointers, tiles } of kernels) {
      memory.write(args, new Uint8Array(Uint32Array.from(pointers).buffer));
      await session.mail({ op: 'candidate', session: session.no, plan: plan.no, module: packing });
      await session.callStep(plan, { slot: 0, args, tiles }, { candidate: true });
    }
    for (const word of words) memory.write(word, new Uint8Array(Uint32Array.of(place).buffer));
  }
  if (work.length) await session.mail({ op: 'candidate', session: session.no, plan: plan.no, module: null });
  await session.mail({ op: 'swap', session: session.no, plan: plan.no, slot, module });
  if (work.length) session.copy();
}

/**
 * Times the kernel of one step, or a candidate in its place, on the step's own operands as they lie in memory.
 * A sample is the slowest thread's share; nothing but the step's outputs is written.
 * @param {Session} session
 * @param {string} key
 * @param {number} index of the step
 * @param {import('./types.d.ts').TimingOptions} options
 * @param {number} grainMs
 * @param {AbortSignal} signal
 * @returns {Promise<import('./types.d.ts').TimingResult>}
 */
export async function timeSlot(session, key, index, { reps = 9, warmupMs = 25, moduleBytes }, grainMs, signal) {
  const plan = session.plan(key);
  const step = plan.steps[index];
  check(step !== undefined, 'BAD_PLAN', `Plan "${key}" has no step ${index}.`, { plan: key, step: index });
  const { threads } = session;
  const candidate = moduleBytes !== undefined;
  /** @param {WebAssembly.Module | null} module */
  const offer = (module) => session.mail({ op: 'candidate', session: session.no, plan: plan.no, module });
  if (candidate) await offer(await compile(moduleBytes));
  try {
    const few = { ...step, tiles: Math.min(step.tiles, threads) };
    const timing = await sample({
      warm: async () => { await session.callStep(plan, few, { candidate }); },
      full: async (repeat) => Math.max(...await session.callStep(plan, step, { repeat, candidate })),
      pause: async () => {
        throwIfAborted(signal);
        await turn();
      },
    }, { reps, warmupMs, grainMs });
    return { ...timing, grainMs, threads };
  } finally {
    if (candidate) await offer(null);
  }
}
