// The plans of one session. Takes feeds' shapes; gives the plan for them, made anew when shapes are new or a worker had died
// and restarted. Where they are: home.js; which of those that are there serves: shelf.js; how one is made: making.js; how
// one is run: execute.js.
import { abortable } from './compiler-client.js';
import { asFailure, failure } from './errors.js';
import { log } from './env.js';
import { execute } from './execute.js';
import { beforehand } from './held.js';
import { Home } from './home.js';
import { Keeping } from './keeping.js';
import { compile } from './making.js';
import { Shelf, factsOf, nodesOf } from './shelf.js';
import { keep } from './tensor.js';
import { fromValue, toValue } from './values.js';
import { getCompiler, getGpu } from './workers.js';

/**
 * @typedef {import('./options.js').Options} Options
 * @typedef {import('./options.js').Progress} Progress
 * @typedef {import('./sources.js').Source} Source
 * @typedef {import('./feeds.js').Feed} Feed
 * @typedef {import('./tensor.js').Tensor} Tensor
 * @typedef {import('../engine/types.js').Plan} Plan
 * @typedef {import('./shelf.js').Request} Request
 * @typedef {import('./shelf.js').PlacedNode} PlacedNode
 * @typedef {import('./shelf.js').Prepared} Prepared
 * @typedef {{ready: boolean, work: Promise<() => Promise<void>>}} Staged work: resolves with what loads it
 */

export class Plans {
  #home;
  #shelf = new Shelf();
  /** What is compiled beside runs, or has been and is not loaded. @type {Staged | null} */
  #staged = null;
  /** A plan is being compiled or loaded. */
  preparing = false;
  /** Plans made so far: a run that raised this was a cold one. */
  compiled = 0;
  /** Of outputs that lie where the last run left them. */
  #lease = { over: false };
  #keeping = new Keeping();
  /** Nobody but runs changes the session's memory: outputs may stay there. */
  #steady;

  /** @param {Source} model @param {Source[]} external @param {Options} options */
  constructor(model, external, options) {
    this.#home = new Home(model, external, options);
    this.options = options;
    this.#steady = options.tune.mode === 'off';
  }

  // ---- where they are ----

