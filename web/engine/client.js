// EngineClient: the engine as the page, or any worker, sees it. Calls on one session are done one at a time in the
// order they were made. Runs of short plans are done right here (caller.js), all else goes to the engine (calls.js).

import { Caller } from './caller.js';
import { Calls } from './calls.js';
import { Lane } from './lane.js';
import { Runs } from './runs.js';
import { Trials } from './trials.js';
import { buffers, own } from './values.js';

/** @typedef {import('./errors.js').NnjitError} NnjitError */
/** @typedef {import('./types.d.ts').Feed} Feed */
/** @typedef {import('./types.d.ts').Plan} Plan */
/** @typedef {import('./types.d.ts').Progress} Progress */

export class EngineClient extends Trials {
  #runs;
  #caller;

  /**
   * Use EngineClient.start.
   * @param {Calls} calls
   * @param {import('./calls.js').Started} started
   */
  constructor(calls, { info, control }) {
    super(calls);
    this.#caller = new Caller(control, info.threads);
    this.#runs = new Runs(calls, this.#caller);
    this.info = info;
    calls.onMail = (mail) => this.#caller.apply(mail);
  }

  /**
   * Starts the engine worker and its threads.
   * @param {{threads?: number}} [options] threads: default what the browser reports; 1 where memory cannot be shared
   * @returns {Promise<EngineClient>}
   */
  static async start({ threads } = {}) {
    const calls = new Calls();
    return new EngineClient(calls, await calls.start(threads));
  }

  /**
   * @param {string} id any string that no live session has
   * @param {import('./types.d.ts').SessionOptions} [options]
   * @returns {Promise<import('./types.d.ts').SessionInfo>}
   */
  createSession(id, options = {}) {
    if (!this.lanes.has(id)) this.lanes.set(id, new Lane());
    return this.inLane(id, async (lane) => {
      const { memory, no, ...made } = await this.calls.call('createSession', [id, options]);
      lane?.opened({ memory, no, threads: made.threads });
      return made;
    });
  }

