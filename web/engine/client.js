// EngineClient: the engine as the page, or any worker, sees it. Calls go out as messages and come back as
// promises; a dead engine rejects all that are pending and can be started anew.

import { lockName, watchLock } from './alive.js';
import { NnjitError } from './errors.js';

/** @typedef {import('./types.d.ts').EngineInfo} EngineInfo */
/** @typedef {import('./types.d.ts').Feed} Feed */
/** @typedef {import('./types.d.ts').Plan} Plan */
/** @typedef {import('./types.d.ts').Progress} Progress */
/** @typedef {{resolve: (value: any) => void, reject: (error: NnjitError) => void, progress?: Progress}} Pending */
/** @typedef {{signal?: AbortSignal, progress?: Progress, transfer?: Transferable[]}} CallOptions */

const RESTART = 'Start a new engine and create the sessions again.';

export class EngineClient {
  #worker;
  #next = 1;
  /** @type {Map<number, Pending>} */
  #pending = new Map();
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
    return this.#call('createSession', [id, options]);
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
    return this.#call('loadPlan', [id, plan, sources], { signal, progress: onProgress });
  }

  /**
   * @param {string} id
   * @param {string} key the plan's
   * @param {Feed[]} feeds one an input of the plan, of exactly its bytes
   * @param {{fetch?: string[], signal?: AbortSignal, transfer?: boolean}} [options]
   *   fetch: names of the outputs wanted; transfer: the feeds' buffers move and are gone for the caller
   * @returns {Promise<import('./types.d.ts').RunResult>} outputs: Uint8Array over a buffer of its own, or a host value
   */
  run(id, key, feeds, { fetch, signal, transfer = false } = {}) {
    const packed = feeds.map(compact);
    return this.#call('run', [id, key, packed, fetch], { signal, transfer: transfer ? buffers(packed) : [] });
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
    return this.#call('profile', [id, key, feeds.map(compact), repeats], { signal });
  }

  /**
   * @param {string} id
   * @param {string} key
   * @param {number} slot absolute table index, as in the plan's steps
   * @param {Uint8Array | null} moduleBytes a module that exports one function; null: the plan's own kernel again
   * @returns {Promise<void>}
   */
  swapSlot(id, key, slot, moduleBytes) {
    return this.#call('swapSlot', [id, key, slot, moduleBytes]);
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
    return this.#call('timeSlot', [id, key, step, options], { signal });
  }

  /**
   * @param {string} id
   * @param {number} address
   * @param {number} length
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  readMemory(id, address, length) {
    return this.#call('readMemory', [id, address, length]);
  }

  /**
   * @param {string} id
   * @param {string} key
   * @returns {Promise<void>}
   */
  dropPlan(id, key) {
    return this.#call('dropPlan', [id, key]);
  }

  /**
   * @param {string} id
   * @returns {Promise<{freed: number}>} bytes of memory given back
   */
  releaseSession(id) {
    return this.#call('releaseSession', [id]);
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
      this.#worker.postMessage({ id, method, args, cancellable: signal !== undefined }, transfer);
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
 * A view of a part of a buffer would be sent with the whole buffer; so the part is copied.
 * @param {Feed} feed
 * @returns {Feed}
 */
function compact(feed) {
  if (!ArrayBuffer.isView(feed) || feed.byteLength === feed.buffer.byteLength) return feed;
  return new Uint8Array(feed.buffer, feed.byteOffset, feed.byteLength).slice();
}

/**
 * @param {Feed[]} feeds
 * @returns {ArrayBuffer[]} each once
 */
function buffers(feeds) {
  const found = feeds.flatMap((feed) => {
    const buffer = ArrayBuffer.isView(feed) ? feed.buffer : feed;
    return buffer instanceof ArrayBuffer ? [buffer] : [];
  });
  return [...new Set(found)];
}
