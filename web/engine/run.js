// One inference: feeds go in, segments are carried out in order, outputs come out as copies. Where the caller has
// the memory, it does the first and the last itself. Also the same run taken apart, for profile().

import { NnjitError, check, throwIfAborted } from './errors.js';
import { mean, median } from './measure.js';
import { turn } from './turns.js';
import { asBytes, feedBytes, fetched } from './values.js';

/** @typedef {import('./session.js').Session} Session */
/** @typedef {import('./session.js').LoadedPlan} LoadedPlan */
/** @typedef {import('./types.d.ts').Feed} Feed */
/** @typedef {import('./types.d.ts').Step} Step */
/** @typedef {import('./types.d.ts').HostCall} HostCall */
/** @typedef {import('./types.d.ts').HostValue} HostValue */
/** @typedef {Map<string, HostValue>} Values */
/** @typedef {{host: import('./host.js').Host, signal: AbortSignal}} Context */

/**
 * @param {Session} session
 * @param {string} key
 * @param {Feed[]} feeds one an input of the plan
 * @param {string[] | undefined} fetch names of outputs; default all
 * @param {boolean} direct only host values are in `feeds`, and go into the outputs: the caller sees to the tensors
 * @param {Context} context
 * @returns {Promise<import('./types.d.ts').RawResult>}
 */
export async function run(session, key, feeds, fetch, direct, context) {
  const plan = session.plan(key);
  const start = performance.now();
  /** @type {Values} */
  const values = new Map();
  storeFeeds(session, plan, feeds, values, direct);
  const { survey } = plan;
  plan.survey = null;
  /** @type {import('./types.d.ts').StepMs[]} */
  const times = [];
  const segments = await runSegments(session, plan, values, context, survey
    ? (first, last) => stepByStep(session, plan, first, last, times)
    : (first, last) => session.runSteps(plan, first, last));
  survey?.(times);
  const outputs = fetched(plan.outputs, fetch).map((ref) => {
    if (ref.host) return lookUp([values, plan.values], ref.name);
    return direct ? null : session.memory.read(ref.address, ref.nbytes);
  });
  return { outputs, ms: performance.now() - start, segments };
}

/**
 * The same steps, each timed: what an inference costs where, at a few microseconds more a step.
 * @param {Session} session
 * @param {LoadedPlan} plan
 * @param {number} first
 * @param {number} last
 * @param {import('./types.d.ts').StepMs[]} times gets the slowest thread's time of each
 */
async function stepByStep(session, plan, first, last, times) {
  /** @type {Map<number, number>} */
  const found = new Map();
  for (const [step, call] of inOrder(plan.steps, first, last)) {
    found.set(step, (found.get(step) ?? 0) + Math.max(...await session.callStep(plan, call)));
  }
  for (const [step, ms] of found) times.push({ step, ms });
}

/**
 * Steps first .. last-1 as a run does them: those of a loop again and again, each turn with its own operands.
 * @param {Step[]} steps
 * @param {number} first
 * @param {number} last
 * @returns {Generator<[number, Step]>} the number of each, and what to call
 */
function* inOrder(steps, first, last) {
  for (let at = first, end; at < last; at = end) {
    const { loop = 0, times = 1 } = steps[at];
    end = at + 1;
    while (loop && end < last && steps[end].loop === loop) end++;
    for (let turn = 0; turn < times; turn++) {
      for (let number = at; number < end; number++) {
        const step = steps[number];
        yield [number, turn ? { ...step, args: step.args + turn * (step.advance ?? 0) } : step];
      }
    }
  }
}

/**
 * Times of each step by itself: medians and means over `repeats` runs, a thread. A step shorter than the clock's
 * grain has a median of 0 or one grain; its mean is still right over many runs.
 * @param {Session} session
 * @param {string} key
 * @param {Feed[]} feeds
 * @param {number} repeats
 * @param {Context} context
 * @returns {Promise<import('./types.d.ts').ProfileResult>}
 */
