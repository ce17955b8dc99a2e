// A session that may run on WebGPU and on WebAssembly: as `Plans` to whoever uses it. It begins on WebAssembly, whose first
// run comes soonest, makes the GPU's plan meanwhile, times both and goes on where runs are faster.
import { asFailure } from './errors.js';
import { log } from './env.js';
import { tell } from './device-facts.js';
import { feedsFor } from './generate.js';
import { Plans } from './plans.js';
import { Tensor } from './tensor.js';
import { getGpu } from './workers.js';

/**
 * @typedef {import('./options.js').Options} Options
 * @typedef {import('./options.js').Progress} Progress
 * @typedef {import('./sources.js').Source} Source
 * @typedef {import('./feeds.js').Feed} Feed
 * @typedef {import('./plans.js').Prepared} Prepared
 * @typedef {import('./plans.js').Request} Request
 * @typedef {{runs: number, gain: number, near: number}} MovePolicy runs: that each is timed by; gain: the part of the time that
 *   makes a move worth it; near: how far outputs may differ, in parts of the largest
 * @typedef {{queue: <T>(work: () => Promise<T>) => Promise<T>, leave: () => Promise<() => void>}} Around queue: does work between the
 *   session's calls; leave: what must stop before a move, and what begins again after it
 */

export class Backends {
  #asked;
  /** @type {Plans} the one that serves */
  #now;
  /** @type {Plans | null} the one that may take over */
  #other = null;
  /** @type {Promise<void> | null} the comparison, from its beginning on */
  #moving = null;
  /** ms of the runs so far. @type {number[]} */
  #times = [];
  #reason = '';
  #dropped = false;
  /** A feed lies on the GPU. */
  #called = false;

  /** @param {Source} model @param {Source[]} external @param {Options} options */
  constructor(model, external, options) {
    this.model = model;
    this.external = external;
    this.#asked = options;
    this.#now = new Plans(model, external, { ...options, provider: 'wasm' });
    this.steady();
  }

  /** Why it runs where it does. */
  get reason() {
    return this.#now.reason || this.#reason;
  }

  // ---- as Plans has it ----

