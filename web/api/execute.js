// One run of a plan: takes tensors by input name, gives tensors by output name. Feeds go to the engine as bytes, as buffers of
// the GPU, or as parts of what a plan with room has place for; outputs come back likewise.
import { failure } from './errors.js';
import { READ, copyOf } from './feeds.js';
import { numbersIn, outputDims } from './room.js';
import { requestOf } from './shelf.js';
import { Tensor, from, goneWith, staying } from './tensor.js';
import { TYPES, viewAs } from './types.js';
import { bytesOf, fromValue, toValue } from './values.js';
import { windowOf } from '../engine/windows.js';

/**
 * @typedef {import('./feeds.js').Feed} Feed
 * @typedef {import('./shelf.js').Prepared} Prepared
 * @typedef {import('./tensor.js').Lease} Lease
 * @typedef {import('../engine/types.js').ValueRef} ValueRef
 * @typedef {{values: Feed[], ms: number, segments: {kind: string, ms: number}[], caller?: boolean}} Executed caller: on this thread
 * @typedef {{session: string, names: string[], location: (name: string) => string, onGpu: boolean, steady: boolean,
 *   keeping: import('./keeping.js').Keeping, taken: () => Lease, signal: AbortSignal | null}} How names: of the model's outputs, in its order; location: where an output
 *   goes that no tensor waits for; steady: outputs may stay in the engine's memory; keeping: those that are fed again; taken: called when the
 *   feeds are taken
 */

/**
 * @param {import('../engine/client.js').EngineClient | import('../engine/webgpu/client.js').GpuClient} client
 * @param {Prepared & {facts: import('./shelf.js').PlanFacts}} plan @param {Map<string, Feed>} feeds
 * @param {Map<string, Tensor | null>} wanted output names, each with a tensor to fill or null; one of the wrong form is left alone
 * @param {How} how @returns {Promise<Executed>} values in the order of `wanted`
 */
export async function execute(client, plan, feeds, wanted, how) {
  const { session, onGpu, steady, keeping, taken, signal } = how;
  const { there, lease: stays } = keeping.begins(plan, feeds);
  const outputs = outputsOf(plan, feeds, wanted, how);
  const options = {
    fetch: outputs.map(({ ref }) => ref.name),
    into: outputs.map(({ into }) => into && bytesOf(into)),
    windows: outputs.map(({ ref, held, input }) => (ref === held || input ? null : windowBetween(ref, held))),
    ...ways(outputs, onGpu, steady),
    lease: stays,
    ...(signal ? { signal } : {}),
  };
  const running = client.run(session, plan.key, /** @type {any} */ (toFeeds(plan, feeds, onGpu, there)), options);
  READ.add(feeds);
  const lease = taken();
  const result = await running.catch((error) => {
    keeping.leave(); // what the run has written is not known
    throw error;
  });
  /** @type {Map<string, Feed>} */
  const made = new Map();
  outputs.forEach(({ name, ref, held, into, input, pinned }, i) => {
    const output = result.outputs[i];
    const value = input
      ? keeping.made(input, /** @type {any} */ (held), /** @type {any} */ (ref).dims, /** @type {Uint8Array} */ (output), pinned ? lease : null)
      : (into ?? fromOutput(ref, output, lease, client));
    made.set(name, value instanceof Tensor && !into ? from(value, keeping) : value);
  });
  keeping.ended(new Set(outputs.map(({ input }) => input)));
  const values = [...wanted.keys()].map((name) => (name in plan.constants ? fromValue(plan.constants[name]) : (made.get(name) ?? null)));
  return { values, ms: result.ms, segments: result.segments, caller: Boolean('caller' in result && result.caller) };
}

/**
 * @typedef {{name: string, held: ValueRef, ref: ValueRef, into: Tensor | null, input: string | undefined, pinned: boolean, onGpu: boolean}} Output
 *   held: as the plan has it; ref: as this run gives it; into: the tensor to fill; input: in whose place it is kept; pinned, onGpu: asked for there
 */

/**
 * What a run computes of what is wanted.
 * @param {Prepared & {facts: import('./shelf.js').PlanFacts}} plan @param {Map<string, Feed>} feeds @param {Map<string, Tensor | null>} wanted
 * @param {How} how @returns {Output[]}
 */
function outputsOf(plan, feeds, wanted, { names, location, steady, keeping }) {
  const n = numbersOf(plan, feeds);
  const kept = steady ? keeping.wanted(plan, feeds, (name) => location(name) === 'cpu-pinned') : undefined;
  return [...wanted].filter(([name]) => !(name in plan.constants)).map(([name, tensor]) => {
    // A plan's outputs stand in the model's order; what the engine calls them is the compiler's business.
    const held = plan.facts.outputs[names.indexOf(name)];
    const ref = cutTo(plan, name, held, n);
    const into = fitting(ref, tensor);
    const where = into ? '' : tensor?.location === 'gpu-buffer' ? placeOf(ref, held) : location(name);
    return { name, held, ref, into, input: into ? undefined : kept?.get(name), pinned: where === 'cpu-pinned', onGpu: where === 'gpu-buffer' };
  });
}

