// session.tuning: makes a session's kernels faster while it is used. This is what the page sees of it; what is done, and
// in which order: tuning-loop.js.
import { factsNow, tell } from './device-facts.js';
import { asFailure, failure } from './errors.js';
import { gpuFactsNow } from './gpu-facts.js';
import { log } from './env.js';
import { readTune } from './options.js';
import { allRuns } from './snapshot-making.js';
import { Calm } from './tuning-calm.js';
import { kernelLines, report, TuningLoop } from './tuning-loop.js';
import { Progress } from './tuning-progress.js';
import { clearRecords } from './tuning-store.js';
import { groundOf } from './tuning-ground.js';

/**
 * @typedef {import('./plans.js').Plans} Plans
 * @typedef {import('./tuning-progress.js').Mode} Mode
 * @typedef {import('./tuning-progress.js').TuningEvent} TuningEvent
 * @typedef {import('./tuning-progress.js').TuningStatus} TuningStatus
 * @typedef {{mode: Mode, budgetMs: number, cacheUrl: string, share: boolean}} TuneOptions
 */

export class Tuning {
  #plans;
  #queue;
  /** @type {TuneOptions} */
  #options;
  #progress = new Progress();
  #calm = new Calm();
  /** @type {AbortController | null} of the loop that runs */
  #loop = null;
  /** @type {Promise<void>} */
  #ended = Promise.resolve();
  /** The plan that is, or was, tuned. */
  #key = '';

  /**
   * @param {Plans} plans
   * @param {<T>(work: () => Promise<T>) => Promise<T>} queue  does work between the session's calls
   * @param {TuneOptions} options
   */
  constructor(plans, queue, options) {
    this.#plans = plans;
    this.#queue = queue;
    this.#options = options;
  }

  /** @returns {TuningStatus} */
  status() {
    return this.#progress.status(this.#options.mode, this.#options.budgetMs);
  }

  /** What happened, oldest first. */
  get events() {
    return this.#progress.events;
  }

  /** The device's facts, once they are measured. */
  get facts() {
    return this.#plans.latest?.backend === 'webgpu' ? gpuFactsNow() : factsNow();
  }

  /** @param {(event: TuningEvent) => void} listener @returns {() => void} unsubscribes */
  subscribe(listener) {
    return this.#progress.subscribe(listener);
  }

