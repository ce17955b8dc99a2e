// Calls across a Worker or MessagePort, both ways: call(method, args) resolves to what the other side's handler
// returned. Progress and cancellation ride along; a dead peer rejects everything pending.
import { sharesBuffers } from '../engine/features.js';
import { NnjitError, asFailure, failure } from './errors.js';

/**
 * @typedef {{postMessage(message: unknown, transfer?: Transferable[]): void,
 *   addEventListener(type: 'message', listener: (event: MessageEvent) => void): void, start?: () => void}} Port
 * @typedef {(stage: string, done: number, total: number, detail?: unknown) => void} Tell
 * @typedef {{progress: Tell, cancel?: Int32Array, signal: AbortSignal}} CallContext
 * @typedef {(args: any, context: CallContext) => unknown} Handler
 * @typedef {{resolve: (value: any) => void, reject: (error: Error) => void,
 *   onProgress?: Tell, detach: () => void}} Pending
 */

/** Marks buffers to move rather than copy with a handler's answer. */
export class Transferred {
  /** @param {unknown} value @param {Transferable[]} transfer */
  constructor(value, transfer) {
    this.value = value;
    this.transfer = transfer;
  }
}

export class Rpc {
  /** @type {Map<number, Pending>} */
  #pending = new Map();
  /** @type {Map<number, AbortController>} */
  #serving = new Map();
  #next = 1;
  /** When a call was last made or answered, either way. */
  #lastUse = performance.now();
  /** @type {NnjitError | undefined} */
  #dead;

  /** @param {Port} port @param {Record<string, Handler>} [handlers] */
  constructor(port, handlers = {}) {
    this.port = port;
    this.handlers = handlers;
    port.addEventListener('message', (event) => this.#receive(event.data));
    port.start?.();
  }

  /**
   * @param {string} method @param {unknown} [args]
   * @param {{transfer?: Transferable[], signal?: AbortSignal | null, onProgress?: Tell}} [options]
   * @returns {Promise<any>}
   */
  call(method, args, options = {}) {
    const { signal, onProgress, transfer = [] } = options;
    this.#lastUse = performance.now();
    if (this.#dead) return Promise.reject(this.#dead);
    if (signal?.aborted) return Promise.reject(failure('ABORTED', 'The call was cancelled', { cause: signal.reason }));
    const id = this.#next++;
    // A worker deep in one long computation reads no messages; a shared flag still reaches it.
    const cancel = signal && sharesBuffers() ? new Int32Array(new SharedArrayBuffer(4)) : undefined;
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        if (cancel) Atomics.store(cancel, 0, 1);
        this.port.postMessage({ rpc: 'cancel', id });
        this.#settle(id)?.reject(failure('ABORTED', 'The call was cancelled', { cause: signal?.reason }));
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#pending.set(id, { resolve, reject, onProgress, detach: () => signal?.removeEventListener('abort', onAbort) });
      try {
        this.port.postMessage({ rpc: 'call', id, method, args, cancel }, transfer);
      } catch (error) {
        this.#settle(id)?.reject(asFailure(error, 'NOT_CLONEABLE'));
      }
    });
  }

  /** How long nobody has waited for an answer; 0 while somebody does. */
  get quietMs() {
    return this.#pending.size + this.#serving.size ? 0 : performance.now() - this.#lastUse;
  }

  /** Rejects everything pending and every later call. @param {NnjitError} error */
  die(error) {
    this.#dead ??= error;
    for (const id of [...this.#pending.keys()]) this.#settle(id)?.reject(error);
  }

  /** @param {number} id */
  #settle(id) {
    const entry = this.#pending.get(id);
    this.#pending.delete(id);
    this.#lastUse = performance.now();
    entry?.detach();
    return entry;
  }

  /** @param {any} message */
  #receive(message) {
    switch (message?.rpc) {
      case 'call':
        void this.#serve(message);
        break;
      case 'cancel':
        this.#serving.get(message.id)?.abort();
        break;
      case 'progress':
        this.#pending.get(message.id)?.onProgress?.(message.stage, message.done, message.total, message.detail);
        break;
      case 'return':
        this.#settle(message.id)?.resolve(message.value);
        break;
      case 'throw':
        this.#settle(message.id)?.reject(NnjitError.from(message.error));
        break;
    }
  }

  /** @param {{id: number, method: string, args: unknown, cancel?: Int32Array}} message */
  async #serve({ id, method, args, cancel }) {
    const controller = new AbortController();
    this.#serving.set(id, controller);
    try {
      const handler = this.handlers[method];
      if (!handler) throw failure('INTERNAL', `No such call: ${method}`);
      const answer = await handler(args, {
        cancel,
        signal: controller.signal,
        progress: (stage, done, total, detail) => this.port.postMessage({ rpc: 'progress', id, stage, done, total, detail }),
      });
      const [value, transfer] = answer instanceof Transferred ? [answer.value, answer.transfer] : [answer, []];
      this.port.postMessage({ rpc: 'return', id, value }, transfer);
    } catch (error) {
      this.port.postMessage({ rpc: 'throw', id, error: JSON.parse(JSON.stringify(asFailure(error))) });
    } finally {
      this.#serving.delete(id);
    }
  }
}
