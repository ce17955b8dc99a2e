// One run as its caller sees it: feeds into the plan's places, steps on this thread or in the engine, outputs out of
// their places. Where memory is not shared, feeds and outputs go and come as messages.

import { CallTrapped, Lost } from './caller.js';
import { throwIfAborted } from './errors.js';
import { spares } from './spares.js';
import { buffers, copyOf, feedBytes, fetched, isShared, own, target, touched, windowIn } from './values.js';
import { cut, spread } from './windows.js';

/** @typedef {import('./lane.js').Lane} Lane */
/** @typedef {import('./lane.js').KnownPlan} KnownPlan */
/** @typedef {import('./types.d.ts').Feed} Feed */
/** @typedef {import('./types.d.ts').RunOptions} RunOptions */
/** @typedef {import('./types.d.ts').RunResult} RunResult */
/** @typedef {import('./types.d.ts').TensorRef} TensorRef */
/** @typedef {import('./types.d.ts').ValueRef} ValueRef */
/** @typedef {import('./windows.js').Window} Window */
/** An output: where the caller wants it, or whether it is read where it lies; window: the part of it that is wanted.
 * @typedef {{ref: ValueRef, bytes: Uint8Array | null, stays: boolean, lease: {readonly over: boolean} | undefined, window: Window | null}} Wanted */

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
      if (isNew(each) && sizeOf(each) >= LARGE) each.bytes = spare(plan, each, lane.threads + 1) ?? touched(sizeOf(each));
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
  async #byMessage(id, key, feeds, { fetch, into, windows = [], signal, transfer }) {
    const packed = feeds.map((feed) => own(feed, transfer));
    const result = await this.calls.call('run', [id, key, packed, fetch, false], { signal, transfer: buffers(packed) });
    windows.forEach((window, i) => {
      const all = result.outputs[i];
      if (!window || !(all instanceof Uint8Array)) return;
      result.outputs[i] = new Uint8Array(window.nbytes);
      cut(window, all, result.outputs[i]);
    });
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
function begin(lane, { inputs, outputs }, feeds, { fetch, into = [], stay = [], lease, windows = [] }) {
  const wanted = fetched(outputs, fetch).map((ref, i) => {
    const window = windows[i] ?? null;
    const stays = Boolean(stay[i]) && !ref.host && lane.direct && !window?.loops.length;
    return { ref, bytes: ref.host ? null : target(window ? { name: ref.name, nbytes: window.nbytes } : ref, into[i]), stays, lease, window };
  });
  const places = inputs.map((ref) => (ref.host ? null : lane.bytes(ref.address, ref.nbytes)));
  const parts = feeds.map(windowIn);
  // What lies in shared memory may be this session's, where another feed is about to be written.
  const given = feedBytes(inputs, feeds).map((bytes, i) => (bytes && isShared(bytes) && lost(bytes, i, places, parts[i]) ? copyOf(bytes) : bytes));
  given.forEach((bytes, i) => {
    const [place, window] = [places[i], parts[i]];
    if (!bytes || !place) return;
    if (window) spread(window, bytes, place);
    else if (!isThere(bytes, place)) place.set(bytes);
  });
  return wanted;
}

/** A feed that lies where the plan wants it. @param {Uint8Array} bytes @param {Uint8Array} place */
const isThere = (bytes, place) => bytes.buffer === place.buffer && bytes.byteOffset === place.byteOffset;

/**
 * Whether a feed might be overwritten before it was read, if it is of the same memory.
 * @param {Uint8Array} bytes @param {number} own which feed it is @param {(Uint8Array | null)[]} places of all feeds @param {Window | null} window it is written in pieces
 */
const lost = (bytes, own, places, window) => places.some((place, i) =>
  place && (i !== own || window) && bytes.byteOffset < place.byteOffset + place.byteLength && place.byteOffset < bytes.byteOffset + bytes.byteLength);

/** An output that gets an array of its own. @param {Wanted} output @returns {output is Wanted & {ref: TensorRef}} */
const isNew = (output) => !output.ref.host && !output.bytes && !output.stays;

/** Bytes that are wanted. @param {Wanted & {ref: TensorRef}} output */
const sizeOf = ({ ref, window }) => window?.nbytes ?? ref.nbytes;

/** Memory that is there already, if there is; not for parts, whose sizes change. @param {KnownPlan} plan @param {Wanted & {ref: TensorRef}} output @param {number} busy threads */
const spare = ({ spares: policy }, { ref, window }, busy) => (window ? null : spares.take(ref.nbytes, policy, busy));

/**
 * @param {Lane} lane
 * @param {Wanted} output
 * @returns {Uint8Array}
 */
function readOut(lane, { ref, bytes, stays, lease, window }) {
  const { address, nbytes } = /** @type {TensorRef} */ (ref);
  const from = lane.bytes(address, nbytes);
  if (stays && !bytes && !lease?.over) return window ? from.subarray(0, window.nbytes) : from;
  if (window) {
    const part = bytes ?? new Uint8Array(window.nbytes);
    cut(window, from, part);
    return part;
  }
  if (!bytes) return copyOf(from);
  bytes.set(from);
  return bytes;
}
