// A plan comes into a session: memory grows, the module is compiled once and linked in every thread, then the
// init list is carried out. Fails whole: whatever goes wrong, the session's earlier plans are as they were.

import { NnjitError, asError, check, throwIfAborted } from './errors.js';
import { PAGE } from './memory.js';
import { callHost } from './run.js';
import { chunks, sizeOf } from './source.js';
import { countLong } from './steps.js';
import { turn } from './turns.js';

/** @typedef {import('./types.d.ts').Plan} Plan */
/** @typedef {import('./types.d.ts').InitItem} InitItem */
/** @typedef {import('./session.js').Session} Session */
/** @typedef {import('./session.js').LoadedPlan} LoadedPlan */
/** @typedef {import('./types.d.ts').Progress} Progress */
/** @typedef {{host: import('./host.js').Host, signal: AbortSignal, progress: Progress}} Context */

/** Longest stretch of work without a look at cancellation, in ms. */
const STRETCH = 16;

/** At least so many ms between two messages about bytes read. */
const TELL = 30;

/**
 * @param {Session} session
 * @param {Plan} plan
 * @param {import('./source.js').Bytes[]} sources files that 'range' items read
 * @param {Context} context
 * @returns {Promise<import('./types.d.ts').LoadResult & {no: number}>} no: the plan's, in mail
 */
export async function loadPlan(session, plan, sources, context) {
  checkPlan(session, plan, sources);
  const started = performance.now();
  context.progress('compile', 0, 1);
  session.memory.ensure(plan.pages);
  const ahead = session.staged.get(plan.key);
  const module = ahead && equal(ahead.bytes, plan.module) ? ahead.module : await compile(plan.module); // a key may come again with other code
  throwIfAborted(context.signal);
  const loaded = {
    no: session.planNumber(), key: plan.key, tableBase: plan.tableBase, slots: plan.slots,
    steps: plan.steps, segments: plan.segments, inputs: plan.inputs, outputs: plan.outputs, values: new Map(),
    long: countLong(plan.steps),
  };
  const { tableBase, slots } = plan;
  if (plan.callerMs) session.lend(loaded.no, plan.pages);
  try {
    await session.mail({ op: 'plan', session: session.no, plan: loaded.no, module, tableBase, slots });
    context.progress('compile', 1, 1);
    const compiled = performance.now();
    if (plan.rehearsal) await rehearse(session, loaded.no, plan.rehearsal, context.signal);
    await initialize(session, loaded, plan.init, sources, context);
    session.plans.set(plan.key, loaded);
    if (session.lent.has(loaded.no)) session.copy();
    return { compileMs: compiled - started, initMs: performance.now() - compiled, bytes: session.memory.bytes, no: loaded.no };
  } catch (cause) {
    await session.mail({ op: 'dropPlan', session: session.no, plan: loaded.no });
    throw asError(cause);
  }
}

/**
 * What would otherwise show as a fault far away from its cause.
 * @param {Session} session
 * @param {Plan} plan
 * @param {import('./source.js').Bytes[]} sources
 */
