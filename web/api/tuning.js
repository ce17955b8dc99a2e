// session.tuning: makes a session's kernels faster while it is used. Python says what to try next, the engine's lab tries
// it between inferences, and a winner is swapped in; this carries the messages, keeps the budget and knows when to rest.
import { deviceClass, deviceFacts, factsNow, tell } from './device-facts.js';
import { reportRecords, sharedRecords } from './records.js';
import { asFailure, failure } from './errors.js';
import { log } from './env.js';
import { profile } from './inspect.js';
import { relink } from './relink.js';
import { clearRecords, saveRecords } from './tuning-store.js';
import { getEngine } from './workers.js';

/**
 * @typedef {import('./plans.js').Plans} Plans
 * @typedef {'off' | 'idle' | 'now'} Mode
 * @typedef {'off' | 'waiting' | 'running' | 'paused' | 'resting' | 'done' | 'failed'} State
 * @typedef {{mode: Mode, budgetMs: number, cacheUrl: string, share: boolean}} TuneOptions
 * @typedef {{at: number, kind: 'trial' | 'swap' | 'kernel' | 'form' | 'plan' | 'state', name: string, step: number, text: string, verdict: string,
 *   ratio: number, gained: number, detail: Record<string, any>}} TuningEvent
 * @typedef {{key: string, name: string, step: number, count: number, raw: number, listed: number, boundMs: number, ms: number, firstMs: number,
 *   share: number, tried: number, left: number, closed: string, serving: string, dropped: number}} KernelStatus
 * @typedef {{mode: Mode, state: State, running: boolean, reason: string, candidates: number, timed: number, kept: number, dropped: number,
 *   spentMs: number, testedMs: number, delayedMs: number, budgetMs: number, speedup: number, leftMs: number, modelMs: number, device: string,
 *   kernels: KernelStatus[], forms: FormStatus[], phase: string, notes: string[]}} TuningStatus
 * @typedef {{key: string, name: string, step: number, count: number, nodes: string[], text: string, shareMs: number, verdict: string,
 *   reason: string, ms: number, ratio: number, kept: boolean}} FormStatus
 */

/** Trials take turns among the sessions of a page. */
let turnstile = Promise.resolve();
/** On battery below this level nothing is tuned. */
const LOW_BATTERY = 0.25;
/** Runs that follow each other within STREAM_MS and take less than SHORT_MS: a candidate each SPACING_MS then. */
const [STREAM_MS, SHORT_MS, SPACING_MS] = [50, 60, 2000];
const MOST_EVENTS = 4000;
/** How long to wait for an inference that tells where the time goes. */
const SURVEY_MS = 2000;
/** Between two parts of a lowering under a stream of runs. */
const PART_REST_MS = 30;
const NOTHING = { gained: 1, leftMs: 0, modelMs: 0, kernels: [], forms: [], phase: '', notes: [] };
let labs = 0;

