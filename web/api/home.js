// Where a session lives: its model in the compiler, its memory in the engine or on the GPU, under one name. Takes the model's
// bytes and options; says when a worker had died, so that the session must be opened anew.
import { asFailure, failure } from './errors.js';
import { log } from './env.js';
import { engineDeath, engineNow, getCompiler, getEngine, getGpu, gpuNow } from './workers.js';
import { recall, storedFacts } from './device-facts.js';
import { recallGpu } from './gpu-facts.js';
import { beforehand } from './held.js';
import { Kept } from './kept.js';
import { keeps } from './kept-plans.js';

/**
 * @typedef {import('./options.js').Options} Options
 * @typedef {import('./options.js').Progress} Progress
 * @typedef {import('./sources.js').Source} Source
 * @typedef {import('./sources.js').Bytes} Bytes
 * @typedef {{name: string, inputs: import('./feeds.js').Declared[], outputs: import('./feeds.js').Declared[],
 *   opset: Record<string, number>, nodes: number, parameterBytes: number, files: string[],
 *   static: Record<string, number[]> | null}} Description
 */

let made = 0;

export class Home {
  /** Of the session in both workers; '' while it is in neither. */
  id = '';
  /** The name it has there, or had last. */
  known = '';
  #compilerGeneration = 0;
  #engineGeneration = 0;
  /** How the session's memory was made. */
  memory = { shared: false, threads: 1 };
  /** @type {Description} */
  description = /** @type {any} */ (undefined);
  /** Why the first provider asked for does not run this session; '' if it does. */
  reason = '';
  /** What earlier sessions left, and whether the compiler knows of this one. */
  kept = new Kept();

