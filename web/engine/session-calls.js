// The calls of the engine worker that make, run and end sessions. `port` is the far end's: mail of a session goes there.

import { check } from './errors.js';
import { collect } from './garbage.js';
import { loadPlan } from './load.js';
import { profile, run } from './run.js';
import { Session } from './session.js';

/** @typedef {import('./engine.js').Call} Call */
/** @typedef {import('./engine.js').Engine} Engine */
/** @typedef {import('./types.d.ts').Plan} Plan */
/** @typedef {import('./types.d.ts').Feed} Feed */

/** @param {Engine} engine @param {Worker} port */
export const sessionCalls = (engine, port) => ({
  /**
   * @param {Call} _call
   * @param {string} id
   * @param {import('./types.d.ts').SessionOptions} options
   */
  async createSession(_call, id, { shared = engine.info.sharedMemory, threads = engine.info.threads, maxPages, runOn = 'auto' } = {}) {
    check(!engine.sessions.has(id), 'DUPLICATE_SESSION', `There is a session "${id}" already.`, { session: id });
    check(!shared || engine.info.sharedMemory, 'BAD_PLAN',
      'Memory cannot be shared here: the page is not cross-origin isolated.');
    const many = shared ? Math.min(Math.max(1, Math.floor(threads)), engine.info.threads) : 1;
    const tell = (/** @type {import('./types.d.ts').Mail} */ mail, /** @type {Transferable[]} */ transfer = []) => {
      try {
        port.postMessage({ id: 0, mail }, transfer);
      } catch (cause) {
        if (mail.op !== 'plan') throw cause; // modules cannot be sent here: the caller's thread gets none to run
      }
    };
    const made = new Session(id, engine.pool, { shared, threads: many, maxPages }, runOn === 'auto' ? tell : null);
    engine.sessions.set(id, made);
    try {
      await made.open();
    } catch (cause) {
      engine.sessions.delete(id);
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
    const target = engine.session(id);
    const load = () => loadPlan(target, plan, sources, { host: engine.host, signal, progress });
    try {
      return await target.inOrder(() => (labId ? engine.pace.during(engine.lab(labId).bench.allowance, load) : load()), cancel);
    } finally {
      target.staged.delete(plan.key); // another plan of this key has other code
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
    const target = engine.session(id);
    let start = NaN;
    engine.pace.came();
    try {
      return await target.inOrder(async () => {
        await engine.pace.held();
        start = engine.pace.begins(at);
        return run(target, key, feeds, fetch, direct, { host: engine.host, signal });
      }, cancel);
    } finally {
      engine.pace.ended(start);
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
    const target = engine.session(id);
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
    const target = engine.session(id);
    return target.inOrder(() => profile(target, key, feeds, repeats, { host: engine.host, signal }), cancel);
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {number} address
   * @param {number} length
   */
  readMemory(_call, id, address, length) {
    const target = engine.session(id);
    return target.inOrder(async () => target.memory.read(address, length));
  },

  /**
   * @param {Call} _call
   * @param {string} id
   * @param {string} key
   */
  dropPlan(_call, id, key) {
    const target = engine.session(id);
    return target.inOrder(() => target.dropPlan(key));
  },

  /**
   * @param {Call} _call
   * @param {string} id
   */
  async releaseSession(_call, id) {
    const target = engine.session(id);
    engine.sessions.delete(id); // later calls find no session; those asked before are still done
    return { freed: await target.inOrder(() => target.release()) };
  },

  /** @returns {Promise<import('./types.d.ts').MemoryReport>} */
  async memory() {
    const reports = [...engine.sessions.values()].map((each) => each.report());
    return { sessions: reports, total: reports.reduce((sum, { bytes }) => sum + bytes, 0) };
  },

  /**
   * @param {Call} _call
   * @param {MessagePort} channel
   */
  async connectHost(_call, channel) {
    engine.host.connect(channel);
  },
});
