// What one session holds in the two workers: its model in the compiler, its memory and plans in the engine.
// Takes feeds' shapes; gives the plan for them, made anew when shapes are new or a worker had died and restarted. How a
// plan is run: execute.js; which of those that are there serves: shelf.js.
import { abortable } from './compiler-client.js';
import { asFailure, failure } from './errors.js';
import { log } from './env.js';
import { execute } from './execute.js';
import { engineDeath, getCompiler, getEngine, getGpu } from './workers.js';
import { recall } from './device-facts.js';
import { recallGpu } from './gpu-facts.js';
import { beforehand } from './held.js';
import { Shelf, factsOf } from './shelf.js';
import { Tensor, keep } from './tensor.js';
import { bytesOf, fromValue, toValue } from './values.js';

/**
 * @typedef {import('./options.js').Options} Options
 * @typedef {import('./options.js').Progress} Progress
 * @typedef {import('./sources.js').Source} Source
 * @typedef {import('./sources.js').Bytes} Bytes
 * @typedef {import('./feeds.js').Feed} Feed
 * @typedef {import('../engine/types.js').Plan} Plan
 * @typedef {import('./shelf.js').Request} Request
 * @typedef {import('./shelf.js').PlacedNode} PlacedNode
 * @typedef {import('./shelf.js').Prepared} Prepared
 * @typedef {{ready: boolean, work: Promise<() => Promise<void>>}} Staged work: resolves with what loads it
 * @typedef {{name: string, inputs: import('./feeds.js').Declared[], outputs: import('./feeds.js').Declared[],
 *   opset: Record<string, number>, nodes: number, parameterBytes: number, files: string[],
 *   static: Record<string, number[]> | null}} Description
 */

/** Feeds of at most this many bytes go along when a plan is made, in case their values decide shapes. */
const SMALL = 1024;
let made = 0;

