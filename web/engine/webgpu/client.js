// GpuClient: the WebGPU engine, with the calls of EngineClient that a session needs. It runs where it is imported (the
// page, as a rule), because buffers cannot cross to a worker: tensors may stay on the device between runs.

import { NnjitError, asError, check } from '../errors.js';
import { disagreement } from '../compare.js';
import { Host } from '../host.js';
import { GpuDevice } from './device.js';
import { Early } from './early.js';
import { GpuLab } from './lab.js';
import { GpuPace } from './pace.js';
import { loadPlan } from './plan.js';
import { profile, run } from './run.js';
import { Pipelines, ShaderError } from './shader.js';
import { measure } from './timing.js';
import { reclaimed } from './watch.js';

/** @typedef {import('./types.d.ts').GpuPlan} GpuPlan */
/** @typedef {import('./types.d.ts').GpuFeed} GpuFeed */
/** @typedef {import('./plan.js').LoadedPlan} LoadedPlan */
/** @typedef {{signal?: AbortSignal, onProgress?: import('../types.d.ts').Progress}} CallOptions */
/** @typedef {{plans: Map<string, LoadedPlan>, constants: Map<number, GPUBuffer>, pipelines: Pipelines, early: Early | null}} GpuSession */

const never = new AbortController().signal;
/** Of bytes that nobody wrote, in outputs; these are always written. */
const UNWRITTEN = 0xa5;

export class GpuClient {
  #host = new Host();
  /** @type {Map<string, GpuSession>} */
  #sessions = new Map();

  #pace = new GpuPace();
  /** @type {Map<string, GpuLab>} */
  #labs = new Map();
  /** Sessions' plans that do not serve yet, and the constants that came with them. @type {Map<string, Set<number>>} */
  #beside = new Map();

  /** @param {GpuDevice} gpu */
  constructor(gpu) {
    this.gpu = gpu;
  }

  /**
   * @param {{device?: GPUDevice}} [options] device: the caller's own
   * @returns {Promise<GpuClient>} rejects with NO_GPU
   */
  static async start({ device } = {}) {
    return new GpuClient(await GpuDevice.open(device));
  }

  get facts() {
    return this.gpu.facts;
  }

  /** Why the device is gone, if it is. */
  get death() {
    return this.gpu.death;
  }

  /** @param {MessagePort} port to whoever computes host calls */
  connectHost(port) {
    this.#host.connect(port);
  }

