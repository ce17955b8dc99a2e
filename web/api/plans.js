// What one session holds in the two workers: its model in the compiler, its memory and plans in the engine.
// Takes feeds' shapes; gives the plan for them, made anew when shapes are new or a worker had died and restarted.
import { abortable } from './compiler-client.js';
import { asFailure, failure } from './errors.js';
import { log } from './env.js';
import { engineDeath, getCompiler, getEngine, getGpu } from './workers.js';
import { recall } from './device-facts.js';
import { recallGpu } from './gpu-facts.js';
import { beforehand } from './held.js';
import { Tensor, keep } from './tensor.js';
import { viewAs } from './types.js';
import { bytesOf, fromValue, toValue } from './values.js';

/**
 * @typedef {import('./options.js').Options} Options
 * @typedef {import('./options.js').Progress} Progress
 * @typedef {import('./sources.js').Source} Source
 * @typedef {import('./sources.js').Bytes} Bytes
 * @typedef {import('./feeds.js').Feed} Feed
 * @typedef {import('../engine/types.js').Plan} Plan
 * @typedef {import('../engine/types.js').ValueRef} ValueRef
 * @typedef {{shapes: Record<string, number[]>, values: Map<string, Tensor>}} Request
 * @typedef {{node: string, op: string, backend: 'webgpu' | 'wasm' | 'reference' | 'folded' | 'none', kernel?: string, step?: number,
 *   once?: boolean, reason?: string}} PlacedNode
 * @typedef {Pick<Plan, 'inputs' | 'outputs' | 'steps' | 'segments' | 'stats' | 'threads'> & {host: boolean}} PlanFacts
 * @typedef {{key: string, backend: 'webgpu' | 'wasm' | 'reference', reason: string, constants: Record<string, import('./values.js').Value>, placement: PlacedNode[], facts: PlanFacts | null,
 *   seconds: Record<string, number>, load: {compileMs: number, initMs: number, bytes: number} | null, request: Request}} Prepared
 *   request: what it was asked for with, so that it can be asked for again
 * @typedef {{name: string, inputs: import('./feeds.js').Declared[], outputs: import('./feeds.js').Declared[],
 *   opset: Record<string, number>, nodes: number, parameterBytes: number, files: string[],
 *   static: Record<string, number[]> | null}} Description
 */

/** Feeds of at most this many bytes go along when a plan is made, in case their values decide shapes. */
const SMALL = 1024;
let made = 0;

export class Plans {
  id = '';
  /** @type {Map<string, Prepared>} plans by this page's key, least recently used first */
  #plans = new Map();
  /** @type {string[]} inputs whose values are part of the key */
  #valueInputs = [];
  #compilerGeneration = 0;
  #engineGeneration = 0;
  /** How the session's memory was made. */
  memory = { shared: false, threads: 1 };
  /** A plan is being compiled or loaded. */
  preparing = false;
  /** Plans made so far: a run that raised this was a cold one. */
  compiled = 0;
  /** @type {Description} */
  description = /** @type {any} */ (undefined);
  /** Why the first provider asked for does not run this session; '' if it does. */
  reason = '';
  /** Of outputs that lie where the last run left them. */
  #lease = { over: false };
  /** Nobody but runs changes the session's memory: outputs may stay there. */
  #steady;

  /** @param {Source} model @param {Source[]} external @param {Options} options */
  constructor(model, external, options) {
    this.model = model;
    this.external = external;
    this.options = options;
    this.#steady = options.tune.mode === 'off';
  }

  /** What changes the memory between runs begins, or has ended. @param {boolean} on */
  steady(on) {
    this.#steady = on;
    this.endLease();
  }

  /** The session's memory is about to change: outputs that lie there are gone. */
  endLease() {
    this.#lease.over = true;
    this.#lease = { over: false };
  }

  /** The model and its external files. */
  get sources() {
    return [this.model, ...this.external];
  }

  /** Every file a plan's ranges may point into: file 0 is the model, then the external files the compiler lists. */
  get files() {
    const named = new Map(this.external.map((source) => [source.name, source.bytes]));
    const rest = this.description.files.slice(1).map((name) => named.get(name) ?? new Blob());
    return [this.model.bytes, ...rest];
  }