  /**
   * @param {string} id
   * @param {Plan} plan
   * @param {import('./source.js').Bytes[]} [sources] the files that the plan's init list reads
   * @param {{onProgress?: Progress, signal?: AbortSignal, lab?: string}} [options] lab: in whose name, where it is the tuner's
   *   stages: 'compile', 'load' (bytes of ranges), 'init' (steps). A cancelled load leaves earlier plans intact.
   * @returns {Promise<import('./types.d.ts').LoadResult>}
   */
  loadPlan(id, plan, sources = [], { onProgress, signal, lab } = {}) {
    return this.inLane(id, async (lane) => {
      const { no, ...loaded } = await this.calls.call('loadPlan', [id, plan, sources, lab], { signal, progress: onProgress });
      const { key, inputs, outputs, spares } = plan;
      if (!lane) return loaded;
      if (!lane.direct) lane.memory = this.#caller.memory(lane.no) ?? null;
      lane.plans.set(key, { key, inputs, outputs, short: this.#caller.short(plan, lane.no, no), spares });
      return loaded;
    });
  }

  /**
   * @param {string} id
   * @param {string} key the plan's
   * @param {Feed[]} feeds one an input of the plan, of exactly its bytes
   *   taken at once: the caller may change them while the run is under way
   * @param {import('./types.d.ts').RunOptions} [options]
   * @returns {Promise<import('./types.d.ts').RunResult>} outputs: Uint8Array over `into` or a buffer of its own, or a
   *   host value
   */
  run(id, key, feeds, options = {}) {
    const given = this.lanes.get(id)?.busy ? feeds.map((feed) => own(feed, options.transfer)) : feeds;
    return this.inLane(id, (lane) => this.#runs.run(lane, id, key, given, options));
  }

  /**
   * @param {string} id
   * @param {string} key
   * @param {Feed[]} feeds
   * @param {number} repeats
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<import('./types.d.ts').ProfileResult>}
   */
  profile(id, key, feeds, repeats, { signal } = {}) {
    const packed = feeds.map((feed) => own(feed));
    return this.inLane(id, () =>
      this.calls.call('profile', [id, key, packed, repeats], { signal, transfer: buffers(packed) }));
  }

  /**
   * @param {string} id
   * @param {string} key
   * @param {number} slot absolute table index, as in the plan's steps
   * @param {Uint8Array | null} moduleBytes a module that exports one function; null: the plan's own kernel again
   * @returns {Promise<void>}
   */
  swapSlot(id, key, slot, moduleBytes) {
    return this.inLane(id, () => this.calls.call('swapSlot', [id, key, slot, moduleBytes]));
  }

  /**
   * @param {string} id
   * @param {string} key
   * @param {number} step index of the step whose operands are used
   * @param {import('./types.d.ts').TimingOptions & {signal?: AbortSignal}} [options]
   *   moduleBytes: time this kernel instead of the one in the slot
   * @returns {Promise<import('./types.d.ts').TimingResult>}
   */
  timeSlot(id, key, step, { signal, ...options } = {}) {
    return this.inLane(id, () => this.calls.call('timeSlot', [id, key, step, options], { signal }));
  }

  /**
   * @param {string} id
   * @param {string} key the plan's
   * @returns {Promise<import('./types.d.ts').StepMs[]>} what each step took in the next inference, whenever that is
   */
  survey(id, key) {
    const short = this.lanes.get(id)?.plans.get(key)?.short;
    if (short) short.elsewhere = true; // the engine does the next one
    return this.calls.call('survey', [id, key]);
  }

  /**
   * Compiles the module of a plan that is to be loaded, while runs go on.
   * @param {string} id
   * @param {Plan} plan
   * @param {AbortSignal} [signal]
   * @returns {Promise<void>}
   */
  stagePlan(id, { key, module }, signal) {
    return this.calls.call('stagePlan', [id, key, module], { signal });
  }

  /**
   * Loads a plan beside the one whose place it is to take: runs go on meanwhile, also while its module is compiled.
   * @param {string} id
   * @param {Plan} plan
   * @param {import('./source.js').Bytes[]} sources
   * @param {string} lab in whose name
   * @param {AbortSignal} [signal]
   */
  async loadBeside(id, plan, sources, lab, signal) {
    await this.stagePlan(id, plan, signal);
    return this.loadPlan(id, plan, sources, signal ? { signal, lab } : { lab });
  }

  /**
   * @param {string} id
   * @param {number} address
   * @param {number} length
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  readMemory(id, address, length) {
    return this.inLane(id, () => this.calls.call('readMemory', [id, address, length]));
  }

  /**
   * @param {string} id
   * @param {string} key
   * @returns {Promise<void>}
   */
  dropPlan(id, key) {
    return this.inLane(id, async (lane) => {
      await this.calls.call('dropPlan', [id, key]);
      lane?.plans.delete(key);
    });
  }

  /**
   * @param {string} id
   * @returns {Promise<{freed: number}>} bytes of memory given back
   */
  releaseSession(id) {
    return this.inLane(id, async (lane) => {
      const freed = await this.calls.call('releaseSession', [id]);
      if (lane) this.#caller.drop(lane.no);
      lane?.closed();
      return freed;
    });
  }

  /** @returns {Promise<import('./types.d.ts').MemoryReport>} */
  memory() {
    return this.calls.call('memory', []);
  }

  /**
   * @param {MessagePort} port to whoever computes host calls; the last one connected serves
   * @returns {Promise<void>}
   */
  connectHost(port) {
    return this.calls.call('connectHost', [port], { transfer: [port] });
  }

  /**
   * @param {(error: NnjitError) => void} callback once, if the engine dies; not after terminate()
   * @returns {() => void} unsubscribes
   */
  onDeath(callback) {
    return this.calls.onDeath(callback);
  }

  /** Ends the engine and its threads; pending calls are rejected. */
  terminate() {
    this.calls.end();
  }
}