/**
 * Where an output comes that goes into a buffer: parts of buffers are copied in words of four bytes, so that others come to the
 * processor. @param {ValueRef} ref @param {ValueRef} held
 */
const placeOf = (ref, held) => (ref !== held && TYPES[ref.type].bits < 32 ? 'cpu' : 'gpu-buffer');

/** @param {Output[]} outputs @param {boolean} onGpu @param {boolean} steady @returns {{stay: boolean[], pin?: boolean[]}} */
function ways(outputs, onGpu, steady) {
  if (onGpu) return { stay: outputs.map((each) => each.onGpu), pin: outputs.map(({ pinned }) => pinned) };
  return { stay: steady ? outputs.map(({ pinned, input }) => pinned || input !== undefined) : [] };
}

/**
 * What the engine takes: in the plan's order, bytes, buffers of the GPU where the plan runs there, or parts of either.
 * @param {Prepared} plan @param {Map<string, Feed>} feeds @param {boolean} [onGpu]
 * @param {Map<string, Uint8Array>} [there] feeds that lie in their places
 */
export function toFeeds(plan, feeds, onGpu = false, there = new Map()) {
  const n = numbersOf(plan, feeds);
  const lengths = new Map(plan.room?.lengths.map(({ name }, i) => [name, n[i]]));
  return (plan.facts?.inputs ?? []).map((ref) => {
    const length = lengths.get(ref.name);
    return length === undefined ? (there.get(ref.name) ?? toFeed(ref, feeds.get(ref.name), onGpu)) : BigInt64Array.of(BigInt(length));
  });
}

/** Which of the lengths that a plan has room for these feeds are; none where it has none. @param {Prepared} plan @param {Map<string, Feed>} feeds */
function numbersOf({ room, request, key }, feeds) {
  if (!room) return [];
  const n = numbersIn(room, request.shapes, requestOf(feeds).shapes);
  if (n === null) throw failure('BAD_PLAN', `Plan "${key}" has no room for these feeds`, { plan: key });
  return n;
}

/** An output as a run of length n gives it. @param {Prepared} plan @param {string} name @param {ValueRef} ref @param {number[]} n @returns {ValueRef} */
function cutTo({ room }, name, ref, n) {
  if (ref.host || !room?.outputs[name]?.length) return ref;
  return { ...ref, dims: outputDims(room, name, ref.dims, n) };
}

/** Where a tensor lies in the plan's own. @param {ValueRef} ref @param {ValueRef} held of the same type */
const windowBetween = (ref, held) => (ref.host || held.host ? null : windowOf(ref.dims, held.dims, TYPES[ref.type].bits / 8));

/** @param {ValueRef} ref @param {Feed | undefined} feed @param {boolean} onGpu @returns {any} */
function toFeed(ref, feed, onGpu) {
  const window = !ref.host && feed instanceof Tensor ? windowBetween({ ...ref, dims: [...feed.dims] }, ref) : null;
  if (onGpu && feed instanceof Tensor && feed.location === 'gpu-buffer') {
    if (goneWith(feed)) throw failure('DEVICE_LOST', `Input '${ref.name}' was fed a tensor that lay on a GPU device which was lost`, { input: ref.name, hint: 'make it anew, or feed one from the processor' });
    return { gpuBuffer: feed.gpuBuffer, window };
  }
  if (feed === undefined) throw failure('FEED', `No feed for input '${ref.name}'`, { reason: 'missing', input: ref.name });
  // on the GPU the host's turn comes after the call has returned
  if (ref.host || !(feed instanceof Tensor)) return toValue(onGpu ? copyOf(feed) : feed);
  return window ? { bytes: bytesOf(feed), window } : bytesOf(feed);
}

/** The tensor to fill if the output goes into it as it is. @param {ValueRef} ref @param {Tensor | null | undefined} tensor */
const fitting = (ref, tensor) =>
  tensor && tensor.location !== 'gpu-buffer' && !ref.host && tensor.type === ref.type && String(tensor.dims) === String(ref.dims) ? tensor : null;

/**
 * @param {ValueRef} ref @param {any} output bytes, a host value, a buffer of the GPU or a view of one
 * @param {Lease} lease of bytes in the session's memory or on view @param {object} client of the engine
 * @returns {Feed}
 */
function fromOutput(ref, output, lease, client) {
  const onGpu = /** @type {{gpuBuffer?: GPUBuffer}} */ (output)?.gpuBuffer;
  if (onGpu) return staying(onGpu, ref.type, /** @type {any} */ (ref).dims, /** @type {import('../engine/webgpu/client.js').GpuClient} */ (client).gpu);
  const view = /** @type {{pinned?: Uint8Array}} */ (output)?.pinned;
  if (view) return Tensor.leased(ref.type, viewAs(ref.type, view), /** @type {any} */ (ref).dims, lease);
  if (ref.host || !ArrayBuffer.isView(output)) return fromValue(/** @type {import('./values.js').Value} */ (output));
  const data = viewAs(ref.type, output);
  const pinned = data.buffer === output.buffer && !(output.buffer instanceof ArrayBuffer);
  return pinned ? Tensor.leased(ref.type, data, /** @type {any} */ (ref).dims, lease) : new Tensor(ref.type, data, ref.dims);
}
