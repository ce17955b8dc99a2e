// EngineClient: the engine as the page, or any worker, sees it. Calls on one session are done one at a time in the
// order they were made. Runs of short plans are done right here (caller.js), all else goes to the engine (calls.js).

import { Caller } from './caller.js';
import { Calls } from './calls.js';
import { Lane } from './lane.js';
import { Runs } from './runs.js';
import { buffers, own } from './values.js';

/** @typedef {import('./errors.js').NnjitError} NnjitError */
/** @typedef {import('./types.d.ts').Feed} Feed */
/** @typedef {import('./types.d.ts').Plan} Plan */
/** @typedef {import('./types.d.ts').Progress} Progress */

/** A third of the time that fast code takes to come. */
const WARM_MS = 8;

export class EngineClient {
  #calls;
  #runs;
  #caller;
  /** @type {Map<string, Lane>} */
  #lanes = new Map();

  /**
   * Use EngineClient.start.
   * @param {Calls} calls
   * @param {import('./calls.js').Started} started
   */
  constructor(calls, { info, control }) {
    this.#calls = calls;
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
    if (!this.#lanes.has(id)) this.#lanes.set(id, new Lane());
    return this.#inLane(id, async (lane) => {
      const { memory, no, ...made } = await this.#calls.call('createSession', [id, options]);
      lane?.opened({ memory, no, threads: made.threads });
      return made;
    });
  }

  /**
   * @param {string} id
   * @param {Plan} plan
   * @param {Blob[]} [sources] the files that the plan's init list reads
   * @param {{onProgress?: Progress, signal?: AbortSignal}} [options]
   *   stages: 'compile', 'load' (bytes of ranges), 'init' (steps). A cancelled load leaves earlier plans intact.
   * @returns {Promise<import('./types.d.ts').LoadResult>}
   */
  loadPlan(id, plan, sources = [], { onProgress, signal } = {}) {
    return this.#inLane(id, async (lane) => {
      const { no, ...loaded } = await this.#calls.call('loadPlan', [id, plan, sources], { signal, progress: onProgress });
      const { key, inputs, outputs } = plan;
      if (!lane) return loaded;
      if (!lane.direct) lane.memory = this.#caller.memory(lane.no) ?? null;
      lane.plans.set(key, { key, inputs, outputs, short: this.#caller.short(plan, lane.no, no) });
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
    const given = this.#lanes.get(id)?.busy ? feeds.map((feed) => own(feed, options.transfer)) : feeds;
    return this.#inLane(id, (lane) => this.#runs.run(lane, id, key, given, options));
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
    return this.#inLane(id, () =>
      this.#calls.call('profile', [id, key, packed, repeats], { signal, transfer: buffers(packed) }));
  }

  /**
   * @param {string} id
   * @param {string} key
   * @param {number} slot absolute table index, as in the plan's steps
   * @param {Uint8Array | null} moduleBytes a module that exports one function; null: the plan's own kernel again
   * @returns {Promise<void>}
   */
  swapSlot(id, key, slot, moduleBytes) {
    return this.#inLane(id, () => this.#calls.call('swapSlot', [id, key, slot, moduleBytes]));
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
    return this.#inLane(id, () => this.#calls.call('timeSlot', [id, key, step, options], { signal }));
  }

  /**
   * @param {string} id
   * @param {string} key the plan's
   * @returns {Promise<import('./types.d.ts').StepMs[]>} what each step took in the next inference, whenever that is
   */
  survey(id, key) {
    const short = this.#lanes.get(id)?.plans.get(key)?.short;
    if (short) short.elsewhere = true; // the engine does the next one
    return this.#calls.call('survey', [id, key]);
  }

  /**
   * A lab: a memory of its own to try kernels in; see lab.js.
   * @param {string} id
   * @param {{shared: boolean, threads: number, maxPages?: number}} options
   * @returns {Promise<void>}
   */
  openLab(id, options) {
    return this.#calls.call('openLab', [id, options]);
  }

  /**
   * @param {string} id
   * @param {import('./types.d.ts').LabSetup} setup
   * @param {AbortSignal} [signal]
   * @returns {Promise<{ms: number, busyMs: number, samples: number[][]}>}
   */
  labSetup(id, setup, signal) {
    return this.#calls.call('labSetup', [id, setup], { signal });
  }

  /**
   * @param {string} id
   * @param {import('./types.d.ts').LabTrial} trial
   * @param {AbortSignal} [signal]
   * @returns {Promise<import('./types.d.ts').LabReport>}
   */
  labTrial(id, trial, signal) {
    return this.#calls.call('labTrial', [id, trial], { signal });
  }

  /**
   * @param {string} id
   * @param {import('./types.d.ts').LabWork} work
   * @param {AbortSignal} [signal]
   * @returns {Promise<{times: Record<string, number>, values: number[][]}>} ms of a round of each kernel, by name
   */
  labMeasure(id, work, signal) {
    return this.#calls.call('labMeasure', [id, work], { signal });
  }

  /**
   * @param {string} id
   * @param {import('./types.d.ts').LabPair} pair
   * @param {AbortSignal} [signal]
   * @returns {Promise<import('./types.d.ts').LabReport>} base: the serving way's times, mine: the other's
   */
  labPair(id, pair, signal) {
    return this.#calls.call('labPair', [id, pair], { signal });
  }

  /**
   * @param {string} id
   * @param {AbortSignal} [signal]
   * @returns {Promise<import('./types.d.ts').LabConfirmation>} of the last candidate, verified whole and timed again
   */
  labConfirm(id, signal) {
    return this.#calls.call('labConfirm', [id], { signal });
  }

  /**
   * @param {string} id
   * @returns {Promise<{freed: number}>}
   */
  closeLab(id) {
    return this.#calls.call('closeLab', [id]);
  }

  /**
   * Between two inferences: the lab's last candidate takes over a slot, its constants' panels made over.
   * @param {string} id
   * @param {string} key the plan's
   * @param {import('./types.d.ts').Adoption} adoption
   * @returns {Promise<void>}
   */
  adopt(id, key, adoption) {
    return this.#inLane(id, () => this.#calls.call('adopt', [id, key, adoption]));
  }

  /**
   * Loads a plan beside the one whose place it is to take: runs go on meanwhile, also while its module is compiled.
   * @param {string} id
   * @param {Plan} plan
   * @param {Blob[]} sources
   * @param {AbortSignal} [signal]
   */
  async loadBeside(id, plan, sources, signal) {
    await this.#calls.call('stagePlan', [id, plan.key, plan.module], { signal });
    return this.loadPlan(id, plan, sources, signal ? { signal } : {});
  }

  /**
   * Has fast code made for a plan that does not serve yet, in slices between runs.
   * @param {string} id
   * @param {string} key the plan's
   * @param {number[]} steps that may run by themselves
   * @param {AbortSignal} [signal]
   */
  async warmPlan(id, key, steps, signal) {
    for (let pass = 0; pass < 3; pass++) {
      for (let at = 0; at < steps.length;) {
        await this.#calls.call('gap', [], { signal });
        at = await this.#inLane(id, () => this.#calls.call('warmSteps', [id, key, steps, at]));
      }
      await new Promise((resolve) => { setTimeout(resolve, WARM_MS); });
    }
  }

  /**
   * Both plans on the same feeds.
   * @param {string} id
   * @param {string} serving key
   * @param {string} key of the plan that is to take its place
   * @param {Feed[]} feeds
   * @param {import('./types.d.ts').Agreement[]} outputs
   * @returns {Promise<{ok: boolean, worst: number, reason: string, ms: number[]}>} ms: of each
   */
  verifyPlan(id, serving, key, feeds, outputs) {
    const packed = feeds.map((feed) => own(feed));
    return this.#inLane(id, () => this.#calls.call('verifyPlan', [id, serving, key, packed, outputs]));
  }

  /**
   * Between two runs: a plan takes the place, and the key, of another, which is dropped.
   * @param {string} id
   * @param {string} serving key
   * @param {string} key of the plan that takes over
   * @returns {Promise<void>}
   */
  replacePlan(id, serving, key) {
    return this.#inLane(id, async (lane) => {
      await this.#calls.call('replacePlan', [id, serving, key]);
      const loaded = lane?.plans.get(key);
      if (!lane || !loaded) return;
      lane.plans.delete(key);
      lane.plans.set(serving, { ...loaded, key: serving });
    });
  }

  /**
   * @param {{mode?: 'now' | 'idle', allowanceMs?: number}} [change]
   * @returns {Promise<import('./types.d.ts').PaceReport>}
   */
  pace(change) {
    return this.#calls.call('pace', [change]);
  }

  /**
   * @param {string} id
   * @param {number} address
   * @param {number} length
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  readMemory(id, address, length) {
    return this.#inLane(id, () => this.#calls.call('readMemory', [id, address, length]));
  }

  /**
   * @param {string} id
   * @param {string} key
   * @returns {Promise<void>}
   */
  dropPlan(id, key) {
    return this.#inLane(id, async (lane) => {
      await this.#calls.call('dropPlan', [id, key]);
      lane?.plans.delete(key);
    });
  }

  /**
   * @param {string} id
   * @returns {Promise<{freed: number}>} bytes of memory given back
   */
  releaseSession(id) {
    return this.#inLane(id, async (lane) => {
      const freed = await this.#calls.call('releaseSession', [id]);
      if (lane) this.#caller.drop(lane.no);
      lane?.closed();
      return freed;
    });
  }

  /** @returns {Promise<import('./types.d.ts').MemoryReport>} */
  memory() {
    return this.#calls.call('memory', []);
  }

  /**
   * @param {MessagePort} port to whoever computes host calls; the last one connected serves
   * @returns {Promise<void>}
   */
  connectHost(port) {
    return this.#calls.call('connectHost', [port], { transfer: [port] });
  }

  /**
   * @param {(error: NnjitError) => void} callback once, if the engine dies; not after terminate()
   * @returns {() => void} unsubscribes
   */
  onDeath(callback) {
    return this.#calls.onDeath(callback);
  }

  /** Ends the engine and its threads; pending calls are rejected. */
  terminate() {
    this.#calls.end();
  }

  /**
   * Does `work` after all that was asked of this session before.
   * @template T
   * @param {string} id
   * @param {(lane: Lane | undefined) => Promise<T>} work no lane: there is no such session, and the engine will say so
   * @returns {Promise<T>}
   */
  #inLane(id, work) {
    const lane = this.#lanes.get(id);
    if (!lane) return work(undefined);
    const leave = () => {
      lane.leave();
      if (!lane.busy && !lane.open) this.#lanes.delete(id);
    };
    return lane.enter(() => work(lane).finally(leave));
  }
}