function checkPlan(session, plan, sources) {
  const { key } = plan;
  const bad = (/** @type {string} */ why) => {
    throw new NnjitError('BAD_PLAN', `Plan "${key}": ${why}.`, { plan: key });
  };
  if (plan.version !== 1) bad(`version ${plan.version} is not 1`);
  check(!session.plans.has(key), 'DUPLICATE_PLAN', `Session "${session.id}" has a plan "${key}" already.`,
    { plan: key });
  if (plan.threads !== session.shared) {
    bad(`it is compiled for ${plan.threads ? 'shared' : 'unshared'} memory, the session's is not`);
  }
  for (const other of session.plans.values()) {
    if (plan.tableBase < other.tableBase + other.slots && other.tableBase < plan.tableBase + plan.slots) {
      bad(`its table slots overlap those of "${other.key}"`);
    }
  }
  for (const { slot, name } of plan.steps) {
    if (slot < plan.tableBase || slot >= plan.tableBase + plan.slots) bad(`step "${name}" has slot ${slot}`);
  }
  for (const slot of plan.rehearsal?.slots ?? []) {
    if (slot < plan.tableBase || slot >= plan.tableBase + plan.slots) bad(`it rehearses slot ${slot}`);
  }
  for (const segment of plan.segments) {
    if (segment.kind === 'wasm' && !(0 <= segment.first && segment.last <= plan.steps.length)) {
      bad(`a segment reaches to step ${segment.last} of ${plan.steps.length}`);
    }
  }
  const bytes = plan.pages * PAGE;
  for (const ref of [...plan.inputs, ...plan.outputs]) {
    const inside = ref.host || (ref.address >= 0 && ref.address + ref.nbytes <= bytes);
    if (!inside) bad(`"${ref.name}" lies outside its memory`);
  }
  for (const item of plan.init) {
    if (item.kind !== 'range') continue;
    const { source, start, length } = item;
    const size = sources[source] && sizeOf(sources[source]);
    check(size !== undefined, 'SOURCE_READ', `The plan reads file ${source}; ${sources.length} were given.`,
      { source, start, length });
    check(start + length <= size, 'SOURCE_READ',
      `File ${source} ends at byte ${size}, the plan reads up to ${start + length}.`, { source, start, length, size },
      'The file is cut short or is not the one that the plan was made for.');
  }
}

/**
 * Has fast code made of the kernels that a run is long in, by one thread for all.
 * @param {Session} session
 * @param {number} plan its number
 * @param {import('./types.d.ts').Rehearsal} rehearsal
 * @param {AbortSignal} signal
 */
async function rehearse(session, plan, { slots, calls, mostMs }, signal) {
  let looked = performance.now();
  for (const slot of slots) {
    session.pool.replica.rehearse(session.no, plan, slot, calls, mostMs);
    if (performance.now() - looked < STRETCH) continue;
    await turn();
    throwIfAborted(signal);
    looked = performance.now();
  }
}

/** @param {Uint8Array} a @param {Uint8Array} b */
function equal(a, b) {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/**
 * @param {Uint8Array} bytes
 * @returns {Promise<WebAssembly.Module>}
 */
export async function compile(bytes) {
  try {
    return await WebAssembly.compile(/** @type {BufferSource} */ (bytes));
  } catch (cause) {
    throw asError(cause, 'COMPILE_FAILED');
  }
}

/**
 * @param {Session} session
 * @param {LoadedPlan} plan
 * @param {InitItem[]} items
 * @param {import('./source.js').Bytes[]} sources
 * @param {Context} context
 */
async function initialize(session, plan, items, sources, context) {
  const { signal, progress } = context;
  const { memory } = session;
  const total = items.reduce((sum, item) => sum + (item.kind === 'range' ? item.length : 0), 0);
  const steps = items.filter((item) => item.kind === 'step' || item.kind === 'host').length;
  let read = 0;
  let stepped = 0;
  let told = -Infinity;
  let looked = performance.now();
  for (const item of items) {
    throwIfAborted(signal);
    switch (item.kind) {
      case 'bytes':
        memory.write(item.address, item.data);
        break;
      case 'fill':
        memory.fill(item.address, item.length, item.value);
        break;
      case 'range':
        for await (const chunk of chunks(sources[item.source], item, signal)) {
          throwIfAborted(signal);
          memory.write(item.address + chunk.offset, chunk.bytes);
          read += chunk.bytes.byteLength;
          if (read === total || performance.now() - told > TELL) {
            progress('load', read, total);
            told = performance.now();
          }
        }
        break;
      case 'step':
        await session.callStep(plan, item);
        progress('init', ++stepped, steps);
        break;
      case 'host':
        await callHost(session, plan, item, plan.values, context);
        progress('init', ++stepped, steps);
        break;
    }
    if (performance.now() - looked > STRETCH) {
      await turn();
      looked = performance.now();
    }
  }
}
