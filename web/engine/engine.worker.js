// The engine worker: thread 0 of the pool and the far end of EngineClient's calls. It holds sessions and does as
// it is told; what to build, load, swap or time is decided elsewhere.

import { holdLock } from './alive.js';
import { NnjitError, asError, check } from './errors.js';
import { probe } from './features.js';
import { collect } from './garbage.js';
import { Host } from './host.js';
import { Lab } from './lab.js';
import { compile, loadPlan } from './load.js';
import { microbench } from './microbench.js';
import { tryPair } from './pair.js';
import { Pace } from './pace.js';
import { Pool } from './pool.js';
import { replacePlan, verifyPlan, warmSteps } from './replace.js';
import { profile, run } from './run.js';
import { Session } from './session.js';
import { adopt, swapSlot, timeSlot } from './tune.js';

/** @typedef {import('./types.d.ts').Plan} Plan */
/** @typedef {import('./types.d.ts').Feed} Feed */
/** @typedef {import('./types.d.ts').Reply} Reply */
/**
 * cancel: the signal again if the caller holds the other end, so that it is worth a look.
 * at: when the caller sent it.
 * @typedef {{signal: AbortSignal, cancel?: AbortSignal, progress: import('./types.d.ts').Progress, at: number}} Call
 */

const port = /** @type {Worker} */ (/** @type {unknown} */ (self));
const host = new Host();
/** @type {Map<string, Session>} */
const sessions = new Map();
/** @type {Map<string, Lab>} */
const labs = new Map();
/** @type {Pace} */
let pace;
/** @type {Pool} */
let pool;
/** @type {import('./types.d.ts').EngineInfo} */
let info;

/** @param {string} id */
function session(id) {
  const found = sessions.get(id);
  check(found !== undefined, 'UNKNOWN_SESSION', `There is no session "${id}".`, { session: id });
  return found;
}

/** @param {string} id */
function lab(id) {
  const found = labs.get(id);
  check(found !== undefined, 'UNKNOWN_SESSION', `There is no lab "${id}".`, { session: id });
  return found;
}

/** What inferences waited for a lab so far, and still may. @param {string} id @returns {import('./types.d.ts').PaceReport} */
function waits(id) {
  const { allowance, policy } = lab(id).bench;
  const { delayedMs, delayed, starved } = allowance;
  return { delayedMs, delayed, starved, leftMs: policy ? allowance.leftMs(policy.pace) : Infinity };
}

/**
 * What a lab is asked to do, and with the answer what inferences waited: to ask for that would take as long as an inference.
 * @template T
 * @param {string} id @param {(lab: Lab) => Promise<T>} work @param {boolean} [more] something else may be asked soon
 * @returns {Promise<T & {waits: import('./types.d.ts').PaceReport}>}
 */
async function inLab(id, work, more = true) {
  const found = lab(id);
  let goesOn = false;
  try {
    const answer = await work(found);
    goesOn = more;
    return { ...answer, waits: waits(id) };
  } finally {
    found.bench.done(goesOn);
  }
}

