// InferenceSession as in onnxruntime-web: create from a URL or bytes, run feeds to outputs, release. Runs of one
// session queue; new input shapes get a plan of their own; what each node became can be asked for.
import { onGpu, remade } from './again.js';
import { Ahead } from './ahead.js';
import { Backends } from './backends.js';
import { asFailure, failure, nearestName, throwIfAborted } from './errors.js';
import { log } from './env.js';
import { isSharedBuffer } from '../engine/values.js';
import { READ, checkFeeds, checkShapes, copyFeeds } from './feeds.js';
import * as inspect from './inspect.js';
import { openModel } from './opening.js';
import { readOptions } from './options.js';
import { released, toValues } from './plans.js';
import { Proofs } from './proofs.js';
import { requestOf } from './shelf.js';
import { Tensor } from './tensor.js';
import { Tuning } from './tuning.js';
import { copyInto, fromValue, toValue } from './values.js';

/**
 * @typedef {import('./feeds.js').Feed} Feed
 * @typedef {import('./feeds.js').Declared} Declared
 * @typedef {import('./plans.js').Prepared} Prepared
 * @typedef {import('./sources.js').BytesLike} BytesLike
 * @typedef {{name: string, isTensor: boolean, kind: string, type: string, shape: readonly (number | string)[], optional: boolean}} Metadata
 * @typedef {{ms: number, engineMs: number, compileMs: number, cold: boolean, thread: 'caller' | 'worker', segments: {kind: string, ms: number}[]}} RunInfo
 */

export class InferenceSession {
  /** @type {import('./plans.js').Plans} */
  #plans;
  /** @type {Promise<unknown>} the last thing in this session's queue */
  #tail = Promise.resolve();
  /** How many are in it. */
  #queued = 0;
  #released = false;
  /** From the call of release() on, when nothing new is taken. */
  #leaving = false;
  #proofs;
  #ahead;
  /** @type {RunInfo | null} */
  lastRun = null;

