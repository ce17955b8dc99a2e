// EngineClient: the engine as the page, or any worker, sees it. Calls go out as messages and come back as
// promises; a dead engine rejects all that are pending and can be started anew. Calls on one session go out one at
// a time, so that the feeds and outputs of a run can be copied here, straight into and out of a shared memory.

import { lockName, watchLock } from './alive.js';
import { NnjitError, check } from './errors.js';
import { Lane } from './lane.js';
import { asBytes, copyOf, feedBytes, fetched, touched } from './values.js';

/** @typedef {import('./types.d.ts').EngineInfo} EngineInfo */
/** @typedef {import('./types.d.ts').Feed} Feed */
/** @typedef {import('./types.d.ts').Plan} Plan */
/** @typedef {import('./types.d.ts').Progress} Progress */
/** @typedef {{resolve: (value: any) => void, reject: (error: NnjitError) => void, progress?: Progress}} Pending */
/** @typedef {{signal?: AbortSignal, progress?: Progress, transfer?: Transferable[]}} CallOptions */

/** Outputs of this many bytes get their pages ahead of time. */
const LARGE = 1 << 18;
const RESTART = 'Start a new engine and create the sessions again.';

export class EngineClient {
  #worker;
  #next = 1;
  /** @type {Map<number, Pending>} */
  #pending = new Map();
  /** @type {Map<string, Lane>} */
  #lanes = new Map();
  /** @type {Set<(error: NnjitError) => void>} */
  #mourners = new Set();
  #watch = new AbortController();
  /** @type {NnjitError | null} */
  #death = null;

  /**
   * Use EngineClient.start.
   * @param {Worker} worker
   */
  constructor(worker) {
    this.#worker = worker;
    /** @type {EngineInfo} */
    this.info = /** @type {EngineInfo} */ (/** @type {unknown} */ (null));
    worker.onmessage = ({ data }) => this.#receive(data);
    worker.onerror = (event) => {
      event.preventDefault?.();
      const why = event.message ?? 'its script did not load';
      this.#die(new NnjitError('ENGINE_DIED', `The engine failed: ${why}`, {}, RESTART));
    };
  }