export async function profile(session, key, feeds, repeats, context) {
  check(repeats >= 1, 'BAD_FEED', 'A profile takes at least one run.');
  const plan = session.plan(key);
  /** @type {number[][][]} step, thread, run */
  const times = plan.steps.map(() => Array.from({ length: session.threads }, () => []));
  /** @type {number[][]} segment, run */
  const segmentTimes = plan.segments.map(() => []);
  const runs = [];
  for (let i = 0; i < repeats; i++) {
    const whole = await run(session, key, feeds, [], false, context);
    runs.push(whole.ms);
    whole.segments.forEach(({ ms }, s) => segmentTimes[s].push(ms));
    /** @type {Values} */
    const values = new Map();
    storeFeeds(session, plan, feeds, values, false);
    await runSegments(session, plan, values, context, async (first, last) => {
      /** @type {Map<number, number[]>} */
      const found = new Map();
      for (const [step, call] of inOrder(plan.steps, first, last)) {
        const ms = await session.callStep(plan, call);
        found.set(step, ms.map((time, thread) => time + (found.get(step)?.[thread] ?? 0)));
      }
      for (const [step, ms] of found) ms.forEach((time, thread) => times[step][thread].push(time));
    });
    await turn();
  }
  return {
    steps: times.flatMap((threads, step) => (threads[0].length
      ? [{ step, ms: threads.map(median), mean: threads.map(mean) }] : [])),
    segments: plan.segments.map(({ kind }, s) => ({ kind, ms: median(segmentTimes[s]) })),
    runMs: median(runs),
  };
}

/**
 * @param {Session} session
 * @param {LoadedPlan} plan
 * @param {Values} values made in this run so far; host segments add theirs
 * @param {Context} context
 * @param {(first: number, last: number) => Promise<unknown>} runSteps
 * @returns {Promise<import('./types.d.ts').SegmentTime[]>}
 */
async function runSegments(session, plan, values, context, runSteps) {
  const times = [];
  for (const segment of plan.segments) {
    throwIfAborted(context.signal);
    const start = performance.now();
    if (segment.kind === 'wasm') {
      await runSteps(segment.first, segment.last);
    } else {
      await callHost(session, plan, segment, values, context);
    }
    times.push({ kind: segment.kind, ms: performance.now() - start });
  }
  return times;
}

/**
 * @param {Session} session
 * @param {LoadedPlan} plan
 * @param {Feed[]} feeds
 * @param {Values} values gets the host values
 * @param {boolean} direct the tensors are in memory already
 */
function storeFeeds(session, plan, feeds, values, direct) {
  plan.inputs.forEach((ref, i) => {
    if (ref.host) values.set(ref.name, /** @type {HostValue} */ (feeds[i]));
  });
  if (direct) return;
  feedBytes(plan.inputs, feeds).forEach((bytes, i) => {
    const ref = plan.inputs[i];
    if (bytes && !ref.host) session.memory.write(ref.address, bytes);
  });
}

/**
 * @param {Values[]} scopes
 * @param {string} name
 * @returns {HostValue}
 */
function lookUp(scopes, name) {
  for (const values of scopes) {
    const value = values.get(name);
    if (value !== undefined) return value;
  }
  throw new NnjitError('BAD_PLAN', `No host value "${name}" was made before it is used.`, { name });
}

/**
 * Does one host call: inputs out of memory or from the values made so far, outputs to where they belong.
 * @param {Session} session
 * @param {LoadedPlan} plan
 * @param {HostCall} segment
 * @param {Values} values made so far; gets the outputs that have no address
 * @param {Context} context
 */
export async function callHost(session, plan, segment, values, { host, signal }) {
  const { call } = segment;
  /** @type {ArrayBuffer[]} */
  const owned = []; // copies out of memory move; a value may be needed again
  const inputs = segment.inputs.map((ref) => {
    const { name } = ref;
    if (ref.host) return { ...lookUp([values, plan.values], name), name };
    const data = session.memory.read(ref.address, ref.nbytes);
    owned.push(data.buffer);
    return { name, type: ref.type, dims: ref.dims, data };
  });
  const outputs = await host.call({ session: session.id, plan: plan.key, call, inputs }, owned, signal);
  storeOutputs(session, segment, outputs, values);
}

/**
 * What a host call gave: into memory where the plan has an address for it, kept as a value where not.
 * @param {Session} session
 * @param {HostCall} segment
 * @param {HostValue[]} outputs
 * @param {Values} values
 */
function storeOutputs(session, { call, outputs: refs }, outputs, values) {
  check(outputs.length === refs.length, 'HOST_CALL_FAILED',
    `"${call}" gave ${outputs.length} outputs instead of ${refs.length}.`, { call });
  refs.forEach((ref, i) => {
    if (ref.host) {
      values.set(ref.name, outputs[i]);
      return;
    }
    const bytes = asBytes(outputs[i]?.data);
    check(bytes !== null && bytes.byteLength === ref.nbytes, 'HOST_CALL_FAILED',
      `"${call}" gave ${bytes?.byteLength ?? 'no'} bytes for "${ref.name}" instead of ${ref.nbytes}.`,
      { call, name: ref.name });
    session.memory.write(ref.address, bytes);
  });
}
