// Calls to the engine worker: they go out as messages and come back as promises. A dead engine rejects all that are
// pending and all that come after.

import { lockName, watchLock } from './alive.js';
import { NnjitError } from './errors.js';

/** @typedef {import('./types.d.ts').Mail} Mail */
/** @typedef {import('./types.d.ts').Progress} Progress */
/** @typedef {{resolve: (value: any) => void, reject: (error: NnjitError) => void, progress?: Progress}} Pending */
/** @typedef {{signal?: AbortSignal, progress?: Progress, transfer?: Transferable[]}} CallOptions */
/** @typedef {{info: import('./types.d.ts').EngineInfo, control: SharedArrayBuffer | null}} Started */

const RESTART = 'Start a new engine and create the sessions again.';

export class Calls {
  #worker;
  #next = 1;
  /** @type {Map<number, Pending>} */
  #pending = new Map();
  /** @type {Set<(error: NnjitError) => void>} */
  #mourners = new Set();
  #watch = new AbortController();
  /** @type {NnjitError | null} */
  death = null;
  /** Takes what the engine tells this thread besides answers, always before the answer that follows from it.
   * @type {(mail: Mail) => void} */
  onMail = () => {};

  constructor() {
    const worker = new Worker(new URL('./engine.worker.js', import.meta.url), { type: 'module', name: 'nnjit engine' });
    this.#worker = worker;
    worker.onmessage = ({ data }) => this.#receive(data);
    worker.onerror = (event) => {
      event.preventDefault?.();
      this.die(`The engine failed: ${event.message ?? 'its script did not load'}`);
    };
  }

  /**
   * Starts the engine and its threads.
   * @param {number | undefined} threads
   * @returns {Promise<Started>}
   */
  async start(threads) {
    try {
      const { locks, ...started } = await this.call('start', [{ threads, lock: lockName() }]);
      for (const lock of locks) {
        const lost = () => this.die('A thread of the engine ended; most often the browser ran out of memory.');
        watchLock(lock, lost, this.#watch.signal);
      }
      return started;
    } catch (cause) {
      this.end();
      const { message } = /** @type {Error} */ (cause);
      throw new NnjitError('ENGINE_START_FAILED', `The engine did not start. ${message}`);
    }
  }

  /**
   * @param {string} method
   * @param {unknown[]} args
   * @param {CallOptions} [options]
   * @returns {Promise<any>}
   */
  call(method, args, { signal, progress, transfer = [] } = {}) {
    if (this.death) return Promise.reject(this.death);
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

  /**
   * @param {(error: NnjitError) => void} callback once, if the engine dies; not after end()
   * @returns {() => void} unsubscribes
   */
  onDeath(callback) {
    this.#mourners.add(callback);
    return () => this.#mourners.delete(callback);
  }

  /** Ends the engine and its threads; pending calls are rejected. */
  end() {
    this.#mourners.clear();
    this.die('The engine was ended.');
  }

  /**
   * @param {string} why
   * @returns {NnjitError} what all calls get
   */
  die(why) {
    if (this.death) return this.death;
    const error = new NnjitError('ENGINE_DIED', why, {}, RESTART);
    this.death = error;
    this.#watch.abort();
    this.#worker.terminate();
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of pending) reject(error);
    for (const callback of this.#mourners) callback(error);
    return error;
  }

  /** @param {import('./types.d.ts').Reply} reply */
  #receive({ id, value, error, progress, mail }) {
    if (mail) {
      this.onMail(mail);
      return;
    }
    if (id === 0 && error) {
      this.die(String(error.message));
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