  /**
   * Starts the engine worker and its threads.
   * @param {{threads?: number}} [options] threads: default what the browser reports; 1 where memory cannot be shared
   * @returns {Promise<EngineClient>}
   */
  static async start({ threads } = {}) {
    const worker = new Worker(new URL('./engine.worker.js', import.meta.url), { type: 'module', name: 'nnjit engine' });
    const client = new EngineClient(worker);
    try {
      const { info, locks } = await client.#call('start', [{ threads, lock: lockName() }]);
      client.info = info;
      for (const lock of locks) {
        watchLock(lock, () => client.#die(new NnjitError('ENGINE_DIED',
          'A thread of the engine ended; most often the browser ran out of memory.', {}, RESTART)),
        client.#watch.signal);
      }
      return client;
    } catch (cause) {
      client.terminate();
      const { message } = /** @type {Error} */ (cause);
      throw new NnjitError('ENGINE_START_FAILED', `The engine did not start. ${message}`);
    }
  }

  /**
   * @param {string} id any string that no live session has
   * @param {import('./types.d.ts').SessionOptions} [options]
   * @returns {Promise<import('./types.d.ts').SessionInfo>}
   */
  createSession(id, options = {}) {
    if (!this.#lanes.has(id)) this.#lanes.set(id, new Lane());
    return this.#inLane(id, async (lane) => {
      const { memory, ...made } = await this.#call('createSession', [id, options]);
      lane?.opened(memory);
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
    const { key, inputs, outputs } = plan;
    return this.#inLane(id, async (lane) => {
      const loaded = await this.#call('loadPlan', [id, plan, sources], { signal, progress: onProgress });
      lane?.plans.set(key, { inputs, outputs });
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
    return this.#inLane(id, (lane) => {
      const plan = lane?.direct ? lane.plans.get(key) : undefined;
      return lane && plan ? this.#runDirect(lane, id, key, plan, given, options) : this.#runByMessage(id, key, given, options);
    });
  }

  /**
   * One copy of each feed and output, here. The lane is ours: nobody else is in the memory until this returns.
   * @param {Lane} lane
   * @param {string} id
   * @param {string} key
   * @param {{inputs: import('./types.d.ts').ValueRef[], outputs: import('./types.d.ts').ValueRef[]}} plan
   * @param {Feed[]} feeds
   * @param {import('./types.d.ts').RunOptions} options
   */
  async #runDirect(lane, id, key, { inputs, outputs }, feeds, { fetch, into = [], signal }) {
    const refs = fetched(outputs, fetch);
    const targets = refs.map((ref, i) => (ref.host ? null : target(ref, into[i])));
    feedBytes(inputs, feeds).forEach((bytes, i) => {
      const ref = inputs[i];
      if (bytes && !ref.host) lane.bytes(ref.address, ref.nbytes).set(bytes);
    });
    const values = feeds.map((feed, i) => (inputs[i].host ? feed : null));
    const running = this.#call('run', [id, key, values, fetch, true], { signal });
    // While the engine computes: fresh pages cost more than the copy into them (about 1 ms a megabyte).
    refs.forEach((ref, i) => {
      if (!ref.host && !targets[i] && ref.nbytes >= LARGE) targets[i] = touched(ref.nbytes);
    });
    const result = await running;
    refs.forEach((ref, i) => {
      if (ref.host) return;
      const bytes = lane.bytes(ref.address, ref.nbytes);
      if (targets[i]) targets[i].set(bytes);
      else targets[i] = copyOf(bytes);
    });
    return { ...result, outputs: refs.map((_, i) => targets[i] ?? result.outputs[i]) };
  }

  /**
   * @param {string} id
   * @param {string} key
   * @param {Feed[]} feeds
   * @param {import('./types.d.ts').RunOptions} options
   */
  async #runByMessage(id, key, feeds, { fetch, into, signal, transfer }) {
    const packed = feeds.map((feed) => own(feed, transfer));
    const result = await this.#call('run', [id, key, packed, fetch, false], { signal, transfer: buffers(packed) });
    into?.forEach((place, i) => {
      const output = result.outputs[i];
      if (!place || !(output instanceof Uint8Array)) return;
      result.outputs[i] = target({ name: fetch?.[i] ?? String(i), nbytes: output.byteLength }, place);
      result.outputs[i].set(output);
    });
    return result;
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
      this.#call('profile', [id, key, packed, repeats], { signal, transfer: buffers(packed) }));
  }

  /**
   * @param {string} id
   * @param {string} key
   * @param {number} slot absolute table index, as in the plan's steps
   * @param {Uint8Array | null} moduleBytes a module that exports one function; null: the plan's own kernel again
   * @returns {Promise<void>}
   */
  swapSlot(id, key, slot, moduleBytes) {
    return this.#inLane(id, () => this.#call('swapSlot', [id, key, slot, moduleBytes]));
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
    return this.#inLane(id, () => this.#call('timeSlot', [id, key, step, options], { signal }));
  }

  /**
   * @param {string} id
   * @param {string} key the plan's
   * @returns {Promise<import('./types.d.ts').StepMs[]>} what each step took in the next inference, whenever that is
   */
  survey(id, key) {
    return this.#call('survey', [id, key]);
  }

  /**
   * A lab: a memory of its own to try kernels in; see lab.js.
   * @param {string} id
   * @param {{shared: boolean, threads: number, maxPages?: number}} options
   * @returns {Promise<void>}
   */
  openLab(id, options) {
    return this.#call('openLab', [id, options]);
  }

  /**
   * @param {string} id
   * @param {import('./types.d.ts').LabSetup} setup
   * @param {AbortSignal} [signal]
   * @returns {Promise<{ms: number, busyMs: number, samples: number[][]}>}
   */
  labSetup(id, setup, signal) {
    return this.#call('labSetup', [id, setup], { signal });
  }

  /**
   * @param {string} id
   * @param {import('./types.d.ts').LabTrial} trial
   * @param {AbortSignal} [signal]
   * @returns {Promise<import('./types.d.ts').LabReport>}
   */
  labTrial(id, trial, signal) {
    return this.#call('labTrial', [id, trial], { signal });
  }

  /**
   * @param {string} id
   * @param {import('./types.d.ts').LabWork} work
   * @param {AbortSignal} [signal]
   * @returns {Promise<{times: Record<string, number>, values: number[][]}>} ms of a round of each kernel, by name
   */
  labMeasure(id, work, signal) {
    return this.#call('labMeasure', [id, work], { signal });
  }

  /**
   * @param {string} id
   * @param {AbortSignal} [signal]
   * @returns {Promise<import('./types.d.ts').LabConfirmation>} of the last candidate, verified whole and timed again
   */
  labConfirm(id, signal) {
    return this.#call('labConfirm', [id], { signal });
  }

  /**
   * @param {string} id
   * @returns {Promise<{freed: number}>}
   */
  closeLab(id) {
    return this.#call('closeLab', [id]);
  }

  /**
   * Between two inferences: the lab's last candidate takes over a slot, its constants' panels made over.
   * @param {string} id
   * @param {string} key the plan's
   * @param {import('./types.d.ts').Adoption} adoption
   * @returns {Promise<void>}
   */
  adopt(id, key, adoption) {
    return this.#inLane(id, () => this.#call('adopt', [id, key, adoption]));
  }

  /**
   * @param {{mode?: 'now' | 'idle', allowanceMs?: number}} [change]
   * @returns {Promise<import('./types.d.ts').PaceReport>}
   */
  pace(change) {
    return this.#call('pace', [change]);
  }

  /**
   * @param {string} id
   * @param {number} address
   * @param {number} length
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  readMemory(id, address, length) {
    return this.#inLane(id, () => this.#call('readMemory', [id, address, length]));
  }

  /**
   * @param {string} id
   * @param {string} key
   * @returns {Promise<void>}
   */
  dropPlan(id, key) {
    return this.#inLane(id, async (lane) => {
      await this.#call('dropPlan', [id, key]);
      lane?.plans.delete(key);
    });
  }

  /**
   * @param {string} id
   * @returns {Promise<{freed: number}>} bytes of memory given back
   */
  releaseSession(id) {
    return this.#inLane(id, async (lane) => {
      const freed = await this.#call('releaseSession', [id]);
      lane?.closed();
      return freed;
    });
  }

  /** @returns {Promise<import('./types.d.ts').MemoryReport>} */
  memory() {
    return this.#call('memory', []);
  }

  /**
   * @param {MessagePort} port to whoever computes host calls; the last one connected serves
   * @returns {Promise<void>}
   */
  connectHost(port) {
    return this.#call('connectHost', [port], { transfer: [port] });
  }

  /**
   * @param {(error: NnjitError) => void} callback once, if the engine dies; not after terminate()
   * @returns {() => void} unsubscribes
   */
  onDeath(callback) {
    this.#mourners.add(callback);
    return () => this.#mourners.delete(callback);
  }

  /** Ends the engine and its threads; pending calls are rejected. */
  terminate() {
    this.#mourners.clear();
    this.#die(new NnjitError('ENGINE_DIED', 'The engine was ended.', {}, RESTART));
  }

  /** @param {NnjitError} error */
  #die(error) {
    if (this.#death) return;
    this.#death = error;
    this.#watch.abort();
    this.#worker.terminate();
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of pending) reject(error);
    for (const callback of this.#mourners) callback(error);
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
    return new Promise((resolve, reject) => {
      const leave = () => {
        lane.leave();
        if (!lane.busy && !lane.open) this.#lanes.delete(id);
      };
      lane.enter(() => {
        const done = work(lane);
        done.then(resolve, reject);
        done.then(leave, leave);
      });
    });
  }

  /**
   * @param {string} method
   * @param {unknown[]} args
   * @param {CallOptions} [options]
   * @returns {Promise<any>}
   */
  #call(method, args, { signal, progress, transfer = [] } = {}) {
    if (this.#death) return Promise.reject(this.#death);
    if (signal?.aborted) return Promise.reject(new NnjitError('ABORTED', 'The call was cancelled.'));
    const id = this.#next++;
    const abort = () => this.#worker.postMessage({ id, abort: true });
    /** @type {Promise<any>} */
    const answer = new Promise((resolve, reject) => {
      // throws, and so rejects, at once if something cannot be cloned
      const at = performance.timeOrigin + performance.now();
      this.#worker.postMessage({ id, method, args, cancellable: signal !== undefined, at }, transfer);
      this.#pending.set(id, { resolve, reject, progress });
    });
    if (!signal) return answer;
    signal.addEventListener('abort', abort);
    return answer.finally(() => signal.removeEventListener('abort', abort));
  }

  /** @param {import('./types.d.ts').Reply} reply */
  #receive({ id, value, error, progress }) {
    if (id === 0 && error) {
      this.#die(new NnjitError('ENGINE_DIED', String(error.message), {}, RESTART));
      return;
    }
    const pending = this.#pending.get(id);
    if (!pending) return;
    if (progress) {
      pending.progress?.(...progress);
      return;
    }
    this.#pending.delete(id);
    if (error) pending.reject(NnjitError.from(error));
    else pending.resolve(value);
  }
}

