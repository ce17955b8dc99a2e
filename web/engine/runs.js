// One run as its caller sees it: feeds into the plan's places, steps on this thread or in the engine, outputs out of
// their places. Where memory is not shared, feeds and outputs go and come as messages.

import { CallTrapped, Lost } from './caller.js';
import { throwIfAborted } from './errors.js';
import { spares } from './spares.js';
import { buffers, copyOf, feedBytes, fetched, isShared, own, target, touched } from './values.js';

/** @typedef {import('./lane.js').Lane} Lane */
/** @typedef {import('./lane.js').KnownPlan} KnownPlan */
/** @typedef {import('./types.d.ts').Feed} Feed */
/** @typedef {import('./types.d.ts').RunOptions} RunOptions */
/** @typedef {import('./types.d.ts').RunResult} RunResult */
/** @typedef {import('./types.d.ts').TensorRef} TensorRef */
/** @typedef {import('./types.d.ts').ValueRef} ValueRef */
/** An output: where the caller wants it, or whether it is read where it lies.
 * @typedef {{ref: ValueRef, bytes: Uint8Array | null, stays: boolean}} Wanted */

/** Outputs of this many bytes get their pages ahead of time. */
const LARGE = 1 << 18;

export class Runs {
  /**
   * @param {import('./calls.js').Calls} calls
   * @param {import('./caller.js').Caller} caller
   */
  constructor(calls, caller) {
    this.calls = calls;
    this.caller = caller;
  }

  /**
   * The lane is ours until this returns: nobody else is in the session's memory.
   * @param {Lane | undefined} lane
   * @param {string} id
   * @param {string} key
   * @param {Feed[]} feeds
   * @param {RunOptions} options
   * @returns {Promise<RunResult>}
   */
  async run(lane, id, key, feeds, options) {
    const plan = lane?.plans.get(key);
    if (!lane || !plan) return this.#byMessage(id, key, feeds, options);
    const { short } = plan;
    if (short && this.caller.takes(lane.no, short)) return this.#here(lane, id, plan, short, feeds, options);
    const result = await (lane.direct ? this.#inEngine(lane, id, plan, feeds, options) : this.#byMessage(id, key, feeds, options));
    if (short) this.caller.ran(short, result.ms);
    return result;
  }

  /**
   * On this thread.
   * @param {Lane} lane
   * @param {string} id
   * @param {KnownPlan} plan
   * @param {import('./caller.js').ShortPlan} short
   * @param {Feed[]} feeds
   * @param {RunOptions} options
   * @returns {Promise<RunResult>}
   */
  async #here(lane, id, plan, short, feeds, options) {
    const { caller } = this;
    const outputs = begin(lane, plan, feeds, options);
    const pause = caller.pause(short);
    if (pause) await pause;
    if (this.calls.death) throw this.calls.death;
    throwIfAborted(options.signal);
    try {
      const ms = caller.run(lane.no, short, lane.threads);
      for (const each of outputs) if (isNew(each)) each.bytes = spare(plan, each, 1); // the others sleep between such runs
      return { outputs: outputs.map((each) => readOut(lane, each)), ms, segments: short.segments.map(() => ({ kind: 'wasm', ms })), caller: true };
    } catch (cause) {
      if (cause instanceof Lost) throw this.calls.die(cause.message);
      if (!(cause instanceof CallTrapped)) throw cause;
      return await this.calls.call('calledTrapped', [id, plan.key, cause.how]); // rejects with what the engine knows of it
    }
  }

  /**
   * In the engine, which finds the feeds in memory and leaves the outputs there.
   * @param {Lane} lane
   * @param {string} id
   * @param {KnownPlan} plan
   * @param {Feed[]} feeds
   * @param {RunOptions} options
   * @returns {Promise<RunResult>}
   */
  async #inEngine(lane, id, plan, feeds, options) {
    const outputs = begin(lane, plan, feeds, options);
    const values = feeds.map((feed, i) => (plan.inputs[i].host ? feed : null));
    const running = this.calls.call('run', [id, plan.key, values, options.fetch, true], { signal: options.signal });
    // While the engine computes: fresh pages cost more than the copy into them (about 1 ms a megabyte).
    for (const each of outputs) {
      if (isNew(each) && each.ref.nbytes >= LARGE) each.bytes = spare(plan, each, lane.threads + 1) ?? touched(each.ref.nbytes);
    }
    const result = await running;
    return { ...result, outputs: outputs.map((each, i) => (each.ref.host ? result.outputs[i] : readOut(lane, each))) };
  }

  /**
   * @param {string} id
   * @param {string} key
   * @param {Feed[]} feeds
   * @param {RunOptions} options
   * @returns {Promise<RunResult>}
   */
  async #byMessage(id, key, feeds, { fetch, into, signal, transfer }) {
    const packed = feeds.map((feed) => own(feed, transfer));
    const result = await this.calls.call('run', [id, key, packed, fetch, false], { signal, transfer: buffers(packed) });
    into?.forEach((place, i) => {
      const output = result.outputs[i];
      if (!place || !(output instanceof Uint8Array)) return;
      result.outputs[i] = target({ name: fetch?.[i] ?? String(i), nbytes: output.byteLength }, place);
      result.outputs[i].set(output);
    });
    return result;
  }
}

/**
 * Feeds go to their places.
 * @param {Lane} lane
 * @param {KnownPlan} plan
 * @param {Feed[]} feeds
 * @param {RunOptions} options
 * @returns {Wanted[]}
 */
function begin(lane, { inputs, outputs }, feeds, { fetch, into = [], stay = [] }) {
  const wanted = fetched(outputs, fetch).map((ref, i) => ({
    ref, bytes: ref.host ? null : target(ref, into[i]), stays: Boolean(stay[i]) && !ref.host && lane.direct,
  }));
  const given = feedBytes(inputs, feeds);
  // What lies in shared memory may be this session's, where another feed is about to be written.
  const safe = given.length > 1 ? given.map((bytes) => (bytes && isShared(bytes) ? copyOf(bytes) : bytes)) : given;
  safe.forEach((bytes, i) => {
    const ref = inputs[i];
    if (bytes && !ref.host) lane.bytes(ref.address, ref.nbytes).set(bytes);
  });
  return wanted;
}

/** An output that gets an array of its own. @param {Wanted} output @returns {output is Wanted & {ref: TensorRef}} */
const isNew = (output) => !output.ref.host && !output.bytes && !output.stays;

/** Memory that is there already, if there is. @param {KnownPlan} plan @param {Wanted & {ref: TensorRef}} output @param {number} busy threads */
const spare = ({ spares: policy }, { ref }, busy) => spares.take(ref.nbytes, policy, busy);

/**
 * @param {Lane} lane
 * @param {Wanted} output
 * @returns {Uint8Array}
 */
function readOut(lane, { ref, bytes, stays }) {
  const { address, nbytes } = /** @type {TensorRef} */ (ref);
  const from = lane.bytes(address, nbytes);
  if (stays && !bytes) return from;
  if (!bytes) return copyOf(from);
  bytes.set(from);
  return bytes;
}