  get id() { return this.#now.id; }
  get known() { return this.#now.known; }
  get memory() { return this.#now.memory; }
  get preparing() { return this.#now.preparing; }
  get compiled() { return this.#now.compiled; }
  get description() { return this.#now.description; }
  get files() { return this.#now.files; }
  get sources() { return this.#now.sources; }
  get loaded() { return this.#now.loaded; }
  get latest() { return this.#now.latest; }
  get state() { return this.#now.state; }
  get count() { return this.#now.count; }
  get kept() { return this.#now.kept; }
  get pins() { return this.#now.pins; }
  get waits() { return this.#now.waits; }
  get options() { return this.#now.options; }

  /** @param {Progress} progress @param {AbortSignal | null} signal */
  async open(progress, signal) {
    const gpu = getGpu().then(() => '', (error) => asFailure(error).message);
    await this.#now.open(progress, signal);
    const why = await gpu;
    this.#reason = why || 'the first run comes sooner there; the GPU is being prepared';
    if (why) log('warning', `${why}; using wasm (session.backend says which ran)`);
    else this.#other = new Plans(this.model, this.external, { ...this.#asked, provider: 'webgpu', whole: true, progress: () => undefined });
  }

  /** @param {Request} request */
  ready(request) {
    return this.#now.ready(request);
  }

  /** @param {Request} request @param {Progress} progress @param {AbortSignal | null} signal @returns {Promise<Prepared>} */
  get(request, progress, signal) {
    return this.#now.get(request, progress, signal);
  }

  /** @param {Request} request */
  stage(request) {
    return this.#now.stage(request);
  }

  settle() {
    return this.#now.settle();
  }

  /** @param {Prepared} plan @param {Map<string, Feed>} feeds @param {Map<string, Tensor | null>} wanted @param {AbortSignal | null} signal */
  execute(plan, feeds, wanted, signal) {
    return this.#now.execute(plan, feeds, wanted, signal);
  }

  introduced() {
    return this.#now.introduced();
  }

  /** @param {string} method @param {Record<string, unknown>} args */
  ask(method, args) {
    return this.#now.ask(method, args);
  }

  /** @param {Request} request @param {Progress} progress @param {AbortSignal | null} signal */
  alone(request, progress, signal) {
    return this.#now.alone(request, progress, signal);
  }

  /** @param {string} key @param {number[]} kernels */
  refuse(key, kernels) {
    return this.#now.refuse(key, kernels);
  }

  /** @param {Parameters<Plans['replaced']>} how */
  replaced(...how) {
    this.#now.replaced(...how);
  }

  /** Never: the comparison's runs come between the session's calls, so outputs are copied. */
  steady() {
    this.#now.steady(false);
  }

  endLease() {
    this.#now.endLease();
  }

  async close() {
    await this.#other?.close();
    return this.#now.close();
  }

  /** A comparison that is under way fails by itself: its turn in the session's queue does not come any more. */
  async drop() {
    this.#dropped = true;
    return this.#now.drop();
  }

  // ---- which of them ----

  /** Whether it is still to be found out where runs are faster. */
  get undecided() {
    return this.#other !== null;
  }

  /**
   * A run has ended: the comparison begins with the first.
   * @param {number} ms of a run that compiled nothing, 0 for one that did @param {Around} around
   */
  ran(ms, around) {
    if (!this.#other) return;
    if (ms > 0) this.#times.push(ms);
    if (this.#times.length > 5) this.#times.shift();
    this.#moving ??= this.#compare(around).catch((error) => this.#stay(asFailure(error).message));
  }

  /** Onto the GPU without a comparison, because a feed is there. @param {Around} around */
  async move(around) {
    this.#called = true;
    if (this.#other) await (this.#moving ??= this.#compare(around).catch((error) => this.#stay(asFailure(error).message)));
  }

  /** @param {string} why the GPU is not used */
  async #stay(why) {
    const other = this.#other;
    this.#other = null;
    this.#reason = why;
    log('info', `stays on ${this.options.provider}: ${why}`);
    await other?.close().catch(() => undefined);
  }

  /** @param {Plans} other @param {Request | null | undefined} request */
  async #prepare(other, request) {
    if (!other.id) await other.open(() => undefined, null);
    if (other.options.provider !== 'webgpu') throw new Error(other.reason);
    if (!request) return;
    const plan = await other.get(request, () => undefined, null);
    if (plan.backend !== 'webgpu') throw new Error(`the model does not run on WebGPU: ${plan.reason}`);
  }

  /** @param {Around} around */
  async #compare(around) {
    /** @type {MovePolicy} */
    const policy = await tell('moving', {});
    const other = /** @type {Plans} */ (this.#other);
    await this.#prepare(other, this.#now.latest?.request);
    while (this.#times.length < policy.runs && !this.#dropped && !this.#called) await pause(10);
    if (this.#called) return this.#take(other, 'a feed was there', around);
    const gpuMs = await around.queue(() => this.#time(other, policy));
    const wasmMs = median(this.#times);
    const found = `${shown(wasmMs)} a run on wasm, ${shown(gpuMs)} on webgpu`;
    return gpuMs > policy.gain * wasmMs ? this.#stay(found) : this.#take(other, found, around);
  }

  /**
   * Runs the same made-up feeds on both, holds the outputs against each other, and times the GPU.
   * @param {Plans} other @param {MovePolicy} policy @returns {Promise<number>} ms
   */
  async #time(other, { runs, near }) {
    const serving = this.#now.latest;
    if (!serving?.facts) throw new Error('nothing was compiled yet');
    const plan = await other.get(serving.request, () => undefined, null);
    const feeds = feedsFor(this.description.inputs, serving);
    for (const [name, value] of serving.request.values) feeds.set(name, value);
    const wanted = () => new Map(this.description.outputs.map(({ name }) => [name, null]));
    const here = await this.#now.execute(serving, feeds, wanted(), null);
    const there = await other.execute(plan, feeds, wanted(), null);
    here.values.forEach((value, i) => {
      const off = difference(value, there.values[i]);
      if (off > near) throw new Error(`the GPU's '${this.description.outputs[i].name}' is off by ${off.toPrecision(2)} of its largest value`);
    });
    const times = [];
    for (let i = 0; i < runs; i++) {
      const start = performance.now();
      await other.execute(plan, feeds, wanted(), null);
      times.push(performance.now() - start);
    }
    return median(times);
  }

  /** @param {Plans} other @param {string} why @param {Around} around */
  async #take(other, why, { queue, leave }) {
    const resume = await leave();
    await queue(async () => {
      const before = this.#now;
      this.#now = other;
      this.#other = null;
      this.#reason = why;
      log('info', `moves to ${this.options.provider}: ${why}`);
      await before.close();
    }).finally(resume);
  }
}

/** How far two outputs are apart, in parts of the largest value; of whole numbers the part that differ. @param {Feed} a @param {Feed} b */
function difference(a, b) {
  if (!(a instanceof Tensor) || !(b instanceof Tensor) || a.type === 'string') return 0;
  const [x, y] = [/** @type {ArrayLike<any>} */ (a.data), /** @type {ArrayLike<any>} */ (b.data)];
  if (x.length !== y.length) return Infinity;
  let [largest, most, other] = [0, 0, 0];
  for (let i = 0; i < x.length; i++) {
    const [p, q] = [Number(x[i]), Number(y[i])];
    if (p === q || (p !== p && q !== q)) continue;
    other++;
    if (Math.abs(p) < Infinity) largest = Math.max(largest, Math.abs(p));
    most = Math.max(most, Math.abs(p - q));
  }
  if (!other) return 0;
  for (let i = 0; i < x.length; i++) if (Math.abs(Number(x[i])) < Infinity) largest = Math.max(largest, Math.abs(Number(x[i])));
  return /^(float|bfloat)/.test(a.type) ? most / (largest || 1) : other / x.length;
}

/** @param {number[]} values */
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

/** @param {number} ms */
const shown = (ms) => `${ms.toPrecision(3)} ms`;

/** @param {number} ms @returns {Promise<void>} */
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