  /**
   * Tells the compiler where the bytes are that it was given from memory, once they have been put away.
   * @param {string} session @param {(Bytes | null)[]} given of the model and of the external files
   */
  #settle(session, given) {
    const compiler = getCompiler();
    this.sources.forEach((source, file) => {
      void source.settled.then(() => {
        if (source.bytes === given[file] || !(source.bytes instanceof Blob)) return;
        given[file] = null;
        void compiler.rpc.call('settle', { session, file, blob: source.bytes }).catch(() => undefined); // released, or dead
      });
    });
  }

  /** Why a file that was on its way will not come. */
  get #lost() {
    return this.sources.find(({ lost }) => lost)?.lost;
  }

  /**
   * Puts the model into both workers under a fresh name; its weights may be on their way still. Throws with neither
   * holding anything.
   * @param {Progress} progress @param {AbortSignal | null} signal
   */
  open(progress, signal) {
    return beforehand(() => this.#open(progress, signal));
  }

  /** @param {Progress} progress @param {AbortSignal | null} signal */
  async #open(progress, signal) {
    const compiler = getCompiler();
    const gpu = await this.#gpu();
    const engine = this.options.provider === 'wasm' ? await getEngine() : undefined;
    const id = `session-${++made}`;
    const info = engine?.client.info;
    const threads = Math.min(this.options.threads || info?.threads || 1, info?.threads || 1);
    const relaxed = Boolean(info?.relaxed) && this.options.relaxed;
    const shared = Boolean(info?.sharedMemory); // also with one thread: feeds and outputs need no messages then
    this.memory = { shared, threads };
    const given = this.sources.map(({ bytes }) => bytes);
    try {
      if (engine) await recall(signal, progress);
      if (gpu && this.options.tune.mode !== 'off') await recallGpu(gpu.client);
      this.description = await compiler.call(
        'create',
        {
          session: id,
          model: this.model.bytes,
          name: this.model.name,
          external: this.external.map(({ name, bytes }) => ({ path: name, bytes })),
          options: {
            provider: this.options.provider,
            dims: this.options.dims,
            maxPlans: this.options.maxPlans,
            convolution: this.options.convolution,
            strict: this.options.strict,
            whole: this.options.whole ?? false,
            target: { simd: info?.simd ?? true, relaxed, threads, shared, dot: relaxed ? info?.dot : '' },
            gpu: gpu?.client.facts ?? null,
          },
        },
        { signal, onProgress: progress },
      );
      const maxPages = this.options.maxMemoryBytes && Math.ceil(this.options.maxMemoryBytes / 65536);
      const { runOn } = this.options;
      await engine?.client.createSession(id, { shared, threads, runOn, ...(maxPages ? { maxPages } : {}) });
      gpu?.client.createSession(id);
      if (this.options.tune.mode !== 'off') await compiler.call('tune.prefer', { session: id, json: '{}' });
    } catch (error) {
      void compiler.rpc.call('release', { session: id }).catch(() => undefined);
      throw this.#lost ?? error;
    }
    this.id = id;
    this.#settle(id, given);
    this.#plans.clear();
    this.#valueInputs = [];
    this.#compilerGeneration = compiler.generation;
    this.#engineGeneration = (gpu ?? engine)?.generation ?? 0;
  }

  /** The GPU, for a session on it. Where there is none the session goes on with the provider named next. */
  async #gpu() {
    if (this.options.provider !== 'webgpu') return undefined;
    try {
      return await getGpu();
    } catch (error) {
      const { code, message } = asFailure(error);
      if (code !== 'NO_GPU') throw error;
      this.options.provider = this.options.next;
      this.reason = message;
      log('warning', `${message}; using ${this.options.provider} (session.backend says which ran)`);
      return undefined;
    }
  }

  /** Who carries out this session's plans. @returns {Promise<import('./workers.js').Engine | import('./workers.js').Gpu>} */
  #runner() {
    return this.options.provider === 'webgpu' ? getGpu() : getEngine();
  }

  /**
   * The plan for a request, compiled and loaded if need be.
   * @param {Request} request @param {Progress} progress @param {AbortSignal | null} signal
   * @returns {Promise<Prepared>}
   */
  async get(request, progress, signal) {
    if (!this.id) await this.open(progress, signal); // an earlier attempt to open again had failed
    else if (await this.#engineChanged()) await this.#reopen(progress, signal, request);
    const known = this.#plans.get(this.#key(request));
    const stranded = getCompiler().generation !== this.#compilerGeneration;
    if (known && !(stranded && needsCompiler(known))) {
      this.#plans.delete(this.#key(request)); // to the end: used just now
      this.#plans.set(this.#key(request), known);
      return known;
    }
    if (stranded) await this.#reopen(progress, signal, request);
    try {
      this.preparing = true;
      return await beforehand(() => this.#prepare(request, progress, signal));
    } catch (error) {
      if (this.#lost) throw this.#lost;
      // What earlier shapes left behind may be what does not fit: once more, alone in a fresh memory.
      if (!this.#plans.size || !['OUT_OF_MEMORY', 'MODEL_TOO_LARGE'].includes(asFailure(error).code)) throw error;
      await this.#reopen(progress, signal, request);
      return await this.#prepare(request, progress, signal);
    } finally {
      this.preparing = false;
    }
  }

  /** @param {Request} request @param {Progress} progress @param {AbortSignal | null} signal @returns {Promise<Prepared>} */
  async #prepare({ shapes, values }, progress, signal) {
    this.#holdFeeds(values); // loading writes where they lie
    this.endLease();
    const small = [...values].filter(([, tensor]) => byteLength(tensor) <= SMALL);
    // What is in the engine, so that Python takes back a plan that never got there.
    const { loaded } = this;
    const answer = await getCompiler().call(
      'prepare',
      { session: this.id, shapes, values: Object.fromEntries(small.map(([name, tensor]) => [name, toValue(tensor)])), loaded },
      { signal, onProgress: await this.#ahead(progress) },
    );
    this.#valueInputs = answer.valueInputs;
    for (const key of answer.evicted) await this.#drop(key);
    const deciding = small.filter(([name]) => this.#valueInputs.includes(name));
    const request = { shapes, values: new Map(deciding.map(([name, t]) => [name, new Tensor(t.type, t.data.slice(), t.dims)])) };
    /** @type {Prepared} */
    const prepared = { ...answer, facts: answer.plan && factsOf(answer.plan), load: null, request };
    try {
      if (answer.plan) prepared.load = await this.#load(answer.plan, progress, signal);
    } catch (error) {
      if (!(await this.#otherwise(answer.key, error))) throw error;
      return this.#prepare({ shapes, values }, progress, signal);
    }
    // Python computes with weights meanwhile, which would hold it up
    if (!prepared.facts || prepared.facts.host) await abortable(Promise.all(this.sources.map(({ arrived }) => arrived)), signal);
    if (!answer.plan && this.options.provider !== 'reference') log('warning', `${this.description.name} runs on the reference: ${answer.reason}`);
    this.#plans.set(this.#key({ shapes, values }), prepared);
    this.compiled++;
    return prepared;
  }

  /**
   * Whether a plan whose shaders a driver refuses can be made otherwise.
   * @param {string} key @param {unknown} error why it could not be loaded @returns {Promise<boolean>}
   */
  async #otherwise(key, error) {
    const { code, message, fields } = asFailure(error);
    const kernels = code === 'SHADER' ? /** @type {number[]} */ (fields.kernels) : [];
    if (!kernels.length || !(await this.refuse(key, kernels))) return false;
    log('warning', `${message}; another kernel takes its place`);
    return true;
  }

  /**
   * Kernels that the GPU does not get right: the plan is let go, and those to come have others.
   * @param {string} key @param {number[]} kernels by their numbers in the plan @returns {Promise<boolean>} whether there are others
   */
  async refuse(key, kernels) {
    const loaded = this.loaded.includes(key);
    const fresh = await this.ask('refuse', { json: JSON.stringify({ key, kernels, loaded }) });
    this.endLease();
    await this.#drop(key);
    return fresh;
  }

  /**
   * Progress of a compilation. Shaders come with it as soon as they are written: the driver compiles them while Python
   * goes on.
   * @param {Progress} progress @returns {Promise<import('./rpc.js').Tell>}
   */
  async #ahead(progress) {
    if (this.options.provider !== 'webgpu') return progress;
    const { client } = await getGpu();
    return (stage, done, total, detail) => {
      if (stage === 'shader') client.expect(this.id, JSON.parse(String(detail)));
      else progress(stage, done, total);
    };
  }

  /** @param {Plan} plan @param {Progress} progress @param {AbortSignal | null} signal */
  async #load(plan, progress, signal) {
    const { client } = await this.#runner();
    progress('load', 0, 1);
    const answer = await client.loadPlan(this.id, /** @type {any} */ (plan), this.files, {
      onProgress: (stage, done, total) => stage === 'load' && progress(stage, done, total),
      ...(signal ? { signal } : {}),
    });
    progress('load', answer.bytes, answer.bytes);
    return answer;
  }

  /** @param {string} key */
  async #drop(key) {
    for (const [mine, plan] of this.#plans) {
      if (plan.key !== key) continue;
      this.#plans.delete(mine);
      if (plan.facts) await (await this.#runner()).client.dropPlan(this.id, key);
    }
  }

  async #engineChanged() {
    if (this.options.provider === 'reference') return false;
    if (this.options.provider === 'webgpu') {
      const gpu = await this.#gpu();
      return !gpu || gpu.generation !== this.#engineGeneration;
    }
    const engine = await getEngine();
    if (engine.death) throw engine.death;
    return engine.generation !== this.#engineGeneration;
  }

  /** Feeds that are outputs of the last run and lie in the session's memory get copies. @param {Request['values']} values */
  #holdFeeds(values) {
    for (const fed of values.values()) keep(fed, this.#lease);
  }

  /**
   * Whatever the workers hold under the old name is let go, and the model is put in anew.
   * @param {Progress} progress @param {AbortSignal | null} signal @param {Request} request  what it is opened for
   */
  async #reopen(progress, signal, { values }) {
    const compiler = getCompiler();
    if (compiler.death) throw compiler.death;
    this.#holdFeeds(values);
    log('info', `${this.id}: starting over with an empty memory`);
    await this.close();
    await this.open(progress, signal);
  }

  /**
   * The session has all memory to itself: other shapes' plans go, and this request's is made anew.
   * @param {Request} request @param {Progress} progress @param {AbortSignal | null} signal @returns {Promise<Prepared>}
   */
  async alone(request, progress, signal) {
    await this.#reopen(progress, signal, request);
    if (this.options.provider === 'webgpu') await (await getGpu()).client.reclaim();
    return this.get(request, progress, signal);
  }

  /** Lets go of everything in both workers. @returns {Promise<number>} bytes the engine got back */
  async close() {
    const id = this.id;
    this.id = '';
    this.#plans.clear();
    this.endLease();
    const compiler = getCompiler();
    if (id && !compiler.death && compiler.generation === this.#compilerGeneration) {
      await compiler.rpc.call('release', { session: id }).catch(() => undefined);
    }
    if (!id || this.options.provider === 'reference') return 0;
    const engine = await this.#runner().catch(() => null); // one that is gone, and cannot be had again, holds nothing
    if (!engine || engine.death || engine.generation !== this.#engineGeneration) return 0;
    const answer = await engine.client.releaseSession(id).catch(() => ({ freed: 0 }));
    return answer.freed;
  }

  /** Closes, and lets go of the model's bytes: nothing can be opened again. */
  async drop() {
    try {
      return await this.close();
    } finally {
      for (const source of this.sources) source.drop();
    }
  }

  /** Keys of the plans that the engine has. */
  get loaded() {
    return [...this.#plans.values()].map((plan) => plan.key);
  }

  /**
   * The engine has put another plan in the place of this one.
   * @param {string} key @param {Plan} plan @param {PlacedNode[]} placement @param {{compileMs: number, initMs: number, bytes: number}} load
   */
  replaced(key, plan, placement, load) {
    const held = [...this.#plans.values()].find((each) => each.key === key);
    if (held) Object.assign(held, { facts: factsOf(plan), placement, load });
  }

  /** The plan used last. @returns {Prepared | undefined} */
  get latest() {
    return [...this.#plans.values()].at(-1);
  }

  get state() {
    if (this.options.provider === 'wasm' && engineDeath()) return 'engine-died';
    return getCompiler().death ? 'compiler-died' : 'ready';
  }

  get count() {
    return this.#plans.size;
  }

  /** @param {Request} request */
  #key({ shapes, values }) {
    const parts = Object.entries(shapes).map(([name, dims]) => `${name}:${dims.join('x')}`);
    for (const name of this.#valueInputs) {
      const tensor = values.get(name);
      if (tensor) parts.push(`${name}=${Array.from(/** @type {ArrayLike<unknown>} */ (tensor.data)).join(',')}`);
    }
    return parts.sort().join(';');
  }

  /**
   * Runs a plan. The values come in the order of `wanted`: output names, with a tensor to fill or null. A tensor of
   * the wrong form is left alone and a new one returned.
   * @param {Prepared} plan @param {Map<string, Feed>} feeds @param {Map<string, Tensor | null>} wanted @param {AbortSignal | null} signal
   * @returns {Promise<{values: Feed[], ms: number, segments: {kind: string, ms: number}[], caller?: boolean}>} caller: on this thread
   */
  async execute(plan, feeds, wanted, signal) {
    const fetch = [...wanted.keys()];
    if (!plan.facts) return this.#executeReference(plan, feeds, fetch, signal);
    const { inputs, outputs, host } = plan.facts;
    const compiler = getCompiler();
    if (host && compiler.death) throw compiler.death;
    const { client } = await this.#runner();
    // A plan's outputs stand in the model's order; what the engine calls them is the compiler's business.
    const names = this.description.outputs.map((output) => output.name);
    const computed = fetch.filter((name) => !(name in plan.constants));
    const refs = computed.map((name) => outputs[names.indexOf(name)]);
    const given = refs.map((ref, i) => fitting(ref, wanted.get(computed[i])));
    const into = given.map((tensor) => tensor && bytesOf(tensor));
    const onGpu = this.options.provider === 'webgpu';
    const goes = (/** @type {string} */ where) => computed.map((name, i) => !given[i] && this.#location(name) === where);
    const pin = onGpu || this.#steady ? goes('cpu-pinned') : [];
    const ways = onGpu ? { stay: goes('gpu-buffer'), pin } : { stay: pin };
    const options = { fetch: refs.map((ref) => ref.name), into, ...ways, ...(signal ? { signal } : {}) };
    const running = client.run(this.id, plan.key, /** @type {any} */ (toFeeds(inputs, feeds, onGpu)), options);
    this.endLease(); // the feeds are taken
    const lease = this.#lease;
    const result = await running;
    const made = new Map(computed.map((name, i) => [name, given[i] ?? fromOutput(refs[i], result.outputs[i], lease)]));
    const values = fetch.map((name) => (name in plan.constants ? fromValue(plan.constants[name]) : (made.get(name) ?? null)));
    return { values, ms: result.ms, segments: result.segments, caller: Boolean('caller' in result && result.caller) };
  }

  /** Where an output goes that no tensor waits for. @param {string} name */
  #location(name) {
    const { locations } = this.options;
    return typeof locations === 'string' ? locations : (locations[name] ?? 'cpu');
  }

  /** @param {Prepared} plan @param {Map<string, Feed>} feeds @param {string[]} fetch @param {AbortSignal | null} signal */
  async #executeReference(plan, feeds, fetch, signal) {
    const start = performance.now();
    const answer = await getCompiler().call('reference', { session: this.id, plan: plan.key, feeds: toValues(feeds), fetch }, { signal });
    const ms = performance.now() - start;
    return { values: answer.map(fromValue), ms, segments: [{ kind: 'host', ms }] };
  }

  /** @param {string} method @param {Record<string, unknown>} args  about this session, asked of the compiler */
  async ask(method, args) {
    if (getCompiler().generation !== this.#compilerGeneration) {
      throw failure('COMPILER_DIED', 'The compiler was restarted and has not seen this session since', { hint: 'run it once more first' });
    }
    return getCompiler().call(method, { session: this.id, ...args });
  }
}

/** Feeds as plain values. @param {Map<string, Feed>} feeds */
export const toValues = (feeds) => Object.fromEntries([...feeds].map(([name, feed]) => [name, toValue(feed)]));

/** What decides a plan: shapes of tensors, and tensors whose values might. @param {Map<string, Feed>} feeds @returns {Request} */
export function requestOf(feeds) {
  const tensors = [...feeds].filter(/** @returns {entry is [string, Tensor]} */ (entry) => entry[1] instanceof Tensor);
  return { shapes: Object.fromEntries(tensors.map(([name, t]) => [name, [...t.dims]])), values: new Map(tensors) };
}

/**
 * What the engine takes: bytes in the plan's order, or buffers of the GPU where the plan runs there.
 * @param {ValueRef[]} refs @param {Map<string, Feed>} feeds @param {boolean} [onGpu]
 */
export const toFeeds = (refs, feeds, onGpu = false) => refs.map((ref) => toFeed(ref, feeds.get(ref.name), onGpu));

/** @param {ValueRef} ref @param {Feed | undefined} feed @param {boolean} onGpu @returns {any} */
function toFeed(ref, feed, onGpu) {
  if (onGpu && feed instanceof Tensor && feed.location === 'gpu-buffer') return { gpuBuffer: feed.gpuBuffer };
  if (feed === undefined) throw failure('FEED', `No feed for input '${ref.name}'`, { reason: 'missing', input: ref.name });
  return ref.host || !(feed instanceof Tensor) ? toValue(feed) : bytesOf(feed);
}

/** The tensor to fill if the output goes into it as it is. @param {ValueRef} ref @param {Tensor | null | undefined} tensor */
const fitting = (ref, tensor) =>
  tensor && !ref.host && tensor.type === ref.type && String(tensor.dims) === String(ref.dims) ? tensor : null;

/**
 * @param {ValueRef} ref @param {any} output bytes, a host value, a buffer of the GPU or a view of one
 * @param {import('./tensor.js').Lease} lease of bytes in the session's memory or on view
 * @returns {Feed}
 */
function fromOutput(ref, output, lease) {
  const onGpu = /** @type {{gpuBuffer?: GPUBuffer}} */ (output)?.gpuBuffer;
  if (onGpu) return Tensor.fromGpuBuffer(onGpu, { dims: /** @type {any} */ (ref).dims, dataType: ref.type, dispose: () => onGpu.destroy() });
  const view = /** @type {{pinned?: Uint8Array}} */ (output)?.pinned;
  if (view) return Tensor.leased(ref.type, viewAs(ref.type, view), /** @type {any} */ (ref).dims, lease);
  if (ref.host || !ArrayBuffer.isView(output)) return fromValue(/** @type {import('./values.js').Value} */ (output));
  const data = viewAs(ref.type, output);
  const pinned = data.buffer === output.buffer && !(output.buffer instanceof ArrayBuffer);
  return pinned ? Tensor.leased(ref.type, data, /** @type {any} */ (ref).dims, lease) : new Tensor(ref.type, data, ref.dims);
}

/** @param {Prepared} plan */
const needsCompiler = (plan) => !plan.facts || plan.facts.host;

/** Infinity for strings and what lies on the GPU, which have no bytes of their own here. @param {Tensor} tensor */
const byteLength = (tensor) => (tensor.type === 'string' || tensor.location === 'gpu-buffer' ? Infinity : bytesOf(tensor).byteLength);

/** What the page keeps of a plan: everything but the bytes. @param {Plan} plan @returns {PlanFacts} */
function factsOf({ inputs, outputs, steps, segments, stats, threads }) {
  return { inputs, outputs, steps, segments, stats, threads, host: segments.some((s) => s.kind === 'host') };
}

/** @param {string} id */
export const released = (id) =>
  failure('SESSION', 'This session was released', { session: id, hint: 'make another with InferenceSession.create' });
