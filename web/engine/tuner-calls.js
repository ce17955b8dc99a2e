// The calls of the engine worker that the tuner makes: slots, labs, windows between inferences, plans that take another's place.

import { check } from './errors.js';
import { Lab } from './lab.js';
import { compile } from './load.js';
import { microbench } from './microbench.js';
import { tryPair } from './pair.js';
import { replacePlan, verifyPlan, warmSteps } from './replace.js';
import { Session } from './session.js';
import { adopt, swapSlot, timeSlot } from './tune.js';

/** @typedef {import('./engine.js').Call} Call */
/** @typedef {import('./engine.js').Engine} Engine */
/** @typedef {import('./types.d.ts').Feed} Feed */

/** What inferences waited for a lab so far, and still may. @param {Engine} engine @param {string} id @returns {import('./types.d.ts').PaceReport} */
function waits(engine, id) {
  const { allowance, policy } = engine.lab(id).bench;
  const { delayedMs, delayed, starved } = allowance;
  return { delayedMs, delayed, starved, leftMs: policy ? allowance.leftMs(policy.pace) : Infinity };
}

/**
 * What a lab is asked to do, and with the answer what inferences waited: to ask for that would take as long as an inference.
 * @template T
 * @param {Engine} engine @param {string} id @param {(lab: Lab) => Promise<T>} work @param {boolean} [more] something else may be asked soon
 * @returns {Promise<T & {waits: import('./types.d.ts').PaceReport}>}
 */
async function inLab(engine, id, work, more = true) {
  const found = engine.lab(id);
  let goesOn = false;
  try {
    const answer = await work(found);
    goesOn = more;
    return { ...answer, waits: waits(engine, id) };
  } finally {
    found.bench.done(goesOn);
  }
}