/**
 * @param {Feed} feed
 * @param {boolean} [transfer] the caller gives its buffer away
 * @returns {Feed} with a buffer that nobody else has and that can move: it is copied here and not once more on the way
 */
function own(feed, transfer = false) {
  const bytes = asBytes(feed);
  if (!bytes) return feed;
  const whole = bytes.buffer instanceof ArrayBuffer && bytes.byteLength === bytes.buffer.byteLength;
  return transfer && whole ? bytes : copyOf(bytes);
}

/**
 * @param {Feed[]} feeds
 * @returns {ArrayBuffer[]} each once
 */
function buffers(feeds) {
  const found = feeds.flatMap((feed) => (ArrayBuffer.isView(feed) ? [/** @type {ArrayBuffer} */ (feed.buffer)] : []));
  return [...new Set(found)];
}

/**
 * @param {{name: string, nbytes: number}} ref
 * @param {ArrayBufferView | null | undefined} place
 * @returns {Uint8Array | null} the bytes of `place`
 */
function target({ name, nbytes }, place) {
  const bytes = place ? asBytes(place) : null;
  check(!bytes || bytes.byteLength === nbytes, 'BAD_FEED',
    `Output "${name}" has ${nbytes} bytes; there is room for ${bytes?.byteLength}.`,
    { name, expected: nbytes, got: bytes?.byteLength });
  return bytes;
}
