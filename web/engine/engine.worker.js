// The engine worker: thread 0 of the pool and the far end of EngineClient's calls. It holds sessions and does as
// it is told; what to build, load, swap or time is decided elsewhere.

import { holdLock } from './alive.js';
import { Engine } from './engine.js';
import { NnjitError, asError } from './errors.js';
import { probe } from './features.js';
import { Pace } from './pace.js';
import { Pool } from './pool.js';
import { sessionCalls } from './session-calls.js';
import { tunerCalls } from './tuner-calls.js';

/** @typedef {import('./engine.js').Call} Call */
/** @typedef {import('./types.d.ts').Reply} Reply */
/** @typedef {(call: Call, ...args: any[]) => unknown} Method */

const port = /** @type {Worker} */ (/** @type {unknown} */ (self));

/** What can be asked for; the rest once `start` has made an engine. @type {Record<string, Method>} */
const methods = {
  /**
   * @param {Call} _call
   * @param {{threads?: number, lock: string}} options
   */
  async start(_call, { threads, lock }) {
    await holdLock(lock);
    const info = probe(threads);
    const pool = new Pool(info.threads, info.sharedMemory, (error) => port.postMessage({ id: 0, error: error.toJSON() }));
    const engine = new Engine(pool, new Pace(pool.control), info);
    Object.assign(methods, sessionCalls(engine, port), tunerCalls(engine));
    const control = info.sharedMemory ? pool.control.buffer : null;
    return { info, locks: [lock, ...await pool.start(lock)], control };
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
port.onmessage = async ({ data: { id, method, args, abort, cancellable, at } }) => {
  if (abort) {
    calls.get(id)?.abort();
    return;
  }
  const controller = new AbortController();
  calls.set(id, controller);
  /** @type {Reply} */
  let reply;
  try {
    const call = Object.hasOwn(methods, method) ? methods[method] : undefined;
    if (!call) throw new NnjitError('INTERNAL', `The engine has no method "${method}".`);
    const progress = (/** @type {[string, number, number]} */ ...step) => port.postMessage({ id, progress: step });
    const { signal } = controller;
    reply = { id, value: await call({ signal, cancel: cancellable ? signal : undefined, progress, at }, ...args) };
  } catch (cause) {
    reply = { id, error: asError(cause).toJSON() };
  }
  calls.delete(id);
  port.postMessage(reply, owned(reply.value));
};