  /** @param {string} id */
  createSession(id) {
    check(!this.#sessions.has(id), 'DUPLICATE_SESSION', `There is a session "${id}" already.`, { session: id });
    this.#sessions.set(id, { plans: new Map(), constants: new Map(), pipelines: new Pipelines(this.gpu.device), early: null });
  }

  /**
   * @param {string} id @param {GpuPlan} plan @param {import('../source.js').Bytes[]} sources @param {CallOptions} [options]
   * @returns {Promise<import('../types.d.ts').LoadResult>}
   */
  async loadPlan(id, plan, sources, { onProgress = () => {}, signal = never } = {}) {
    const session = this.#session(id);
    check(!session.plans.has(plan.key), 'DUPLICATE_PLAN', `Session "${id}" has a plan "${plan.key}" already.`, { plan: plan.key });
    const context = { host: this.#host, signal, progress: onProgress, software: this.facts.software };
    try {
      const { loaded, ...took } = await this.#guard(() =>
        loadPlan(this.gpu.device, plan, session.pipelines, session.constants, sources, context, id, session.early));
      session.plans.set(plan.key, loaded);
      this.#forget(session);
      return { ...took, bytes: this.#bytes(session) };
    } finally {
      this.unexpect(id);
    }
  }

  /**
   * @param {string} id @param {string} key @param {GpuFeed[]} feeds
   * @param {import('./run.js').RunOptions & {signal?: AbortSignal}} [options]
   */
  run(id, key, feeds, { signal = never, ...options } = {}) {
    const context = { host: this.#host, signal };
    this.#pace.began();
    return this.#guard(() => run(this.gpu.device, this.#plan(id, key), id, feeds, options, context, this.facts.software))
      .finally(() => this.#pace.ended());
  }

  /**
   * @param {string} id @param {string} key @param {GpuFeed[]} feeds @param {number} repeats @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<import('../types.d.ts').ProfileResult>}
   */
  profile(id, key, feeds, repeats, { signal = never } = {}) {
    const context = { host: this.#host, signal };
    this.#pace.began();
    return this.#guard(() => profile(this.gpu.device, this.#plan(id, key), id, feeds, repeats, context, this.facts.software))
      .finally(() => this.#pace.ended());
  }

  /** Resolves when the memory of what has been let go can be used again. */
  reclaim() {
    return this.#guard(() => reclaimed(this.gpu.device));
  }

  /** @param {string} id @param {string} key */
  async dropPlan(id, key) {
    const session = this.#session(id);
    session.plans.get(key)?.destroy();
    session.plans.delete(key);
    this.#forget(session);
    const own = this.#beside.get(`${id} ${key}`);
    if (!own) return;
    this.#beside.delete(`${id} ${key}`);
    await this.freeConstants(id, [...own]);
  }

  // ---- the tuner's: as EngineClient has them ----

  /** Cores of this machine: Python writes candidates beside the runs. */
  info = { hardwareConcurrency: globalThis.navigator?.hardwareConcurrency ?? 1 };

  /** @param {{mode?: 'now' | 'idle'}} [how] @returns {Promise<{delayedMs: number, delayed: number, leftMs: number}>} leftMs: what runs may still be kept waiting */
  async pace({ mode } = {}) {
    if (mode) this.#pace.mode = mode;
    const { delayedMs, delayed, leftMs } = this.#pace;
    return { delayedMs, delayed, leftMs };
  }

  /** Steps of a run cannot be timed apart without slowing it: the device's facts say what a kernel should take. @returns {Promise<never>} */
  async survey() {
    throw new NnjitError('NOT_AVAILABLE', 'Steps of a run on WebGPU are not timed one by one');
  }

  /** @param {string} lab @param {{mode?: 'now' | 'idle'}} [options] */
  async openLab(lab, options) {
    this.#labs.set(lab, new GpuLab(this.gpu.device, this.#pace));
    return this.pace(options);
  }

  /** @param {string} lab */
  async closeLab(lab) {
    this.#labs.get(lab)?.close();
    this.#labs.delete(lab);
  }

  /** @param {string} lab @param {import('./types.d.ts').GpuLabSetup} setup @param {AbortSignal} [signal] */
  labSetup(lab, setup, signal = never) {
    return this.#guard(() => this.#lab(lab).setup(setup, signal));
  }

  /** @param {string} lab @param {{kernel: import('./types.d.ts').GpuLabKernel, rounds: number}} trial @param {AbortSignal} [signal] */
  labTrial(lab, trial, signal = never) {
    return this.#guard(() => this.#lab(lab).trial(trial, signal));
  }

  /** @param {string} lab @param {import('./types.d.ts').GpuLabPair} pair @param {AbortSignal} [signal] */
  labPair(lab, pair, signal = never) {
    return this.#guard(() => this.#lab(lab).pair(pair, signal));
  }

  /** @param {string} lab @param {AbortSignal} [signal] */
  labConfirm(lab, signal = never) {
    return this.#guard(() => this.#lab(lab).confirm(signal));
  }

  /**
   * A winner serves, from the next run on; no run may be under way.
   * @param {string} id @param {string} key @param {import('./types.d.ts').GpuAdoption} adoption
   */
  async adopt(id, key, adoption) {
    const session = this.#session(id);
    await this.#guard(() => this.#plan(id, key).adopt(this.gpu.device, session.pipelines, session.constants, adoption));
    if (adoption.lab) this.#labs.get(adoption.lab)?.promote();
    this.#forget(session);
  }

  // ---- a plan that is to take another's place ----

  /**
   * Loads it beside the one that serves.
   * @param {string} id @param {GpuPlan} plan @param {import('../source.js').Bytes[]} sources @param {string} _lab @param {AbortSignal} [signal]
   */
  async loadBeside(id, plan, sources, _lab, signal = never) {
    const { constants } = this.#session(id);
    const own = plan.buffers.map(({ constant }) => constant).filter((each) => each >= 0 && !constants.has(each));
    const result = await this.loadPlan(id, plan, sources, { signal });
    this.#beside.set(`${id} ${plan.key}`, new Set(own));
    return result;
  }

  /** Its code is as fast as it will be. */
  async warmPlan() {}

  /**
   * Runs both on the same feeds and compares what they give.
   * @param {string} id @param {string} serving @param {string} key @param {string} _lab @param {GpuFeed[]} feeds
   * @param {import('../types.d.ts').Agreement[]} outputs
   * @returns {Promise<{ok: boolean, worst: number, reason: string, ms: number[]}>}
   */
  async verifyPlan(id, serving, key, _lab, feeds, outputs) {
    const [base, mine] = [await this.run(id, serving, feeds), await this.run(id, key, feeds)];
    const seen = disagreement(outputs, base.outputs, mine.outputs, UNWRITTEN);
    return { ok: !seen.reason, ...seen, ms: [base.ms, mine.ms] };
  }

  /** It serves under the other one's key, between two runs. @param {string} id @param {string} serving @param {string} key */
  async replacePlan(id, serving, key) {
    const session = this.#session(id);
    const next = this.#plan(id, key);
    session.plans.get(serving)?.destroy();
    session.plans.delete(key);
    next.key = next.plan.key = serving;
    session.plans.set(serving, next);
    this.#beside.delete(`${id} ${key}`);
    this.#forget(session);
  }

  /** Constants that are not wanted any more, as far as no plan here reads them still. @param {string} id @param {number[]} constants */
  async freeConstants(id, constants) {
    const session = this.#session(id);
    const used = new Set([...session.plans.values()].flatMap(({ plan }) => plan.buffers.map(({ constant }) => constant)));
    for (const each of constants) {
      if (used.has(each)) continue;
      session.constants.get(each)?.destroy(); // after what was submitted
      session.constants.delete(each);
    }
  }

  /**
   * Times of shaders over buffers of their own, ms of a dispatch: microbenchmarks.
   * @param {{name: string, shader: import('./shader.js').Shader}[]} probes @param {import('./types.d.ts').GpuPacePolicy} pace
   * @param {AbortSignal} [signal] @returns {Promise<Record<string, number>>}
   */
  measure(probes, pace, signal = never) {
    return this.#guard(() => measure(this.gpu.device, probes, this.#pace, pace, signal));
  }

  /** @param {string} lab */
  #lab(lab) {
    const found = this.#labs.get(lab);
    check(found !== undefined, 'UNKNOWN_SESSION', `There is no lab "${lab}".`, { session: lab });
    return found;
  }

  /**
   * A plan is being made: what is told of it is compiled and loaded meanwhile.
   * @param {string} id @param {import('../source.js').Bytes[]} sources @returns {Early | null} null for a device or a session that is gone
   */
  expect(id, sources) {
    const session = this.#sessions.get(id);
    if (this.death || !session) return null;
    session.early?.destroy();
    return (session.early = new Early(this.gpu.device, session.pipelines, sources));
  }

  /** The plan has come, or will not. @param {string} id */
  unexpect(id) {
    const session = this.#sessions.get(id);
    if (!session?.early) return;
    session.early.destroy();
    session.early = null;
  }

  /** Lets go of pipelines that no plan uses. @param {GpuSession} session */
  #forget({ plans, pipelines }) {
    pipelines.keep(new Set([...plans.values()].flatMap(({ steps }) => steps.map(({ kernel }) => kernel.shader.wgsl))));
  }

  /** @param {string} id @returns {Promise<{freed: number}>} */
  async releaseSession(id) {
    const session = this.#session(id);
    const freed = this.#bytes(session);
    this.unexpect(id);
    this.#sessions.delete(id);
    for (const place of this.#beside.keys()) if (place.startsWith(`${id} `)) this.#beside.delete(place);
    for (const plan of session.plans.values()) plan.destroy();
    for (const buffer of session.constants.values()) buffer.destroy();
    return { freed };
  }

  /** @returns {import('../types.d.ts').MemoryReport} */
  memory() {
    const sessions = [...this.#sessions].map(([id, session]) =>
      ({ id, bytes: this.#bytes(session), shared: false, threads: 0, plans: [...session.plans.keys()] }));
    return { sessions, total: sessions.reduce((sum, { bytes }) => sum + bytes, 0) };
  }

  /** Gives the device back, unless it is the caller's. */
  terminate() {
    if (this.gpu.own) this.gpu.device.destroy();
  }

  /** @param {string} id */
  #session(id) {
    const found = this.#sessions.get(id);
    check(found !== undefined, 'UNKNOWN_SESSION', `There is no session "${id}".`, { session: id });
    return found;
  }

  /** @param {string} id @param {string} key */
  #plan(id, key) {
    const found = this.#session(id).plans.get(key);
    check(found !== undefined, 'UNKNOWN_PLAN', `Session "${id}" has no plan "${key}".`, { session: id, plan: key });
    return found;
  }

  /** @param {GpuSession} session */
  #bytes({ plans, constants, early }) {
    let sum = early?.bytes ?? 0;
    for (const buffer of constants.values()) sum += buffer.size;
    for (const { buffers, plan } of plans.values()) {
      buffers.forEach((buffer, i) => {
        if (buffer && plan.buffers[i].constant < 0) sum += buffer.size;
      });
    }
    return sum;
  }

  /**
   * @template T
   * @param {() => Promise<T>} work @returns {Promise<T>}
   */
  async #guard(work) {
    try {
      return await this.gpu.guard(work);
    } catch (cause) {
      if (cause instanceof ShaderError) throw new NnjitError('SHADER', `The GPU's driver refused a shader: ${cause.message}`, { kernels: cause.kernels });
      throw cause instanceof NnjitError ? cause : asError(cause);
    }
  }
}
