// The way to the host: nodes without a kernel are computed on the other side of a port, by the Python
// reference in the compiler worker. Values go out and come back; the engine looks at their lengths only.

import { NnjitError, asError, check, throwIfAborted } from './errors.js';

/** @typedef {import('./types.d.ts').HostValue} HostValue */

export class Host {
  /** @type {MessagePort | null} */
  #port = null;
  #next = 1;
  /** @type {Map<number, {resolve: (outputs: HostValue[]) => void, reject: (error: NnjitError) => void}>} */
  #pending = new Map();

  /**
   * Takes a new channel; calls that wait on the old one fail.
   * @param {MessagePort} port
   */
  connect(port) {
    this.#fail('The host was replaced before it answered.');
    this.#port?.close();
    this.#port = port;
    port.onmessage = ({ data }) => this.#answer(data);
    // Told where the browser has this event; elsewhere the owner of the host connects a new one.
    port.addEventListener('close', () => {
      if (this.#port === port) this.#fail('The host went away before it answered.');
    });
  }

  /** @param {string} why */
  #fail(why) {
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of pending) reject(new NnjitError('HOST_CALL_FAILED', why));
  }

  /** @param {{id: number, outputs?: HostValue[], error?: Record<string, unknown>}} data */
  #answer({ id, outputs, error }) {
    const call = this.#pending.get(id);
    if (!call) return; // cancelled meanwhile
    this.#pending.delete(id);
    if (outputs) call.resolve(outputs);
    else call.reject(NnjitError.from({ code: 'HOST_CALL_FAILED', message: 'no outputs', ...error }));
  }

  /**
   * @param {{session: string, plan: string, call: string, inputs: ({name: string} & HostValue)[]}} request
   * @param {ArrayBuffer[]} owned buffers of the inputs that nobody needs here any more; they move
   * @param {AbortSignal} signal
   * @returns {Promise<HostValue[]>} one an output of the call
   */
  call(request, owned, signal) {
    const port = this.#port;
    check(port !== null, 'NO_HOST', `No host is connected to compute "${request.call}".`, { call: request.call },
      'This plan has nodes without a kernel, and they need the compiler worker.');
    throwIfAborted(signal);
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      signal.addEventListener('abort', () => {
        if (this.#pending.delete(id)) reject(new NnjitError('ABORTED', 'The call was cancelled.'));
      }, { once: true });
      try {
        port.postMessage({ id, ...request }, owned);
      } catch (cause) {
        this.#pending.delete(id);
        reject(asError(cause, 'HOST_CALL_FAILED'));
      }
    });
  }
}