const methods = {
  /**
   * @param {Call} _call
   * @param {{threads?: number, lock: string}} options
   */
  async start(_call, { threads, lock }) {
    await holdLock(lock);
    info = probe(threads);
    pool = new Pool(info.threads, info.sharedMemory, (error) => port.postMessage({ id: 0, error: error.toJSON() }));
    pace = new Pace(pool.control);
    const control = info.sharedMemory ? pool.control.buffer : null;
    return { info, locks: [lock, ...await pool.start(lock)], control };
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {import('./types.d.ts').SessionOptions} options
   */
  async createSession(_call, id, { shared = info.sharedMemory, threads = info.threads, maxPages, runOn = 'auto' } = {}) {
    check(!sessions.has(id), 'DUPLICATE_SESSION', `There is a session "${id}" already.`, { session: id });
    check(!shared || info.sharedMemory, 'BAD_PLAN',
      'Memory cannot be shared here: the page is not cross-origin isolated.');
    const many = shared ? Math.min(Math.max(1, Math.floor(threads)), info.threads) : 1;
    const tell = (/** @type {import('./types.d.ts').Mail} */ mail, /** @type {Transferable[]} */ transfer = []) => {
      try {
        port.postMessage({ id: 0, mail }, transfer);
      } catch (cause) {
        if (mail.op !== 'plan') throw cause; // modules cannot be sent here: the caller's thread gets none to run
      }
    };
    const made = new Session(id, pool, { shared, threads: many, maxPages }, runOn === 'auto' ? tell : null);
    sessions.set(id, made);
    try {
      await made.open();
    } catch (cause) {
      sessions.delete(id);
      throw cause;
    }
    const own = made.memory;
    return { shared, threads: made.threads, maxPages: own.maxPages, memory: shared ? own.memory : undefined, no: made.no };
  },

  /**
   * @param {Call} call
   * @param {string} id
   * @param {Plan} plan
   * @param {import('./source.js').Bytes[]} sources
   * @param {string} [labId] of the tuner, where it loads a plan beside the one that serves
   */
  async loadPlan({ signal, cancel, progress }, id, plan, sources, labId) {
    const target = session(id);
    const load = () => loadPlan(target, plan, sources, { host, signal, progress });
    try {
      return await target.inOrder(() => (labId ? pace.during(lab(labId).bench.allowance, load) : load()), cancel);
    } finally {
      if (sources.some((file) => ArrayBuffer.isView(file))) setTimeout(collect); // else the files' memory would stay
    }
  },

  /**
   * @param {Call} call
   * @param {string} id
   * @param {string} key
   * @param {Feed[]} feeds
   * @param {string[] | undefined} fetch
   * @param {boolean} direct
   */
  async run({ signal, cancel, at }, id, key, feeds, fetch, direct) {
    const target = session(id);
    let start = NaN;
    pace.came();
    try {
      return await target.inOrder(async () => {
        await pace.held();
        start = pace.begins(at);
        return run(target, key, feeds, fetch, direct, { host, signal });
      }, cancel);
    } finally {
      pace.ended(start);
    }
  },

  /**
   * A run that the caller's thread led has trapped, there or in one of the threads it had called.
   * @param {Call} _call
   * @param {string} id
   * @param {string} key
   * @param {import('./caller.js').CallTrapped['how']} how
   * @returns {Promise<never>}
   */
  async calledTrapped(_call, id, key, how) {
    const target = session(id);
    throw await target.calledTrapped(target.plan(key), how);
  },

  /**
   * @param {Call} call
   * @param {string} id
   * @param {string} key
   * @param {Feed[]} feeds
   * @param {number} repeats
   */
  profile({ signal, cancel }, id, key, feeds, repeats) {
    const target = session(id);
    return target.inOrder(() => profile(target, key, feeds, repeats, { host, signal }), cancel);
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {string} key
   * @param {number} slot
   * @param {Uint8Array | null} bytes
   */
  swapSlot(_call, id, key, slot, bytes) {
    const target = session(id);
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
    const target = session(id);
    return target.inOrder(() => timeSlot(target, key, step, options, info.clockGrainMs, signal), cancel);
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {string} key
   * @returns {Promise<import('./types.d.ts').StepMs[]>} of the next inference, whenever that is
   */
  async survey(_call, id, key) {
    const plan = session(id).plan(key);
    return new Promise((resolve) => { plan.survey = resolve; });
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {{shared: boolean, threads: number, maxPages?: number, mode?: 'now' | 'idle', earlierMs?: number}} options
   */
  async openLab(_call, id, { mode, earlierMs, ...options }) {
    check(!labs.has(id), 'DUPLICATE_SESSION', `There is a lab "${id}" already.`, { session: id });
    const made = new Session(id, pool, { ...options, shared: options.shared && info.sharedMemory });
    const opened = new Lab(made, pace, info.clockGrainMs, earlierMs);
    if (mode) opened.bench.allowance.mode = mode;
    await made.open();
    labs.set(id, opened);
    return waits(id);
  },

  /**
   * @param {Call} call
   * @param {string} id
   * @param {import('./types.d.ts').LabSetup} setup
   */
  labSetup({ signal }, id, setup) {
    return inLab(id, (found) => found.setup(setup, signal));
  },

  /**
   * @param {Call} call
   * @param {string} id
   * @param {import('./types.d.ts').LabTrial} trial
   */
  labTrial({ signal }, id, trial) {
    return inLab(id, (found) => found.trial(trial, signal));
  },

  /**
   * @param {Call} call
   * @param {string} id
   * @param {import('./types.d.ts').LabWork} work
   */
  labMeasure({ signal }, id, work) {
    return inLab(id, ({ bench }) => microbench(bench, work, signal), false);
  },

  /**
   * @param {Call} call
   * @param {string} id
   * @param {import('./types.d.ts').LabPair} pair
   */
  labPair({ signal }, id, pair) {
    return inLab(id, ({ bench }) => tryPair(bench, pair, signal));
  },

  /**
   * @param {Call} call
   * @param {string} id
   */
  labConfirm({ signal }, id) {
    return inLab(id, (found) => found.confirm(signal), false);
  },

  /**
   * @param {Call} _call
   * @param {string} id
   */
  async closeLab(_call, id) {
    const { bench } = lab(id);
    pace.close(bench.allowance);
    labs.delete(id);
    return { freed: await bench.session.release() };
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {string} key
   * @param {import('./types.d.ts').Adoption} adoption
   */
  adopt(_call, id, key, adoption) {
    const target = session(id);
    const owner = adoption.lab ? lab(adoption.lab) : null;
    const work = () => adopt(target, key, adoption, owner);
    return target.inOrder(() => (owner ? pace.during(owner.bench.allowance, work) : work()));
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {string} key
   * @param {Uint8Array} bytes
   */
  async stagePlan(_call, id, key, bytes) {
    session(id).staged.set(key, await compile(bytes));
  },

  /**
   * Resolves when a window would be due.
   * @param {Call} call
   * @param {string} labId
   * @param {import('./types.d.ts').PacePolicy} policy
   */
  async gap({ signal }, labId, policy) {
    const { allowance } = lab(labId).bench;
    allowance.owed = await pace.gap(allowance, policy, signal);
    pace.close(allowance);
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
    const target = session(id);
    const { allowance } = lab(labId).bench;
    return target.inOrder(async () => {
      const ms = pace.take(allowance, policy);
      try {
        return ms ? await pace.during(allowance, () => warmSteps(target, key, steps, from, ms)) : from;
      } finally {
        pace.close(allowance);
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
    const target = session(id);
    const { allowance } = lab(labId).bench;
    return target.inOrder(() => pace.during(allowance, () => verifyPlan(target, serving, key, feeds, outputs, { host, signal })));
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {string} serving
   * @param {string} key
   */
  replacePlan(_call, id, serving, key) {
    const target = session(id);
    return target.inOrder(() => replacePlan(target, serving, key));
  },

  /**
   * @param {Call} _call
   * @param {{mode?: 'now' | 'idle'}} [change]
   * @param {string} [labId] default all labs, and those that are opened later
   * @returns {Promise<import('./types.d.ts').PaceReport>}
   */
  async pace(_call, { mode } = {}, labId = '') {
    const asked = labId ? [labId] : [...labs.keys()];
    if (mode && !labId) pace.mode = mode;
    if (mode) for (const id of asked) lab(id).bench.allowance.mode = mode;
    const all = asked.map(waits);
    return {
      delayedMs: all.reduce((sum, { delayedMs }) => sum + delayedMs, 0), delayed: all.reduce((sum, { delayed }) => sum + delayed, 0),
      leftMs: Math.min(...all.map(({ leftMs }) => leftMs)), starved: all.some(({ starved }) => starved),
    };
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {number} address
   * @param {number} length
   */
  readMemory(_call, id, address, length) {
    const target = session(id);
    return target.inOrder(async () => target.memory.read(address, length));
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {string} key
   */
  dropPlan(_call, id, key) {
    const target = session(id);
    return target.inOrder(() => target.dropPlan(key));
  },

  /**
   * @param {Call} _call
   * @param {string} id
   */
  async releaseSession(_call, id) {
    const target = session(id);
    sessions.delete(id); // later calls find no session; those asked before are still done
    return { freed: await target.inOrder(() => target.release()) };
  },

  /** @returns {Promise<import('./types.d.ts').MemoryReport>} */
  async memory() {
    const reports = [...sessions.values()].map((each) => each.report());
    return { sessions: reports, total: reports.reduce((sum, { bytes }) => sum + bytes, 0) };
  },

  /**
   * @param {Call} _call
   * @param {MessagePort} channel
   */
  async connectHost(_call, channel) {
    host.connect(channel);
  },
};

/** Calls under way that can be cancelled. @type {Map<number, AbortController>} */
const calls = new Map();

/**
 * @param {unknown} value
 * @returns {Transferable[]} the buffers that an answer owns, so that they move instead of being copied
 */
function owned(value) {
  const outputs = /** @type {{outputs?: unknown[]} | undefined} */ (value)?.outputs ?? [value];
  return outputs.flatMap((output) => (output instanceof Uint8Array ? [output.buffer] : []));
}

/** @param {MessageEvent<import('./types.d.ts').Request>} event */
port.onmessage = async ({ data: { id, method, args, abort, cancellable, at } }) => {
  if (abort) {
    calls.get(id)?.abort();
    return;
  }
  const controller = new AbortController();
  calls.set(id, controller);
  /** @type {Reply} */
  let reply;
  try {
    const call = /** @type {((call: Call, ...args: any[]) => Promise<unknown>) | undefined} */ (
      Object.hasOwn(methods, method) ? methods[/** @type {keyof typeof methods} */ (method)] : undefined);
    if (!call) throw new NnjitError('INTERNAL', `The engine has no method "${method}".`);
    const progress = (/** @type {[string, number, number]} */ ...step) => port.postMessage({ id, progress: step });
    const { signal } = controller;
    reply = { id, value: await call({ signal, cancel: cancellable ? signal : undefined, progress, at }, ...args) };
  } catch (cause) {
    reply = { id, error: asError(cause).toJSON() };
  }
  calls.delete(id);
  port.postMessage(reply, owned(reply.value));
};