  get id() { return this.#home.id; }
  get known() { return this.#home.known; }
  get model() { return this.#home.model; }
  get external() { return this.#home.external; }
  get memory() { return this.#home.memory; }
  get description() { return this.#home.description; }
  get reason() { return this.#home.reason; }
  get sources() { return this.#home.sources; }
  get files() { return this.#home.files; }
  get state() { return this.#home.state; }

  /** @param {Progress} progress @param {AbortSignal | null} signal */
  open(progress, signal) {
    return this.#home.open(progress, signal);
  }

  /** @param {string} method @param {Record<string, unknown>} args  about this session, asked of the compiler */
  ask(method, args) {
    return this.#home.ask(method, args);
  }

  /** Resolves when the compiler knows the session: one that an earlier session gave its plan is told of late. */
  introduced() {
    return this.#home.introduced();
  }

  /** Whether the plan came from an earlier session: see Kept. */
  get kept() {
    return this.#home.kept.state;
  }

  /** Lets go of everything in both workers. @returns {Promise<number>} bytes the engine got back */
  close() {
    this.#shelf.clear();
    this.#staged = null;
    this.preparing = false;
    this.endLease();
    return this.#home.close();
  }

  // ---- which there are ----

  /** What changes the memory between runs begins, or has ended. @param {boolean} on */
  steady(on) {
    this.#steady = on;
    this.endLease();
  }

  /** The session's memory is about to change: outputs that lie there are gone, or copied out. */
  endLease() {
    this.#newLease();
    this.#keeping.leave();
  }

  #newLease() {
    this.#lease.over = true;
    return (this.#lease = { over: false });
  }

  /**
   * The plan for a request where nothing has to be done, or awaited, to run it.
   * @param {Request} given @returns {Prepared | undefined}
   */
  ready(given) {
    if (!this.id || this.#staged?.ready || !this.#home.client) return undefined;
    const known = this.#shelf.find({ ...given, exact: given.exact ?? this.#exact(given) });
    return known && this.#usable(known) ? known : undefined;
  }

  /** Whether a plan that is there can be run. @param {Prepared} known */
  #usable(known) {
    return !this.#home.kept.outdated && !(this.#home.stranded && needsCompiler(known));
  }

  /**
   * The plan for a request, compiled and loaded if need be.
   * @param {Request} given @param {Progress} progress @param {AbortSignal | null} signal
   * @returns {Promise<Prepared>}
   */
  async get(given, progress, signal) {
    const request = { ...given, exact: given.exact ?? this.#exact(given) };
    if (!this.id) await this.open(progress, signal); // an earlier attempt to open again had failed
    else if (await this.#home.changed()) await this.#reopen(progress, signal, request);
    const over = this.#home.stranded || this.#home.kept.outdated;
    if (this.#staged?.ready) await this.#settleFor(request);
    const usable = () => {
      const known = this.#shelf.find(request);
      return known && this.#usable(known) ? known : undefined;
    };
    let known = usable();
    if (!known && this.#staged) {
      await abortable(this.#staged.work.catch(() => undefined), signal);
      await this.#settleFor(request);
      known = usable();
    }
    if (known) return known;
    if (over) await this.#reopen(progress, signal, request);
    try {
      this.preparing = true;
      return await beforehand(() => this.#prepare(request, progress, signal));
    } catch (error) {
      if (this.#home.lost) throw this.#home.lost;
      if (await this.#home.lostDevice(error)) {
        await this.#reopen(progress, signal, request);
        return await this.#prepare(request, progress, signal);
      }
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
    const given = this.#home.kept.find(request);
    if (given) progress('compile', 1, 1);
    else {
      await abortable(this.#home.introduced(), signal);
      if (this.#home.kept.outdated) await this.#reopen(progress, signal, request);
    }
    const made = given ?? await this.#compile(request, progress, signal);
    const { prepared, plan, evicted } = made;
    this.#shelf.valueInputs = made.valueInputs;
    for (const key of evicted) await this.#drop(key);
    try {
      if (plan) prepared.load = await this.#load(plan, progress, signal);
    } catch (error) {
      if (given && !this.#home.lost && !AS_WELL.has(asFailure(error).code)) {
        log('warning', `${this.id}: a plan that an earlier session had left could not be loaded: ${asFailure(error).message}`);
        this.#home.kept.refuse();
        await this.#reopen(progress, signal, request);
        return this.#prepare(request, progress, signal);
      }
      if (!(await this.#otherwise(prepared.key, error))) throw error;
      return this.#prepare(request, progress, signal);
    }
    // Python computes with weights meanwhile, which would hold it up
    if (!prepared.facts || prepared.facts.host) await abortable(Promise.all(this.#home.sources.map(({ arrived }) => arrived)), signal);
    if (!plan && this.options.provider !== 'reference') log('warning', `${this.description.name} runs on the reference: ${prepared.reason}`);
    this.#shelf.put(request, prepared);
    this.compiled++;
    void (given ? this.#home.introducedSoon() : this.#home.keep(made));
    return prepared;
  }

  /** @param {Request} request @param {Progress} progress @param {AbortSignal | null} signal */
  async #compile(request, progress, signal) {
    await this.#home.introduced();
    if (this.#home.kept.outdated) throw this.#home.stale;
    const { id, files, loaded } = this;
    const made = await compile({ id, files, loaded, onGpu: this.options.provider === 'webgpu' }, request, progress, signal);
    this.#shelf.valueInputs = made.valueInputs;
    return made;
  }

  /**
   * Compiles a plan that a run may soon want, while runs go on; `settle` loads it.
   * @param {Request} request @returns {Promise<void>}
   */
  async stage(request) {
    if (this.#staged || this.preparing || !this.id || this.#home.stranded || this.#home.kept.outdated || this.options.maxPlans < 2 || this.#shelf.has(request)) return;
    const { id } = this;
    this.preparing = true;
    const silent = () => undefined;
    const work = beforehand(async () => {
      const { prepared, plan, evicted } = await this.#compile(request, silent, null);
      const { client } = await this.#home.runner();
      if (plan && 'stagePlan' in client) await client.stagePlan(id, plan).catch(() => undefined); // loading says what is wrong
      return async () => {
        if (this.id !== id) return;
        this.endLease();
        for (const key of evicted) await this.#drop(key); // here no run is about to use them
        if (!plan) return;
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

  /** What was made ahead waits to be loaded. */
  get waits() {
    return Boolean(this.#staged?.ready);
  }

  /** @param {Request} request whose feeds may lie where the plan is loaded */
  async #settleFor({ values }) {
    this.#holdFeeds(values);
    await this.settle();
  }

  /** Outputs may lie in the session's memory until its next call: nothing is loaded before. */
  get pins() {
    const { locations } = this.options;
    return this.#steady && Object.values(typeof locations === 'string' ? [locations] : locations).includes('cpu-pinned');
  }

  /** Whether a request must have a plan of its own shapes: parts of buffers are copied in words of four bytes. @param {Request} request */
  #exact({ values }) {
    if (this.options.provider !== 'webgpu') return false;
    const half = (/** @type {string} */ type) => type === 'float16';
    return [...values.values()].some((tensor) => tensor.location === 'gpu-buffer' && half(tensor.type))
      || this.description.outputs.some(({ name, type }) => half(type) && this.#location(name) === 'gpu-buffer');
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

  /** @param {Plan} plan @param {Progress} progress @param {AbortSignal | null} signal */
  async #load(plan, progress, signal) {
    const { client } = await this.#home.runner();
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
      if (facts) await (await this.#home.runner()).client.dropPlan(this.id, key);
    }
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

  /** Closes, and lets go of the model's bytes: nothing can be opened again. */
  async drop() {
    try {
      return await this.close();
    } finally {
      for (const source of this.#home.sources) source.drop();
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
    const client = this.#home.client ?? (await this.#home.runner()).client;
    return execute(client, { ...plan, facts }, feeds, wanted, {
      session: this.id,
      names: this.description.outputs.map(({ name }) => name),
      location: (name) => this.#location(name),
      onGpu: this.options.provider === 'webgpu',
      steady: this.#steady,
      keeping: this.#keeping,
      taken: () => this.#newLease(),
      signal,
    }).catch((error) => {
      const { code, fields } = asFailure(error);
      // the engine knows a step by the nodes that are left, not by those that were merged into them
      if (code === 'KERNEL_TRAP' && Number(fields.step) >= 0) fields.nodes = nodesOf(plan, Number(fields.step));
      throw error;
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
}

/** Feeds as plain values. @param {Map<string, Feed>} feeds */
export const toValues = (feeds) => Object.fromEntries([...feeds].map(([name, feed]) => [name, toValue(feed)]));

/** What a plan that is made anew fails of as well, or what is no matter of the plan. */
const AS_WELL = new Set(['ABORTED', 'ENGINE_DIED', 'OUT_OF_MEMORY', 'MODEL_TOO_LARGE', 'SESSION']);

/** @param {Prepared} plan */
const needsCompiler = (plan) => !plan.facts || plan.facts.host;

/**
 * @param {string} session as the workers know it, or as Python does @param {string} model its file
 */
export const released = (session, model) =>
  failure('SESSION', `The session of ${model} was released`, { session, model, hint: 'make another with InferenceSession.create' });
