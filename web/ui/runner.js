// Runs one open model and remembers how it went. Takes feeds, returns outputs; panels listen to its events:
// 'run' after each run, 'busy' when the first starts or the last ends.
import { turn } from '../engine/turns.js';
import { nnjit } from './api.js';

/** @typedef {import('./api.js').Values} Values */
/** @typedef {import('./api.js').Value} Value */

/**
 * What is watched while kernels are made for new shapes.
 * @typedef {object} Watch
 * @property {AbortSignal} signal
 * @property {(stage: string, done: number, total: number) => void} progress
 * @property {() => void} done
 */

/**
 * @typedef {object} Run
 * @property {Values} feeds
 * @property {Values} outputs
 * @property {number} ms wall clock on the page, from call to outputs in hand
 * @property {number} engineMs of those, inside the engine
 * @property {number} compileMs of those, making kernels
 * @property {boolean} cold the first run with these input shapes
 * @property {boolean} compiled kernels were being made for it: no plan had room for these shapes
 * @property {boolean} repeat one of a series, for timing only
 */

export class Runner extends EventTarget {
  /**
   * @param {import('../nnjit.js').InferenceSession} session
   * @param {() => Watch} watch called before a run with shapes not seen yet
   */
  constructor(session, watch) {
    super();
    this.session = session;
    this.watch = watch;
    /** @type {Run | null} */
    this.last = null;
    /** Warm times of the shapes last run, ms. @type {number[]} */
    this.warm = [];
    /** Cold time of the shapes last run, ms. @type {number | null} */
    this.cold = null;
    /** Whether it is that of making kernels too. */
    this.compiled = true;
    this.shapes = '';
    /** Warm times inside the engine, ms. @type {number[]} */
    this.engine = [];
    /** @type {Map<string, {cold: number, compiled: boolean, warm: number[], engine: number[]}>} */
    this.known = new Map();
    this.pending = 0;
    /** Runs asked for so far. */
    this.asked = 0;
  }

  get busy() {
    return this.pending > 0;
  }

  /**
   * @param {Values} feeds
   * @param {{repeat?: boolean, unasked?: boolean}} [how] `unasked`: it does not count as busy
   * @returns {Promise<Values>}
   */
  async run(feeds, { repeat = false, unasked = false } = {}) {
    const tensors = toTensors(feeds);
    const watch = this.known.has(shapesOf(feeds)) ? null : this.watch();
    if (!unasked) {
      this.asked++;
      this.#mark(1);
    }
    try {
      const start = performance.now();
      const results = await this.session.run(
        tensors,
        watch ? { signal: watch.signal, progress: watch.progress } : {},
      );
      /** @type {Values} */
      const outputs = {};
      for (const [name, result] of Object.entries(results)) await flatten(outputs, name, result);
      const ms = performance.now() - start;
      this.#remember({
        feeds,
        outputs,
        ms,
        engineMs: this.session.lastRun?.engineMs ?? NaN,
        compileMs: this.session.lastRun?.compileMs ?? NaN,
        cold: false,
        compiled: this.session.lastRun?.cold ?? true,
        repeat,
      });
      return outputs;
    } finally {
      watch?.done();
      if (!unasked) this.#mark(-1);
    }
  }

  /**
   * The same run again and again, for its time. What draws at each change of 'busy' sees one: drawing takes a core.
   * @param {Values} feeds
   * @param {number} times
   * @param {() => boolean} more asked before each run
   */
  async series(feeds, times, more) {
    this.#mark(1);
    try {
      for (let i = 0; i < times && more(); i++) {
        await this.run(feeds, { repeat: true });
        // The page stays alive and the bars are seen to grow; a timer would put 4 ms of sleep between the runs.
        await turn();
      }
    } finally {
      this.#mark(-1);
    }
  }

  /**
   * A few runs after the first with its shapes, so that the page shows what the kernels take and not only how long
   * making them took. Ends when somebody asks for a run, also one that is over before the next of these would begin: it
   * is its outputs that the page shows.
   * @param {number} most runs
   * @param {number} forMs
   */
  async warmUp(most, forMs) {
    const { last, asked } = this;
    const end = performance.now() + forMs;
    for (let i = 0; last && i < most && asked === this.asked && performance.now() < end; i++) {
      await this.run(last.feeds, { repeat: true, unasked: true });
      await turn();
    }
  }

  /**
   * Every output's distance from onnx.reference on the same feeds.
   * @param {Values} feeds
   * @param {AbortSignal} signal
   * @returns {Promise<import('./check.js').Compared[]>}
   */
  check(feeds, signal) {
    return this.session.check(toTensors(feeds), { signal });
  }

  /** @param {number} step */
  #mark(step) {
    const before = this.busy;
    this.pending += step;
    if (this.busy !== before) this.dispatchEvent(new Event('busy'));
  }

  /** @param {Run} run */
  #remember(run) {
    const shapes = shapesOf(run.feeds);
    let times = this.known.get(shapes);
    run.cold = !times;
    if (!times) this.known.set(shapes, (times = { cold: run.ms, compiled: run.compiled, warm: [], engine: [] }));
    else {
      times.warm.push(run.ms);
      times.engine.push(run.engineMs);
    }
    this.shapes = shapes;
    this.cold = times.cold;
    this.compiled = times.compiled;
    this.warm = times.warm;
    this.engine = times.engine;
    this.last = run;
    this.dispatchEvent(new Event('run'));
  }

  /** Forgets the times, as after a restart, when everything is cold again. */
  forget() {
    this.known.clear();
  }
}

/** @param {Values} feeds */
const shapesOf = (feeds) =>
  Object.entries(feeds)
    .map(([name, { dims }]) => `${name}:${dims.join('x')}`)
    .join(' ');

/** @param {Values} feeds */
function toTensors(feeds) {
  return Object.fromEntries(
    Object.entries(feeds).map(([name, { type, data, dims }]) => [
      name,
      new nnjit.Tensor(/** @type {any} */ (type), data, dims),
    ]),
  );
}

/**
 * Adds one output to a flat record: a sequence becomes `name[0]`, `name[1]` …; an absent optional leaves
 * nothing.
 * @param {Values} into
 * @param {string} name
 * @param {any} result
 */
async function flatten(into, name, result) {
  if (Array.isArray(result)) {
    for (const [i, item] of result.entries()) await flatten(into, `${name}[${i}]`, item);
  } else if (result) into[name] = { type: result.type, data: await result.getData(), dims: result.dims };
}

/**
 * The p-quantile by linear interpolation between order statistics (NumPy's default).
 * @param {readonly number[]} samples
 * @param {number} p in 0..1
 */
export function quantile(samples, p) {
  if (!samples.length) return NaN;
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (sorted.length - 1) * p;
  const low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}