  /** A run was asked for: what it does is `run`. @template T @param {() => Promise<T>} run @returns {Promise<T>} */
  during(run) {
    return allRuns.during(() => this.#calm.during(run));
  }

  /** A plan is there or was used: tuning that was asked for at create begins. @param {number} [runMs] */
  touched(runMs) {
    if (runMs !== undefined) this.#calm.ran(runMs);
    const { latest, reason, options } = this.#plans;
    this.#progress.runsOn(latest?.backend ?? options.provider, latest?.reason || reason);
    const { state } = this.#progress;
    const other = state === 'done' && this.#key !== this.#plans.latest?.key; // it ended for other shapes
    const begins = state === 'waiting' || (latest?.backend !== 'reference' && (state === 'off' || other));
    if (this.#options.mode !== 'off' && begins) void this.#begin().catch((error) => log('warning', error.message));
  }

  /** @returns {import('./tuning-loop.js').Tuned} what a loop works on */
  get #tuned() {
    return { plans: this.#plans, queue: this.#queue, progress: this.#progress, calm: this.#calm, options: () => this.#options };
  }

  /**
   * Begins, or goes on. Resolves when tuning is under way, or will be with the session's first plan.
   * @param {Partial<TuneOptions>} [options]
   */
  async start(options = {}) {
    this.#options = readTune({ ...this.#options, ...options });
    if (this.#options.mode === 'off') this.#options.mode = 'now';
    if (this.#progress.state === 'done') this.#progress.renews();
    await this.#begin();
  }

  async #begin() {
    if (this.#loop) return;
    const plan = this.#plans.latest;
    if (!plan) return this.#progress.enter('waiting', 'nothing was compiled yet');
    if (plan.backend === 'reference') {
      const error = failure('NOT_AVAILABLE', 'A model on the reference has no kernels to tune', { hint: plan.reason });
      if (this.#progress.state === 'waiting') this.#progress.enter('failed', error.message); // finished() waits for that
      throw error;
    }
    const { key } = plan;
    const { signal } = this.#loop = new AbortController();
    const progress = this.#progress;
    this.#key = key;
    progress.begins();
    progress.enter('running', '');
    this.#plans.steady(false);
    const run = async () => {
      await this.#plans.introduced(); // what is measured now would change what the compiler makes of it
      return new TuningLoop(this.#tuned, await groundOf(this.#plans), key, signal).run();
    };
    this.#ended = run().then((reason) => {
      if (!signal.aborted) progress.enter('done', reason);
    }, (error) => {
      const { code, message } = asFailure(error);
      // a lost device: the plan is made anew with the next run, which begins to tune again
      if (!signal.aborted) progress.enter(code === 'DEVICE_LOST' ? 'off' : 'failed', message);
    }).finally(() => {
      progress.ends();
      this.#plans.steady(true);
      this.#loop = null;
    });
  }

  /** Stops after the slice at hand; what was found stays. */
  async pause() {
    if (!this.#loop && this.#progress.state !== 'waiting') return;
    this.#loop?.abort();
    await this.#ended;
    this.#progress.enter('paused', 'paused');
  }

  /**
   * Whether records are fetched from and reported to a server, from now on; what was found is reported at once.
   * @param {{cacheUrl?: string, share?: boolean}} options
   */
  async share({ cacheUrl = this.#options.cacheUrl, share = this.#options.share } = {}) {
    if (typeof cacheUrl !== 'string' || typeof share !== 'boolean') throw failure('BAD_ARGUMENT', 'tuning.share takes { cacheUrl, share }');
    this.#options = { ...this.#options, cacheUrl, share };
    const plan = this.#plans.latest;
    if (this.#progress.state === 'done' && plan?.key === this.#key) await report(this.#tuned, plan.key);
  }

  /** What the search was given and decided, for a log that it can be replayed from. @returns {Promise<Record<string, any>>} */
  async dump() {
    const plan = this.#plans.latest;
    return plan && this.#progress.state !== 'off' ? this.#ask('dump', plan.key) : { jobs: [], gained: 1 };
  }

  /** Resolves when the tuner has come to an end by itself or was paused. @returns {Promise<TuningStatus>} */
  async finished() {
    while (this.#progress.state === 'waiting') {
      await new Promise((resolve) => {
        const leave = this.subscribe(({ kind }) => {
          if (kind !== 'state') return;
          leave();
          resolve(undefined);
        });
      });
    }
    await this.#ended;
    return this.status();
  }

  /** Back to the kernels the plan came with, and nothing learnt: this device's records are deleted too. */
  async reset() {
    await this.pause();
    const plan = this.#plans.latest;
    const progress = this.#progress;
    await tell('forget', {});
    const ground = await groundOf(this.#plans);
    await clearRecords(progress.device || await ground.device());
    this.#plans.steady(false); // what outputs there are lose their hold
    if (plan && progress.state !== 'off') {
      const { key } = plan;
      const { client } = ground;
      if (await this.#ask('restore', key)) await new TuningLoop(this.#tuned, ground, key, new AbortController().signal).restore();
      else await this.#queue(async () => {
        for (;;) {
          const [adoption] = await this.#ask('reset', key);
          if (!adoption) break;
          await client.adopt(this.#plans.id, key, { ...adoption, lab: '' });
        }
      });
      await this.#ask('drop', key);
    }
    this.#plans.steady(true);
    progress.forget();
    progress.enter('off', '');
    this.#options.mode = 'off';
  }

  /** What this session's tuning found, a record a line: see docs/records.md. @returns {Promise<string>} */
  async export() {
    const { state, device } = this.#progress;
    if (state === 'off') return '';
    return kernelLines(await this.#ask('records', '', { device })).map((line) => `${line}\n`).join('');
  }

  /**
   * Takes records made elsewhere: tried first, verified and timed like any candidate.
   * @param {string} text @returns {Promise<{taken: number, refused: number}>}
   */
  async import(text) {
    if (typeof text !== 'string') throw failure('BAD_ARGUMENT', 'tuning.import takes the text that export() gives');
    await (await groundOf(this.#plans)).facts();
    const { shared, refused } = await tell('know', { shared: text.split('\n') });
    return { taken: shared, refused };
  }

  /** @param {string} method @param {string} key @param {Record<string, unknown>} [args] */
  #ask(method, key, args = {}) {
    return this.#plans.ask(`tune.${method}`, { json: JSON.stringify({ key, ...args }) });
  }
}