export class Plans {
  id = '';
  #shelf = new Shelf();
  /** What is compiled beside runs, or has been and is not loaded. @type {Staged | null} */
  #staged = null;
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
            room: this.options.room,
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
    this.#shelf.clear();
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
   * @param {Request} given @param {Progress} progress @param {AbortSignal | null} signal
   * @returns {Promise<Prepared>}
   */
  async get(given, progress, signal) {
    const request = { ...given, exact: given.exact ?? this.#exact(given) };
    if (!this.id) await this.open(progress, signal); // an earlier attempt to open again had failed
    else if (await this.#engineChanged()) await this.#reopen(progress, signal, request);
    const stranded = getCompiler().generation !== this.#compilerGeneration;
    if (this.#staged?.ready) await this.settle();
    const usable = () => {
      const known = this.#shelf.find(request);
      return known && !(stranded && needsCompiler(known)) ? known : undefined;
    };
    let known = usable();
    if (!known && this.#staged) {
      await this.settle();
      known = usable();
    }
    if (known) return known;
    if (stranded) await this.#reopen(progress, signal, request);
    try {
      this.preparing = true;
      return await beforehand(() => this.#prepare(request, progress, signal));
    } catch (error) {
      if (this.#lost) throw this.#lost;
      // What earlier shapes left behind may be what does not fit: once more, alone in a fresh memory.
      if (!this.#shelf.size || !['OUT_OF_MEMORY', 'MODEL_TOO_LARGE'].includes(asFailure(error).code)) throw error;
      await this.#reopen(progress, signal, request);
      return await this.#prepare(request, progress, signal);
    } finally {
      this.preparing = false;
    }
  }

  /** @param {Request} request @param {Progress} progress @param {AbortSignal | null} signal @returns {Promise<Prepared>} */
  async #prepare(request, progress, signal) {
    this.#holdFeeds(request.values); // loading writes where they lie
    this.endLease();
    const { prepared, plan, evicted } = await this.#compile(request, progress, signal);
    for (const key of evicted) await this.#drop(key);
    try {
      if (plan) prepared.load = await this.#load(plan, progress, signal);
    } catch (error) {
      if (!(await this.#otherwise(prepared.key, error))) throw error;
      return this.#prepare(request, progress, signal);
    }
    // Python computes with weights meanwhile, which would hold it up
    if (!prepared.facts || prepared.facts.host) await abortable(Promise.all(this.sources.map(({ arrived }) => arrived)), signal);
    if (!plan && this.options.provider !== 'reference') log('warning', `${this.description.name} runs on the reference: ${prepared.reason}`);
    this.#shelf.put(request, prepared);
    this.compiled++;
    return prepared;
  }

  /**
   * @param {Request} request @param {Progress} progress @param {AbortSignal | null} signal
   * @returns {Promise<{prepared: Prepared, plan: Plan | null, evicted: string[]}>} plan: to be loaded; evicted: given up for it
   */
  async #compile({ shapes, values, exact = false }, progress, signal) {
    const small = [...values].filter(([, tensor]) => byteLength(tensor) <= SMALL);
    const given = Object.fromEntries(small.map(([name, tensor]) => [name, toValue(tensor)]));
    // What is in the engine, so that Python takes back a plan that never got there.
    const { loaded } = this;
    const answer = await getCompiler().call(
      'prepare',
      { session: this.id, shapes, values: given, loaded, exact },
      { signal, onProgress: await this.#ahead(progress) },
    );
    this.#shelf.valueInputs = answer.valueInputs;
    const deciding = small.filter(([name]) => answer.valueInputs.includes(name));
    const request = { shapes, values: new Map(deciding.map(([name, t]) => [name, new Tensor(t.type, t.data.slice(), t.dims)])), exact };
    const { plan, evicted } = answer;
    return { plan, evicted, prepared: { room: null, ahead: null, ...answer, facts: plan && factsOf(plan), load: null, request } };
  }

  /**
   * Compiles a plan that a run may soon want, while runs go on; `settle` loads it.
   * @param {Request} request @returns {Promise<void>}
   */
  async stage(request) {
    if (this.#staged || this.preparing || !this.id || getCompiler().generation !== this.#compilerGeneration) return;
    const { id } = this;
    this.preparing = true;
    const silent = () => undefined;
    const work = beforehand(async () => {
      const { prepared, plan, evicted } = await this.#compile(request, silent, null);
      const { client } = await this.#runner();
      if (plan && 'stagePlan' in client) await client.stagePlan(id, plan);
      return async () => {
        if (!plan || this.id !== id) return;
        this.endLease();
        for (const key of evicted) await this.#drop(key); // here no run is about to use them
        prepared.load = await this.#load(plan, silent, null);
        this.#shelf.put(request, prepared, true);
        this.compiled++;
      };
    });
    /** @type {Staged} */
    const staged = this.#staged = { ready: false, work };
    await work.catch(() => undefined);
    staged.ready = true;
  }

  /** Between runs: loads what was staged. What fails is asked for again by the run that wants it. */
  async settle() {
    const staged = this.#staged;
    if (!staged) return;
    try {
      await (await staged.work)();
    } catch (error) {
      log('info', `${this.id}: no plan was made ahead: ${asFailure(error).message}`);
    } finally {
      if (this.#staged === staged) this.#staged = null;
      this.preparing = false;
    }
  }

  /** Outputs may lie in the session's memory until its next call: nothing is loaded before. */
  get pins() {
    const { locations } = this.options;
    return this.#steady && Object.values(typeof locations === 'string' ? [locations] : locations).includes('cpu-pinned');
  }

  /** Whether a request must have a plan of its own shapes: parts of buffers are copied in words of four bytes. @param {Request} request */
  #exact({ values }) {
    const half = (/** @type {string} */ type) => type === 'float16';
    return [...values.values()].some((tensor) => tensor.location === 'gpu-buffer' && half(tensor.type))
      || (this.options.provider === 'webgpu' && this.description.outputs.some(({ name, type }) => half(type) && this.#location(name) === 'gpu-buffer'));
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
    for (const { facts } of this.#shelf.take(key)) {
      if (facts) await (await this.#runner()).client.dropPlan(this.id, key);
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
    this.#shelf.clear();
    this.#staged = null;
    this.preparing = false;
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
    return this.#shelf.keys;
  }

  /**
   * The engine has put another plan in the place of this one.
   * @param {string} key @param {Plan} plan @param {PlacedNode[]} placement @param {{compileMs: number, initMs: number, bytes: number}} load
   */
  replaced(key, plan, placement, load) {
    const held = this.#shelf.get(key);
    if (held) Object.assign(held, { facts: factsOf(plan), placement, load });
  }

  /** The plan used last. @returns {Prepared | undefined} */
  get latest() {
    return this.#shelf.latest;
  }

  get state() {
    if (this.options.provider === 'wasm' && engineDeath()) return 'engine-died';
    return getCompiler().death ? 'compiler-died' : 'ready';
  }

  get count() {
    return this.#shelf.size;
  }

  /**
   * Runs a plan. The values come in the order of `wanted`: output names, with a tensor to fill or null. A tensor of
   * the wrong form is left alone and a new one returned.
   * @param {Prepared} plan @param {Map<string, Feed>} feeds @param {Map<string, Tensor | null>} wanted @param {AbortSignal | null} signal
   * @returns {Promise<import('./execute.js').Executed>}
   */
  async execute(plan, feeds, wanted, signal) {
    const { facts } = plan;
    if (!facts) return this.#executeReference(plan, feeds, [...wanted.keys()], signal);
    const compiler = getCompiler();
    if (facts.host && compiler.death) throw compiler.death;
    const { client } = await this.#runner();
    return execute(client, { ...plan, facts }, feeds, wanted, {
      session: this.id,
      names: this.description.outputs.map(({ name }) => name),
      location: (name) => this.#location(name),
      onGpu: this.options.provider === 'webgpu',
      steady: this.#steady,
      taken: () => {
        this.endLease();
        return this.#lease;
      },
      signal,
    });
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

/** @param {Prepared} plan */
const needsCompiler = (plan) => !plan.facts || plan.facts.host;

/** Infinity for strings and what lies on the GPU, which have no bytes of their own here. @param {Tensor} tensor */
const byteLength = (tensor) => (tensor.type === 'string' || tensor.location === 'gpu-buffer' ? Infinity : bytesOf(tensor).byteLength);

/** @param {string} id */
export const released = (id) =>
  failure('SESSION', 'This session was released', { session: id, hint: 'make another with InferenceSession.create' });