/** @param {Engine} engine */
export const tunerCalls = (engine) => ({
  /**
   * @param {Call} _call
   * @param {string} id
   * @param {string} key
   * @param {number} slot
   * @param {Uint8Array | null} bytes
   */
  swapSlot(_call, id, key, slot, bytes) {
    const target = engine.session(id);
    return target.inOrder(() => swapSlot(target, key, slot, bytes));
  },

  /**
   * @param {Call} call
   * @param {string} id
   * @param {string} key
   * @param {number} step
   * @param {import('./types.d.ts').TimingOptions} options
   */
  timeSlot({ signal, cancel }, id, key, step, options) {
    const target = engine.session(id);
    return target.inOrder(() => timeSlot(target, key, step, options, engine.info.clockGrainMs, signal), cancel);
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {string} key
   * @returns {Promise<import('./types.d.ts').StepMs[]>} of the next inference, whenever that is
   */
  async survey(_call, id, key) {
    const plan = engine.session(id).plan(key);
    return new Promise((resolve) => { plan.survey = resolve; });
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {{shared: boolean, threads: number, maxPages?: number, mode?: 'now' | 'idle', earlierMs?: number}} options
   */
  async openLab(_call, id, { mode, earlierMs, ...options }) {
    check(!engine.labs.has(id), 'DUPLICATE_SESSION', `There is a lab "${id}" already.`, { session: id });
    const made = new Session(id, engine.pool, { ...options, shared: options.shared && engine.info.sharedMemory });
    const opened = new Lab(made, engine.pace, engine.info.clockGrainMs, earlierMs);
    if (mode) opened.bench.allowance.mode = mode;
    await made.open();
    engine.labs.set(id, opened);
    return waits(engine, id);
  },

  /**
   * @param {Call} call
   * @param {string} id
   * @param {import('./types.d.ts').LabSetup} setup
   */
  labSetup({ signal }, id, setup) {
    return inLab(engine, id, (found) => found.setup(setup, signal));
  },

  /**
   * @param {Call} call
   * @param {string} id
   * @param {import('./types.d.ts').LabTrial} trial
   */
  labTrial({ signal }, id, trial) {
    return inLab(engine, id, (found) => found.trial(trial, signal));
  },

  /**
   * @param {Call} call
   * @param {string} id
   * @param {import('./types.d.ts').LabWork} work
   */
  labMeasure({ signal }, id, work) {
    return inLab(engine, id, ({ bench }) => microbench(bench, work, signal), false);
  },

  /**
   * @param {Call} call
   * @param {string} id
   * @param {import('./types.d.ts').LabPair} pair
   */
  labPair({ signal }, id, pair) {
    return inLab(engine, id, ({ bench }) => tryPair(bench, pair, signal));
  },

  /**
   * @param {Call} call
   * @param {string} id
   */
  labConfirm({ signal }, id) {
    return inLab(engine, id, (found) => found.confirm(signal), false);
  },

  /**
   * @param {Call} _call
   * @param {string} id
   */
  async closeLab(_call, id) {
    const { bench } = engine.lab(id);
    engine.pace.close(bench.allowance);
    engine.labs.delete(id);
    return { freed: await bench.session.release() };
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {string} key
   * @param {import('./types.d.ts').Adoption} adoption
   */
  adopt(_call, id, key, adoption) {
    const target = engine.session(id);
    const owner = adoption.lab ? engine.lab(adoption.lab) : null;
    const work = () => adopt(target, key, adoption, owner);
    return target.inOrder(() => (owner ? engine.pace.during(owner.bench.allowance, work) : work()));
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {string} key
   * @param {Uint8Array} bytes
   */
  async stagePlan(_call, id, key, bytes) {
    const session = engine.session(id);
    session.staged.set(key, { bytes, module: await compile(bytes) });
  },

  /**
   * Resolves when a window would be due.
   * @param {Call} call
   * @param {string} labId
   * @param {import('./types.d.ts').PacePolicy} policy
   */
  async gap({ signal }, labId, policy) {
    const { allowance } = engine.lab(labId).bench;
    allowance.owed = await engine.pace.gap(allowance, policy, signal);
    engine.pace.close(allowance);
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {string} key
   * @param {string} labId
   * @param {import('./types.d.ts').PacePolicy} policy
   * @param {number[]} steps
   * @param {number} from
   * @returns {Promise<number>} where to go on: `from` if it is not due yet
   */
  warmSteps(_call, id, key, labId, policy, steps, from) {
    const target = engine.session(id);
    const { allowance } = engine.lab(labId).bench;
    return target.inOrder(async () => {
      const ms = engine.pace.take(allowance, policy);
      try {
        return ms ? await engine.pace.during(allowance, () => warmSteps(target, key, steps, from, ms, policy.warmEachMs)) : from;
      } finally {
        engine.pace.close(allowance);
      }
    });
  },

  /**
   * @param {Call} call
   * @param {string} id
   * @param {string} serving
   * @param {string} key
   * @param {string} labId
   * @param {Feed[]} feeds
   * @param {import('./types.d.ts').Agreement[]} outputs
   */
  verifyPlan({ signal }, id, serving, key, labId, feeds, outputs) {
    const target = engine.session(id);
    const { allowance } = engine.lab(labId).bench;
    return target.inOrder(() => engine.pace.during(allowance, () => verifyPlan(target, serving, key, feeds, outputs, { host: engine.host, signal })));
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {string} serving
   * @param {string} key
   */
  replacePlan(_call, id, serving, key) {
    const target = engine.session(id);
    return target.inOrder(() => replacePlan(target, serving, key));
  },

  /**
   * @param {Call} _call
   * @param {{mode?: 'now' | 'idle'}} [change]
   * @param {string} [labId] default all labs, and those that are opened later
   * @returns {Promise<import('./types.d.ts').PaceReport>}
   */
  async pace(_call, { mode } = {}, labId = '') {
    const asked = labId ? [labId] : [...engine.labs.keys()];
    if (mode && !labId) engine.pace.mode = mode;
    if (mode) for (const id of asked) engine.lab(id).bench.allowance.mode = mode;
    const all = asked.map((each) => waits(engine, each));
    return {
      delayedMs: all.reduce((sum, { delayedMs }) => sum + delayedMs, 0), delayed: all.reduce((sum, { delayed }) => sum + delayed, 0),
      leftMs: Math.min(...all.map(({ leftMs }) => leftMs)), starved: all.some(({ starved }) => starved),
    };
  },
});