export class Tuning {
  #plans;
  #queue;
  /** @type {TuneOptions} */
  #options;
  /** @type {State} */
  #state = 'off';
  #reason = '';
  #device = '';
  #counts = { candidates: 0, timed: 0, kept: 0, dropped: 0 };
  #spentMs = 0;
  #testedMs = 0;
  #delayedMs = 0;
  /** @type {Record<string, any>} */
  #latest = { ...NOTHING };
  /** @type {AbortController | null} of the loop that runs */
  #loop = null;
  /** @type {Promise<void>} */
  #ended = Promise.resolve();
  #started = 0;
  #lastRun = { at: -Infinity, ms: 0 };
  #lastAsk = -Infinity;
  /** Python has said that it is not done yet. */
  #working = false;
  /** The plan that is, or was, tuned. */
  #key = '';
  /** @type {Set<(event: TuningEvent) => void>} */
  #listeners = new Set();
  /** What happened, oldest first. @type {TuningEvent[]} */
  events = [];

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
    const { mode, budgetMs } = this.#options;
    const { gained, leftMs, modelMs, kernels, forms, phase, notes } = this.#latest;
    const spentMs = this.#spentMs + (this.#loop ? performance.now() - this.#started : 0);
    return {
      mode, state: this.#state, running: this.#state === 'running', reason: this.#reason, ...this.#counts, spentMs,
      testedMs: this.#testedMs, delayedMs: this.#delayedMs, budgetMs, speedup: gained, leftMs, modelMs, device: this.#device, kernels, forms, phase, notes,
    };
  }

  /** The device's facts, once they are measured. */
  get facts() {
    return factsNow();
  }

  /** @param {(event: TuningEvent) => void} listener @returns {() => void} unsubscribes */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** A plan is there or was used: tuning that was asked for at create begins. @param {number} [runMs] */
  touched(runMs) {
    if (runMs !== undefined) this.#lastRun = { at: performance.now(), ms: runMs };
    const other = this.#state === 'done' && this.#key !== this.#plans.latest?.key; // it ended for other shapes
    if (this.#options.mode !== 'off' && (this.#state === 'off' || other)) void this.start().catch((error) => log('warning', error.message));
  }

  /**
   * Begins, or goes on. Resolves when tuning is under way.
   * @param {Partial<TuneOptions>} [options]
   */
  async start(options = {}) {
    this.#options = { ...this.#options, ...options };
    if (this.#options.mode === 'off') this.#options.mode = 'now';
    if (this.#loop) return;
    const plan = this.#plans.latest;
    if (!plan) throw failure('NO_PLAN', 'Nothing was compiled yet', { hint: 'run the session once, or session.prepare() it' });
    if (plan.backend !== 'wasm') throw failure('NOT_AVAILABLE', `Plans on ${plan.backend} are not tuned`, { hint: plan.reason });
    const loop = new AbortController();
    this.#key = plan.key;
    this.#loop = loop;
    this.#started = performance.now();
    this.#enter('running', '');
    this.#ended = this.#run(plan.key, loop.signal).catch((error) => {
      if (!loop.signal.aborted) this.#enter('failed', asFailure(error).message);
    }).finally(() => {
      this.#spentMs += performance.now() - this.#started;
      this.#loop = null;
    });
  }

  /** Stops after the slice at hand; what was found stays. */
  async pause() {
    if (!this.#loop) return;
    this.#loop.abort();
    await this.#ended;
    this.#enter('paused', 'paused');
  }

  /**
   * Whether records are fetched from and reported to a server, from now on; what was found is reported at once.
   * @param {{cacheUrl?: string, share?: boolean}} options
   */
  async share({ cacheUrl = this.#options.cacheUrl, share = this.#options.share } = {}) {
    if (typeof cacheUrl !== 'string' || typeof share !== 'boolean') throw failure('BAD_ARGUMENT', 'tuning.share takes { cacheUrl, share }');
    this.#options = { ...this.#options, cacheUrl, share };
    const plan = this.#plans.latest;
    if (this.#state === 'done' && plan?.key === this.#key) await this.#report(plan.key);
  }

  /** Records, to the server, where the user has agreed to that. @param {string} key */
  async #report(key) {
    const { cacheUrl, share } = this.#options;
    if (!cacheUrl || !share) return;
    await reportRecords(cacheUrl, (await this.#records(key)).filter((r) => !isForm(r.key)).map(({ line }) => line));
  }

  /** What the search was given and decided, for a log that it can be replayed from. @returns {Promise<Record<string, any>>} */
  async dump() {
    const plan = this.#plans.latest;
    return plan && this.#state !== 'off' ? this.#ask('dump', plan.key) : { jobs: [], gained: 1 };
  }

  /** Resolves when the tuner has come to an end by itself or was paused. @returns {Promise<TuningStatus>} */
  async finished() {
    await this.#ended;
    return this.status();
  }

  /** Back to the kernels the plan came with, and nothing learnt: this device's records are deleted too. */
  async reset() {
    await this.pause();
    const plan = this.#plans.latest;
    await tell('forget', {});
    await clearRecords(this.#device || await deviceClass(this.#threads));
    if (plan && this.#state !== 'off') {
      const { client } = await getEngine();
      if (await this.#ask('restore', plan.key)) await this.#restore(client, plan.key);
      else await this.#queue(async () => {
        for (;;) {
          const [adoption] = await this.#ask('reset', plan.key);
          if (!adoption) break;
          await client.adopt(this.#plans.id, plan.key, { ...adoption, lab: '' });
        }
      });
      await this.#ask('drop', plan.key);
    }
    this.#counts = { candidates: 0, timed: 0, kept: 0, dropped: 0 };
    this.#latest = { ...NOTHING };
    this.#spentMs = this.#testedMs = this.#delayedMs = 0;
    this.events = [];
    this.#enter('off', '');
    this.#options.mode = 'off';
  }

  /** The plan is linked anew as it was at first. @param {import('../engine/client.js').EngineClient} client @param {string} key */
  async #restore(client, key) {
    for (;;) {
      const todo = await this.#ask('next', key);
      if (todo.do === 'link') await this.#relink(client, key, new AbortController().signal, true);
      if (todo.do !== 'work') return;
    }
  }

  /** What this session's tuning found, a record a line: see docs/records.md. @returns {Promise<string>} */
  async export() {
    const plan = this.#plans.latest;
    if (!plan || this.#state === 'off') return '';
    const lines = await this.#records(plan.key);
    return lines.filter((r) => !isForm(r.key)).map(({ line }) => `${line}\n`).join('');
  }

  /**
   * Takes records made elsewhere: tried first, verified and timed like any candidate.
   * @param {string} text @returns {Promise<{taken: number, refused: number}>}
   */
  async import(text) {
    if (typeof text !== 'string') throw failure('BAD_ARGUMENT', 'tuning.import takes the text that export() gives');
    await deviceFacts();
    const { shared, refused } = await tell('know', { shared: text.split('\n') });
    return { taken: shared, refused };
  }

  get #threads() {
    return this.#plans.options.threads || undefined;
  }

  /** @param {string} method @param {string} key @param {Record<string, unknown>} [args] */
  #ask(method, key, args = {}) {
    return this.#plans.ask(`tune.${method}`, { json: JSON.stringify({ key, ...args }) });
  }

  /** @param {State} state @param {string} reason */
  #enter(state, reason) {
    this.#state = state;
    this.#reason = reason;
    this.#tell({ kind: 'state', name: state, text: reason });
  }

  /** @param {Partial<TuningEvent>} event */
  #tell(event) {
    const at = this.status().spentMs;
    /** @type {TuningEvent} */
    const whole = { at, kind: 'state', name: '', step: -1, text: '', verdict: '', ratio: 0, gained: this.#latest.gained, detail: {}, ...event };
    this.events.push(whole);
    if (this.events.length > MOST_EVENTS) this.events.shift();
    for (const listener of this.#listeners) listener(whole);
  }

  /** @param {string} key @param {AbortSignal} signal */
  async #run(key, signal) {
    await deviceFacts({ mode: this.#options.mode === 'now' ? 'now' : 'idle' });
    const { client } = await getEngine();
    this.#device = await deviceClass(this.#threads);
    const { cacheUrl } = this.#options;
    if (cacheUrl) await tell('know', { shared: await sharedRecords(cacheUrl, this.#device) });
    const { shared, threads } = this.#plans.memory;
    const lab = `lab-${++labs}`;
    await client.openLab(lab, { shared, threads });
    try {
      this.#latest = { ...this.#latest, ...await this.#ask('open', key) };
      await this.#survey(client, key, signal);
      let reason = '';
      while (!reason && !signal.aborted) {
        await this.#wake(signal);
        if (signal.aborted) break;
        if (this.#plans.latest?.key !== key) reason = 'the input shapes changed';
        else if (this.#options.budgetMs && this.status().spentMs >= this.#options.budgetMs) reason = 'the budget is used up';
        else reason = await this.#turn(() => this.#step(client, lab, key, signal));
      }
      await this.#keep(key);
      await this.#report(key);
      this.#latest = { ...this.#latest, ...await this.#ask('status', key) };
      if (!signal.aborted) this.#enter('done', reason);
    } finally {
      await client.closeLab(lab).catch(() => undefined);
    }
  }

  /**
   * Where the model's time goes. By asking ('now'): one inference on made-up feeds, step by step; else the next real one
   * is timed so, and until it comes the device's facts say what a kernel should take.
   * @param {import('../engine/client.js').EngineClient} client @param {string} key @param {AbortSignal} signal
   */
  async #survey(client, key, signal) {
    const told = (/** @type {{step: number, ms: number}[]} */ steps) => this.#ask('surveyed', key, { steps });
    if (this.#options.mode === 'now') {
      const table = await this.#queue(() => profile(this.#plans, { repeats: 1, format: 'table', signal }));
      if ('steps' in table) await told(table.steps.map(({ step, ms }) => ({ step, ms })));
    } else {
      const coming = client.survey(this.#plans.id, key).then(told, () => undefined);
      await Promise.race([coming, pause(SURVEY_MS)]);
    }
  }

  /**
   * Python writes a candidate beside the engine's threads, which costs a run or two their core where there are no more:
   * under a stream of short runs that must stay rare, so that it does not show in their 99th percentile.
   * @param {AbortSignal} signal
   */
  async #calm(signal) {
    const stream = () => performance.now() - this.#lastRun.at < STREAM_MS && this.#lastRun.ms < SHORT_MS;
    const asked = this.#lastAsk;
    while (this.#options.mode === 'idle' && !signal.aborted && stream() && performance.now() - asked < SPACING_MS) await pause(25);
    this.#lastAsk = performance.now();
  }

  /** One thing to do, and its report. @param {import('../engine/client.js').EngineClient} client @param {string} lab @param {string} key @param {AbortSignal} signal @returns {Promise<string>} why it is over, or '' */
  async #step(client, lab, key, signal) {
    if (this.#working) await this.#breathe();
    else await this.#calm(signal);
    const todo = await this.#ask('next', key);
    this.#working = todo.do === 'work';
    if (this.#working) return '';
    for (const line of todo.skipped) this.#tell({ kind: 'trial', name: line.name, step: line.step, text: line.text, verdict: line.verdict, detail: line });
    if (todo.do === 'done') return todo.reason;
    await client.pace({ mode: this.#options.mode === 'now' ? 'now' : 'idle' });
    if (todo.do === 'link') {
      await this.#relink(client, key, signal);
      return '';
    }
    const { name, step } = todo.job;
    if (todo.do === 'pair') {
      const report = await client.labPair(lab, todo.pair, signal);
      this.#count(report);
      const { line } = await this.#ask('paired', key, { report });
      this.#delayedMs = (await client.pace()).delayedMs;
      this.#latest = { ...this.#latest, ...await this.#ask('status', key) };
      this.#tell({ kind: 'form', name, step, text: todo.schedule, verdict: line.verdict, ratio: line.ratio, detail: line });
      return '';
    }
    if (todo.do === 'setup') {
      const { ms, busyMs, samples } = await client.labSetup(lab, todo.setup, signal);
      this.#testedMs += busyMs;
      const answer = await this.#ask('measured', key, { ms, samples });
      this.#latest = { ...this.#latest, ...await this.#ask('status', key) };
      this.#tell({ kind: 'kernel', name, step, text: answer.reason, verdict: answer.ok ? 'timed' : 'wrong', detail: { ...todo.job, ms } });
      return '';
    }
    const report = await client.labTrial(lab, todo.trial, signal);
    this.#count(report);
    const { won, line } = await this.#ask('report', key, { report });
    const adopted = won ? await this.#adopt(client, lab, key, signal) : 0;
    if (adopted) Object.assign(line, { adopted: true, adoptedRatio: adopted });
    this.#delayedMs = (await client.pace()).delayedMs;
    if (this.#counts.candidates % 4 === 0 || won) this.#latest = { ...this.#latest, ...await this.#ask('status', key) };
    this.#tell({ kind: 'trial', name, step, text: todo.schedule, verdict: line.verdict, ratio: line.ratio, detail: line });
    return '';
  }

  /** @param {import('../engine/types.js').LabReport} report of a candidate, kernel or form */
  #count({ verdict, busyMs }) {
    this.#testedMs += busyMs;
    this.#counts.candidates++;
    if (verdict === 'timed' || verdict === 'slow') this.#counts.timed++;
    else this.#counts.dropped++;
  }

  /** Python was at work a moment ago and has more to do: a stream of runs gets its cores back in between. */
  async #breathe() {
    if (this.#options.mode === 'idle' && performance.now() - this.#lastRun.at < STREAM_MS) await pause(PART_REST_MS);
  }

  /**
   * Another plan takes this one's place, or does not.
   * @param {import('../engine/client.js').EngineClient} client @param {string} key @param {AbortSignal} signal @param {boolean} [atOnce]
   */
  async #relink(client, key, signal, atOnce = this.#options.mode === 'now') {
    const reason = await relink(this.#plans, client, key, {
      ask: (method, args) => this.#ask(method, key, args),
      queue: this.#queue,
      signal,
      modelMs: this.#latest.modelMs,
      idleMs: () => (atOnce ? Infinity : performance.now() - this.#lastRun.at),
    });
    const { phase } = this.#latest;
    this.#latest = { ...this.#latest, ...await this.#ask('status', key) };
    if (reason && !signal.aborted) log('info', `tuning: the plan stays as it was linked: ${reason}`);
    this.#tell({ kind: 'plan', name: reason ? 'kept' : 'replaced', text: reason, gained: this.#latest.gained, detail: { phase } });
    if (!reason && this.#latest.phase === 'kernels') await this.#survey(client, key, signal);
  }

  /** The last candidate is verified whole and takes over between two runs. @param {import('../engine/client.js').EngineClient} client @param {string} lab @param {string} key @param {AbortSignal} signal @returns {Promise<number>} its time over the one before it; 0 if it may not serve */
  async #adopt(client, lab, key, signal) {
    const confirmed = await client.labConfirm(lab, signal);
    const adopted = await this.#queue(async () => {
      if (this.#plans.latest?.key !== key) return 0;
      const adoption = await this.#ask('adoption', key, { confirmed });
      if (!adoption) {
        if (!confirmed.ok) this.#counts.dropped++;
        return 0;
      }
      try {
        await client.adopt(this.#plans.id, key, { ...adoption, lab });
      } catch (error) {
        await this.#ask('refused', key, { reason: asFailure(error).message });
        throw error;
      }
      const { gained, swapped, ratio } = await this.#ask('adopted', key);
      this.#counts.kept++;
      this.#latest = { ...this.#latest, gained };
      this.#tell({ kind: 'swap', name: swapped.name, step: swapped.step, text: swapped.serving, gained, detail: swapped });
      return ratio;
    });
    if (adopted) await this.#keep(key);
    return adopted;
  }

  /** @param {string} key @returns {Promise<{key: string, line: string}[]>} */
  #records(key) {
    return this.#ask('records', key, { device: this.#device });
  }

  /** @param {string} key */
  async #keep(key) {
    await saveRecords(this.#device, await this.#records(key));
  }

  /** @template T @param {() => Promise<T>} work @returns {Promise<T>} */
  #turn(work) {
    const mine = turnstile.then(work);
    turnstile = mine.then(() => undefined, () => undefined);
    return mine;
  }

  /** Waits while the page is hidden or the battery is low. @param {AbortSignal} signal */
  async #wake(signal) {
    for (;;) {
      const why = await restReason();
      if (!why || signal.aborted) break;
      if (this.#state !== 'resting') this.#enter('resting', why);
      await pause(500);
    }
    if (this.#state === 'resting' && !signal.aborted) this.#enter('running', '');
  }
}

/** Answers about forms stay in this browser: a record is about a kernel. @param {string} key */
const isForm = (key) => key.startsWith('form!');

/** Why now is no time to tune, or ''. */
async function restReason() {
  if (globalThis.document?.visibilityState === 'hidden') return 'the page is hidden';
  const battery = await /** @type {any} */ (navigator).getBattery?.().catch(() => null);
  return battery && !battery.charging && battery.level < LOW_BATTERY ? 'the battery is low' : '';
}

/** @param {number} ms @returns {Promise<void>} */
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
