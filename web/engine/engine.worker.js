// The engine worker: thread 0 of the pool and the far end of EngineClient's calls. It holds sessions and does as
// it is told; what to build, load, swap or time is decided elsewhere.

import { holdLock } from './alive.js';
import { NnjitError, asError, check } from './errors.js';
import { probe } from './features.js';
import { Host } from './host.js';
import { loadPlan } from './load.js';
import { Pool } from './pool.js';
import { profile, run } from './run.js';
import { Session } from './session.js';
import { swapSlot, timeSlot } from './tune.js';

/** @typedef {import('./types.d.ts').Plan} Plan */
/** @typedef {import('./types.d.ts').Feed} Feed */
/** @typedef {import('./types.d.ts').Reply} Reply */
/**
 * cancel: the signal again if the caller holds the other end, so that it is worth a look.
 * @typedef {{signal: AbortSignal, cancel?: AbortSignal, progress: import('./types.d.ts').Progress}} Call
 */

const port = /** @type {Worker} */ (/** @type {unknown} */ (self));
const host = new Host();
/** @type {Map<string, Session>} */
const sessions = new Map();
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

const methods = {
  /**
   * @param {Call} _call
   * @param {{threads?: number, lock: string}} options
   */
  async start(_call, { threads, lock }) {
    await holdLock(lock);
    info = probe(threads);
    pool = new Pool(info.threads, (error) => port.postMessage({ id: 0, error: error.toJSON() }));
    return { info, locks: [lock, ...await pool.start(lock)] };
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {import('./types.d.ts').SessionOptions} options
   */
  async createSession(_call, id, { shared = info.sharedMemory, threads = info.threads, maxPages } = {}) {
    check(!sessions.has(id), 'DUPLICATE_SESSION', `There is a session "${id}" already.`, { session: id });
    check(!shared || info.sharedMemory, 'BAD_PLAN',
      'Memory cannot be shared here: the page is not cross-origin isolated.');
    const many = shared ? Math.min(Math.max(1, Math.floor(threads)), info.threads) : 1;
    const made = new Session(id, pool, { shared, threads: many, maxPages });
    sessions.set(id, made);
    try {
      await made.open();
    } catch (cause) {
      sessions.delete(id);
      throw cause;
    }
    const own = made.memory;
    return { shared, threads: made.threads, maxPages: own.maxPages, memory: shared ? own.memory : undefined };
  },

  /**
   * @param {Call} call
   * @param {string} id
   * @param {Plan} plan
   * @param {Blob[]} sources
   */
  loadPlan({ signal, cancel, progress }, id, plan, sources) {
    const target = session(id);
    return target.inOrder(() => loadPlan(target, plan, sources, { host, signal, progress }), cancel);
  },

  /**
   * @param {Call} call
   * @param {string} id
   * @param {string} key
   * @param {Feed[]} feeds
   * @param {string[] | undefined} fetch
   * @param {boolean} direct
   */
  run({ signal, cancel }, id, key, feeds, fetch, direct) {
    const target = session(id);
    return target.inOrder(() => run(target, key, feeds, fetch, direct, { host, signal }), cancel);
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
port.onmessage = async ({ data: { id, method, args, abort, cancellable } }) => {
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
    reply = { id, value: await call({ signal, cancel: cancellable ? signal : undefined, progress }, ...args) };
  } catch (cause) {
    reply = { id, error: asError(cause).toJSON() };
  }
  calls.delete(id);
  port.postMessage(reply, owned(reply.value));
};
