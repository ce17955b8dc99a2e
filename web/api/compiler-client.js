// The compiler worker as the page sees it: started once, asked by name, and known to be dead when it is.
// A death rejects everything pending with COMPILER_DIED; start() again gives a fresh one of a new generation.
import { asFailure, failure } from './errors.js';
import { Rpc } from './rpc.js';
import { log } from './env.js';
import { forgetSnapshot } from './snapshot.js';

/** @typedef {import('./errors.js').NnjitError} NnjitError */
/** @typedef {(stage: string, done: number, total: number) => void} Progress */
/** @typedef {{pyodide: string, nnjit: string, python: string, bootMs: Record<string, number>, onnx: string, standIns: string[],
 *   bytecode: {taken: number, compiled: number}, restored: boolean, files: string}} CompilerInfo files: which the compiler was made of */

/** Where coming back from a snapshot takes longer, it hangs: it takes a second or two, more where Pyodide has to be fetched again. */
const RESTORE_MS = 30_000;

export class CompilerClient {
  static #generations = 0;
  /** @type {Set<(error: NnjitError) => void>} */
  #listeners = new Set();
  /** @type {Set<Progress>} */
  #watchers = new Set();
  /** @type {[string, number, number]} */
  #stage = ['runtime', 0, 1];
  /** @type {NnjitError | undefined} */
  death;
  /** Versions and times, once it is up. @type {CompilerInfo | null} */
  info = null;

  /**
   * @param {Record<string, import('./rpc.js').Handler>} handlers  calls that Python makes back to the page
   * @param {number} [restoreMs] how long a snapshot may take to be put back
   */
  constructor(handlers, restoreMs = RESTORE_MS) {
    /** Which worker this is; sessions made in an earlier one are unknown to it. */
    this.generation = ++CompilerClient.#generations;
    /** One that hangs on a snapshot is replaced before anything has been asked of it. @type {Worker} */
    this.worker;
    /** @type {Rpc} */
    this.rpc;
    /** Resolves when Python and the compiler are up. @type {Promise<CompilerInfo>} */
    this.ready = this.#boot(handlers, restoreMs).catch((error) => {
      const reason = asFailure(error);
      this.#die(reason.code === 'COMPILER_DIED' ? reason : failure('COMPILER_FAILED', reason.message, { ...reason.fields, hint: reason.hint || hint }));
      throw this.death;
    });
    this.ready.then(
      (info) => (this.info = info),
      (error) => log('error', error.message),
    );
  }

  /** @param {Record<string, import('./rpc.js').Handler>} handlers @param {number} restoreMs @returns {Promise<CompilerInfo>} */
  async #boot(handlers, restoreMs) {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let watch;
    /** @type {Promise<undefined>} */
    const hangs = new Promise((resolve) => {
      this.#start('', {
        ...handlers,
        'boot.restoring': (under) => {
          clearTimeout(watch);
          if (under) watch = setTimeout(resolve, restoreMs, undefined);
        },
      });
    });
    const info = await Promise.race([this.#up(''), hangs]).finally(() => clearTimeout(watch));
    if (info || this.death) return info ?? Promise.reject(this.death);
    log('warning', `Python starts anew: the snapshot of an earlier visit was not back after ${restoreMs / 1000} s`);
    void forgetSnapshot();
    this.worker.terminate();
    this.#start(ANEW, handlers);
    return this.#up(ANEW);
  }

  /** @param {string} way '' or ANEW @param {Record<string, import('./rpc.js').Handler>} handlers */
  #start(way, handlers) {
    const worker = new Worker(new URL(`../compiler.worker.js${way}`, import.meta.url), {
      type: 'module',
      name: `nnjit compiler ${this.generation}`,
    });
    this.worker = worker;
    this.rpc = new Rpc(worker, {
      ...handlers,
      'boot.progress': ([stage, done, total]) => {
        this.#stage = [stage, done, total];
        for (const watch of this.#watchers) watch(stage, done, total);
      },
      'boot.died': (error) => this.#die(failure('COMPILER_DIED', error.message, error)),
    });
    worker.addEventListener('error', (event) => {
      event.preventDefault();
      if (worker === this.worker) this.#die(failure('COMPILER_DIED', `The compiler worker failed: ${event.message ?? 'its script did not load'}`));
    });
    this.#watchLock(way);
  }

  /** @param {string} way */
  #up(way) {
    return this.rpc.call('boot', { lock: this.#lockName(way) });
  }

  /** @param {string} way */
  #lockName(way) {
    return `nnjit-compiler-${this.generation}${way}-${PAGE}`;
  }

  /**
   * A worker that is killed from outside sends no word. It holds a Web Lock while it lives, so being granted
   * that lock is the news of its death. (Only secure contexts have locks; elsewhere errors alone tell.)
   * @param {string} way
   */
  #watchLock(way) {
    const locks = globalThis.navigator?.locks;
    if (!locks) return;
    const { worker } = this;
    const ended = () => worker === this.worker && this.#die(failure('COMPILER_DIED', 'The compiler worker ended'));
    void this.rpc.call('boot.locked', { lock: this.#lockName(way) }).then(
      () => locks.request(this.#lockName(way), ended),
    ).catch(() => undefined);
  }

  /** @param {NnjitError} error */
  #die(error) {
    if (this.death) return;
    error.hint ||= 'nnjit.restart() starts a new one; sessions compile again when they next need it';
    this.death = error;
    this.worker.terminate();
    this.rpc.die(error);
    for (const listener of this.#listeners) listener(error);
  }

  /** @param {(error: NnjitError) => void} listener @returns {() => void} stop listening */
  onDeath(listener) {
    if (this.death) queueMicrotask(() => this.death && listener(this.death));
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * A call once the worker is up. The wait itself can be cancelled and its progress watched.
   * @param {string} method @param {unknown} args
   * @param {{signal?: AbortSignal | null, onProgress?: Progress, transfer?: Transferable[]}} [options]
   * @returns {Promise<any>}
   */
  async call(method, args, options = {}) {
    await this.booted(options.signal, options.onProgress);
    return this.rpc.call(method, args, options);
  }

  /** @param {AbortSignal | null} [signal] @param {Progress} [onProgress] */
  async booted(signal, onProgress) {
    if (onProgress) {
      this.#watchers.add(onProgress);
      onProgress(...this.#stage);
    }
    try {
      await abortable(this.ready, signal);
    } finally {
      if (onProgress) this.#watchers.delete(onProgress);
    }
  }

  terminate() {
    this.#die(failure('COMPILER_DIED', 'The compiler worker was stopped'));
  }
}

const hint = 'reload the page; if it stays, check that serve.py could fetch the browser parts';
/** Ends the address of a worker that leaves snapshots alone. */
const ANEW = '#anew';
const PAGE = Math.random().toString(36).slice(2);

/**
 * @template T
 * @param {Promise<T>} promise @param {AbortSignal | null} [signal]
 * @returns {Promise<T>}
 */
export function abortable(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const stop = () => reject(failure('ABORTED', 'The call was cancelled', { cause: signal.reason }));
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}