  /** @param {Source} model @param {Source[]} external @param {Options} options */
  constructor(model, external, options) {
    this.model = model;
    this.external = external;
    this.options = options;
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
  get lost() {
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
    const options = {
      provider: this.options.provider,
      dims: this.options.dims,
      maxPlans: this.options.maxPlans,
      convolution: this.options.convolution,
      mergeProducts: this.options.mergeProducts,
      matrixSums: this.options.matrixSums,
      strict: this.options.strict,
      room: this.options.room,
      whole: this.options.whole ?? false,
      target: { simd: info?.simd ?? true, relaxed, threads, shared, dot: relaxed ? info?.dot : '' },
      gpu: gpu?.client.facts ?? null,
    };
    const tell = async (/** @type {AbortSignal | null} */ until, /** @type {Progress} */ show) => {
      const given = this.sources.map(({ bytes }) => bytes);
      if (engine) await recall(until, show);
      if (gpu && this.options.tune.mode !== 'off') await recallGpu(gpu.client);
      const external = this.external.map(({ name, bytes }) => ({ path: name, bytes }));
      const args = { session: id, model: this.model.bytes, name: this.model.name, external, options };
      const description = await compiler.call('create', args, { signal: until, onProgress: show });
      this.#settle(id, given);
      return description;
    };
    const anew = this.kept.outdated;
    const kept = this.kept = new Kept();
    keeps(); // where none are to be kept, those that are there go
    try {
      if (engine && this.options.tune.mode === 'off') await kept.recall([options, await storedFacts()], this.sources, signal, anew);
      if (kept.description) kept.tell = (until) => tell(until, () => undefined);
      this.description = kept.description ?? await tell(signal, progress);
      if (kept.description) progress('parse', 1, 1);
      const maxPages = this.options.maxMemoryBytes && Math.ceil(this.options.maxMemoryBytes / 65536);
      const { runOn } = this.options;
      await engine?.client.createSession(id, { shared, threads, runOn, ...(maxPages ? { maxPages } : {}) });
      gpu?.client.createSession(id);
      if (this.options.tune.mode !== 'off') await compiler.call('tune.prefer', { session: id, json: '{}' });
    } catch (error) {
      void compiler.rpc.call('release', { session: id }).catch(() => undefined);
      throw this.lost ?? error;
    }
    this.id = this.known = id;
    this.#compilerGeneration = compiler.generation;
    this.#engineGeneration = (gpu ?? engine)?.generation ?? 0;
    void this.introducedSoon();
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
  runner() {
    return this.options.provider === 'webgpu' ? getGpu() : getEngine();
  }

  /** The same, where it can be told without waiting that it is the one the session was opened in. */
  get client() {
    const now = this.options.provider === 'webgpu' ? gpuNow() : engineNow();
    return this.options.provider !== 'reference' && now?.generation === this.#engineGeneration ? now.client : undefined;
  }

  /** The compiler was started anew, and has not seen this session. */
  get stranded() {
    return getCompiler().generation !== this.#compilerGeneration;
  }

  /** Whether the engine, or the device, is another one than the session was opened in. */
  async changed() {
    if (this.options.provider === 'reference') return false;
    if (this.options.provider === 'webgpu') {
      const gpu = await this.#gpu();
      return !gpu || gpu.generation !== this.#engineGeneration;
    }
    const engine = await getEngine();
    if (engine.death) throw engine.death;
    return engine.generation !== this.#engineGeneration;
  }

  /**
   * Whether something went wrong because the session's device was lost meanwhile. What was found in its place does not know
   * the session.
   * @param {unknown} error
   */
  async lostDevice(error) {
    const lost = this.options.provider === 'webgpu' && ['DEVICE_LOST', 'UNKNOWN_SESSION'].includes(asFailure(error).code);
    return lost && this.id && this.changed();
  }

  /** Lets go of everything in both workers. @returns {Promise<number>} bytes the engine got back */
  async close() {
    const id = this.id;
    this.id = '';
    const told = await this.kept.leave();
    const compiler = getCompiler();
    if (id && told && !compiler.death && compiler.generation === this.#compilerGeneration) {
      const released = compiler.rpc.call('release', { session: id }).catch(() => undefined);
      if (compiler.info) await released; // while Python starts it holds nothing
    }
    if (!id || this.options.provider === 'reference') return 0;
    const engine = await this.runner().catch(() => null); // one that is gone, and cannot be had again, holds nothing
    if (!engine || engine.death || engine.generation !== this.#engineGeneration) return 0;
    const answer = await engine.client.releaseSession(id).catch(() => ({ freed: 0 }));
    return answer.freed;
  }

  get state() {
    if (this.options.provider === 'wasm' && engineDeath()) return 'engine-died';
    return getCompiler().death ? 'compiler-died' : 'ready';
  }

  /** Resolves when the compiler knows this session as the engine does. @returns {Promise<void>} */
  introduced() {
    return this.kept.introduced({ id: this.id, files: this.files });
  }

  /** The same, as soon as nothing else is to be done. */
  introducedSoon() {
    return this.kept.introducedSoon(() => ({ id: this.id, files: this.files }));
  }

  /** A plan was made and loaded, which later sessions may have. @param {import('./making.js').Made} made */
  keep(made) {
    const { description, sources } = this;
    return this.kept.made(made, { description, sources, ask: (...what) => this.ask(...what) });
  }

  /** Why nothing can be asked about the plan that this session was given. */
  get stale() {
    return failure('SESSION', `The compiler no longer makes the plan that an earlier session of ${this.model.name} had left`, { model: this.model.name, hint: 'run the session once more first: it starts over' });
  }

  /** @param {string} method @param {Record<string, unknown>} args  about this session, asked of the compiler */
  async ask(method, args) {
    if (getCompiler().generation !== this.#compilerGeneration) {
      throw failure('COMPILER_DIED', 'The compiler was restarted and has not seen this session since', { hint: 'run it once more first' });
    }
    await this.introduced();
    if (this.kept.outdated) throw this.stale;
    return getCompiler().call(method, { session: this.id, ...args });
  }
}