  /** Use InferenceSession.create. @param {import('./plans.js').Plans} plans */
  constructor(plans) {
    this.#plans = plans;
    const { inputs, outputs } = plans.description;
    const required = inputs.filter((input) => !input.optional);
    /** @type {readonly string[]} */
    this.inputNames = Object.freeze(required.map((input) => input.name));
    /** @type {readonly string[]} */
    this.outputNames = Object.freeze(outputs.map((output) => output.name));
    /** @type {readonly Metadata[]} */
    this.inputMetadata = Object.freeze(required.map(metadata));
    /** @type {readonly Metadata[]} */
    this.outputMetadata = Object.freeze(outputs.map(metadata));
    this.tuning = new Tuning(plans, (work) => this.#queue(work), plans.options.tune);
    this.#proofs = new Proofs(plans, () => this.#around);
    this.#ahead = new Ahead(plans, (work) => this.#queue(work));
  }

  /**
   * @param {BytesLike} model  a URL, bytes, Blob or File; or, as in onnxruntime-web, an ArrayBuffer with offset and length
   * @param {...any} rest  options, or (byteOffset, byteLength?, options?)
   * @returns {Promise<InferenceSession>}
   */
  static async create(model, ...rest) {
    let from = model;
    let given = rest[0];
    if (typeof rest[0] === 'number' && (model instanceof ArrayBuffer || isSharedBuffer(model))) {
      const length = typeof rest[1] === 'number' ? rest[1] : model.byteLength - rest[0];
      from = new Uint8Array(model, rest[0], length);
      given = typeof rest[1] === 'number' ? rest[2] : rest[1];
    }
    const options = readOptions(given);
    throwIfAborted(options.signal, 'Creating the session');
    const plans = await openModel(from, options);
    try {
      const session = new InferenceSession(plans);
      checkLocations(options.locations, session.outputNames);
      if (plans.description.static) await session.prepare(plans.description.static, options);
      return session;
    } catch (error) {
      await plans.drop();
      throw asFailure(error);
    }
  }

  /**
   * Compiles for input shapes before the first run: `prepare({ids: [1, 128]})`. An input whose values decide
   * shapes is given as a Tensor instead of dims.
   * @param {Record<string, readonly number[] | Tensor>} shapes
   * @param {{progress?: import('./options.js').Progress, signal?: AbortSignal | null}} [options]
   * @returns {Promise<void>}
   */
  async prepare(shapes, { progress = () => undefined, signal = null } = {}) {
    /** @type {import('./plans.js').Request} */
    const request = { shapes: {}, values: new Map() };
    for (const [name, { dims, tensor }] of checkShapes(this.#plans.description.inputs, shapes, 'prepare')) {
      if (tensor) request.values.set(name, tensor);
      request.shapes[name] = dims;
    }
    await this.#take(() => this.#plans.get(request, progress, signal));
    if (!this.#backends?.undecided) this.tuning.touched();
  }

  /**
   * Shapes near these that the model's graph takes, for inputs that are made up: tables of positions and fixed reshapes
   * bound what its declarations leave open. Sizes that are equal move together; those of 1 stay.
   * @param {Record<string, readonly number[]>} shapes of every input
   * @param {Record<string, number | null>} [made]  by input of integers, the highest that it will hold; null: it counts along
   *   its last axis
   * @returns {Promise<{shapes: Record<string, number[]>, highest: Record<string, number>, reason: string}>}  those given where
   *   none were found; highest: by input whose elements are rows of a table, the last row; reason: why shapes differ, or ''
   */
  async suggest(shapes, made = {}) {
    const asked = checkShapes(this.#plans.description.inputs, shapes, 'suggest');
    const dims = Object.fromEntries([...asked].map(([name, found]) => [name, found.dims]));
    if (typeof made !== 'object' || made === null) throw failure('BAD_ARGUMENT', 'suggest() takes the highest value of each input by its name', { hint: 'session.suggest({ ids: [1, 128] }, { ids: 999 })' });
    const wrong = Object.entries(made).find(([, most]) => most !== null && !Number.isInteger(most));
    if (wrong) throw failure('BAD_ARGUMENT', `made.${wrong[0]} is a whole number, or null for an input that counts, not ${String(wrong[1])}`);
    return this.#take(() => this.#plans.ask('suggest', { shapes: dims, made }));
  }

  /**
   * @param {Record<string, Tensor | Feed>} feeds  a tensor for every input name
   * @param {readonly string[] | Record<string, Tensor | null> | RunOptions} [fetches]  names wanted, or tensors to fill; all if left out
   * @param {RunOptions} [options]
   * @returns {Promise<Record<string, any>>}  tensors by output name (a sequence is an array of tensors, an absent optional null)
   *
   * @typedef {{signal?: AbortSignal, progress?: import('./options.js').Progress, logSeverityLevel?: number, tag?: string, extra?: unknown}} RunOptions
   */
  async run(feeds, fetches, options) {
    if (this.#leaving) throw this.#gone;
    const [wanted, { signal = null, progress = () => undefined }] = this.#readFetches(fetches, options);
    const checked = checkFeeds(this.#plans.description.inputs, feeds);
    if (this.#backends?.undecided && [...checked.values()].some(onGpu)) {
      copyFeeds(checked);
      await this.#backends.move(this.#around);
    }
    const running = this.#proofs.during(() => this.tuning.during(() => this.#queue(() => this.#run(checked, wanted, progress, signal))));
    try {
      if (!READ.has(checked)) copyFeeds(checked); // it has to wait
    } catch (error) {
      running.catch(() => undefined); // it ends for the same reason, or nobody wants it
      throw asFailure(error);
    }
    return running;
  }

  get #gone() {
    return released(this.#plans.known, this.#plans.model.name);
  }

  /** Where it is not settled yet which backend serves. */
  get #backends() {
    const plans = /** @type {unknown} */ (this.#plans);
    return plans instanceof Backends ? plans : null;
  }

  /** @returns {import('./backends.js').Around} */
  get #around() {
    return {
      queue: (work) => this.#queue(work),
      leave: async () => {
        const { running } = this.tuning.status();
        await this.tuning.pause();
        return () => {
          if (running) void this.tuning.start().catch((error) => log('warning', error.message));
        };
      },
    };
  }

  /**
   * @param {Map<string, Feed>} feeds @param {Map<string, Tensor | null>} wanted
   * @param {import('./options.js').Progress} progress @param {AbortSignal | null} signal
   */
  async #run(feeds, wanted, progress, signal) {
    throwIfAborted(signal, 'The run');
    const start = performance.now();
    const before = this.#plans.compiled;
    const known = this.#plans.ready(requestOf(feeds));
    if (!known) await null; // for the copies that run() makes
    const request = requestOf(feeds);
    let plan = known ?? (await this.#plans.get(request, progress, signal));
    let ready = performance.now();
    if (!this.#backends?.undecided) this.#ahead.begins(plan);
    const names = [...wanted.keys()];
    const again = async (/** @type {unknown} */ error) => {
      plan = await remade(this.#plans, error, plan, feeds, request, progress, signal);
      ready = performance.now();
      return this.#plans.execute(plan, feeds, wanted, signal);
    };
    const { values, ms, segments, caller } = await this.#plans.execute(plan, feeds, wanted, signal).catch(again);
    const end = performance.now();
    const cold = this.#plans.compiled !== before;
    this.#backends?.ran(cold ? 0 : end - start, this.#around);
    if (!this.#backends?.undecided) this.#ahead.ran(plan, request, end - ready);
    if (!this.#backends?.undecided) this.tuning.touched(end - start);
    this.lastRun = { ms: end - start, engineMs: ms, compileMs: ready - start, cold, thread: caller ? 'caller' : 'worker', segments };
    /** @type {Record<string, any>} */
    const outputs = {};
    try {
      for (const [i, name] of names.entries()) {
        const into = wanted.get(name);
        outputs[name] = into && into !== values[i] ? await copyInto(into, values[i], name) : values[i];
      }
    } catch (error) {
      for (const value of values) if (onGpu(value) && ![...wanted.values()].includes(/** @type {Tensor} */ (value))) /** @type {Tensor} */ (value).dispose(); // nobody gets them
      throw error;
    }
    return outputs;
  }

  /**
   * One thing at a time, in the order asked for: plans and memory are never seen half changed.
   * @template T
   * @param {() => Promise<T>} work @returns {Promise<T>}
   */
  #queue(work) {
    const start = async () => {
      if (this.#released) throw this.#gone;
      return work();
    };
    const turn = this.#queued++ ? this.#tail.then(start) : start(); // at once: feeds are read before run() returns
    const ended = () => { this.#queued--; };
    this.#tail = turn.then(ended, ended);
    return turn.catch((error) => {
      throw asFailure(error);
    });
  }

  /** What the caller asks for; refused from the call of release() on. @template T @param {() => Promise<T>} work @returns {Promise<T>} */
  async #take(work) {
    if (this.#leaving) throw this.#gone;
    return this.#queue(work);
  }

  /**
   * @param {any} fetches @param {any} options
   * @returns {[Map<string, Tensor | null>, {signal?: AbortSignal | null, progress?: import('./options.js').Progress}]}
   */
  #readFetches(fetches, options) {
    const all = () => new Map(this.outputNames.map((name) => [name, null]));
    if (fetches === undefined || fetches === null) return [all(), options ?? {}];
    if (Array.isArray(fetches)) return [this.#checkFetches(new Map(fetches.map((name) => [name, null]))), options ?? {}];
    if (typeof fetches !== 'object') throw failure('FETCH', 'fetches is a list of output names or an object by output name');
    // As in onnxruntime: an object that names an output holds tensors to fill, any other is the options.
    const names = Object.keys(fetches);
    const isMap = names.some((name) => this.outputNames.includes(name) && (fetches[name] === null || fetches[name] instanceof Tensor));
    return isMap ? [this.#checkFetches(new Map(Object.entries(fetches))), options ?? {}] : [all(), fetches];
  }

  /** @param {Map<string, Tensor | null>} wanted */
  #checkFetches(wanted) {
    if (!wanted.size) throw failure('FETCH', 'fetches names no output', { hint: `outputs: ${this.outputNames.join(', ')}` });
    for (const name of wanted.keys()) {
      if (this.outputNames.includes(name)) continue;
      const near = nearestName(String(name), this.outputNames);
      throw failure('FETCH', `The model has no output '${String(name)}'`, {
        output: name,
        hint: near ? `did you mean '${near}'?` : `outputs: ${this.outputNames.join(', ')}`,
      });
    }
    return wanted;
  }

  /**
   * Gives the memory back, after what is already queued; of that, what waits for bytes of the model that have not come ends
   * with `SESSION`. A second call does nothing.
   * @returns {Promise<void>}
   */
  async release() {
    if (this.#released) return;
    this.#leaving = true;
    for (const source of this.#plans.sources) source.giveUp(this.#gone);
    await this.#proofs.stop();
    await this.tuning.pause();
    await this.#queue(async () => {
      this.#released = true;
      await this.#plans.drop();
    }).catch((error) => {
      if (error.code !== 'SESSION') throw error;
    });
  }

  /** Why it runs on `backend`: what was measured where it may run on two, or why not on the first that was asked for; '' if there is nothing to say. */
  get backendReason() {
    return this.#plans.latest?.reason || this.#plans.reason;
  }

  /** 'webgpu', 'wasm', or 'reference' where the model runs on onnx.reference (see `placement()` for why). */
  get backend() {
    return this.#plans.latest?.backend ?? this.#plans.options.provider;
  }

  /** Facts about the model: name, nodes, parameterBytes, opset. */
  get model() {
    const { name, nodes, parameterBytes, opset, files } = this.#plans.description;
    return { name, nodes, parameterBytes, opset, files };
  }

  /** 'ready', 'released', or which worker died under it: then nnjit.restart() helps. */
  get state() {
    return this.#released ? 'released' : this.#plans.state;
  }

  /**
   * Where each node of the model ran, for the shapes used last: kernel and step, the reference, folded into a
   * constant, or nothing at all (a view). Empty before the first plan.
   * @returns {import('./plans.js').PlacedNode[]}
   */
  placement() {
    return this.#plans.latest?.placement ?? [];
  }

  /** Timings and counts of the latest plan: seconds to bind and compile, bytes loaded, plans held. */
  stats() {
    const plan = this.#plans.latest;
    return { plans: this.#plans.count, key: plan?.key, seconds: plan?.seconds, load: plan?.load, compile: plan?.facts?.stats, room: plan?.room ?? null, noRoom: plan?.noRoom ?? '', kept: this.#plans.kept, lastRun: this.lastRun, proof: this.#proofs.status };
  }

  /**
   * Times each step. Without feeds, inputs are generated for the latest plan's shapes.
   * @param {{feeds?: Record<string, Tensor | Feed>, repeats?: number, format?: 'table' | 'chrome', signal?: AbortSignal | null}} [options]
   */
  async profile({ feeds, repeats = 10, format = 'table', signal = null } = {}) {
    if (!Number.isInteger(repeats) || repeats < 1) {
      throw failure('BAD_ARGUMENT', `profile() runs a whole number of times, not ${String(repeats)}`, { hint: 'profile({ repeats: 10 })' });
    }
    const checked = feeds && checkFeeds(this.#plans.description.inputs, feeds);
    if (checked) copyFeeds(checked);
    return this.#proofs.during(() => this.#take(() => inspect.profile(this.#plans, { feeds: checked, repeats, format, signal })));
  }

  /**
   * One step of the latest plan: its nodes, spec, schedule, loop nest and the listing of what was emitted.
   * @param {number} step  index as in placement() and profile()
   * @returns {Promise<Record<string, any>>}
   */
  async kernel(step) {
    return this.#take(() => inspect.kernel(this.#plans, step));
  }

  /**
   * Runs the feeds here and on onnx.reference and compares: the largest absolute and relative error of each output.
   * @param {Record<string, Tensor | Feed>} feeds @param {{signal?: AbortSignal | null}} [options]
   */
  async check(feeds, { signal = null } = {}) {
    const checked = checkFeeds(this.#plans.description.inputs, feeds);
    copyFeeds(checked);
    return this.#take(async () => {
      const silent = () => undefined;
      const request = requestOf(checked);
      const plan = await this.#plans.get(request, silent, signal);
      const given = toValues(checked); // the run may write where they lie
      const execute = (/** @type {Prepared} */ made) => this.#plans.execute(made, checked, new Map(this.outputNames.map((name) => [name, null])), signal);
      const { values } = await execute(plan)
        .catch(async (error) => execute(await remade(this.#plans, error, plan, checked, request, silent, signal)));
      const outputs = Object.fromEntries(values.map((value, i) => [this.outputNames[i], toValue(value)]));
      return this.#plans.ask('check', { feeds: given, outputs });
    });
  }
}

/** @param {import('./options.js').Options['locations']} locations @param {readonly string[]} names */
function checkLocations(locations, names) {
  const unknown = typeof locations === 'string' ? undefined : Object.keys(locations).find((name) => !names.includes(name));
  if (unknown === undefined) return;
  const near = nearestName(unknown, [...names]);
  throw failure('BAD_OPTION', `preferredOutputLocation names '${unknown}', which the model has no output of`, {
    option: 'preferredOutputLocation',
    hint: near ? `did you mean '${near}'?` : `outputs: ${names.join(', ')}`,
  });
}

/** @param {Declared} declared @returns {Metadata} */
const metadata = ({ name, kind, type, dims, optional }) =>
  Object.freeze({ name, isTensor: kind === 'tensor', kind, type, shape: Object.freeze((dims ?? []).map((d) => d ?? '?')), optional });
