// How far a session's tuning is: counts, times, what happened, and who wants to know.

/**
 * @typedef {'off' | 'idle' | 'now'} Mode
 * @typedef {'off' | 'waiting' | 'running' | 'paused' | 'resting' | 'done' | 'failed'} State
 * @typedef {{at: number, kind: 'trial' | 'swap' | 'kernel' | 'form' | 'plan' | 'backend' | 'state', name: string, step: number, text: string, verdict: string,
 *   ratio: number, gained: number, detail: Record<string, any>}} TuningEvent
 * @typedef {{key: string, name: string, sizes: string, step: number, count: number, raw: number, listed: number, boundMs: number, ms: number, firstMs: number,
 *   share: number, tried: number, left: number, closed: string, serving: string, dropped: number}} KernelStatus
 * @typedef {{key: string, name: string, step: number, count: number, nodes: string[], text: string, shareMs: number, verdict: string,
 *   reason: string, ms: number, ratio: number, kept: boolean}} FormStatus
 * @typedef {{mode: Mode, state: State, running: boolean, reason: string, candidates: number, timed: number, kept: number, dropped: number,
 *   spentMs: number, testedMs: number, delayedMs: number, budgetMs: number, speedup: number, leftMs: number, modelMs: number, device: string, backend: string, backendReason: string,
 *   kernels: KernelStatus[], forms: FormStatus[], phase: string, notes: string[]}} TuningStatus
 */

const MOST_EVENTS = 4000;
const NOTHING = { gained: 1, leftMs: 0, modelMs: 0, kernels: [], forms: [], phase: '', notes: [] };

export class Progress {
  /** @type {State} */
  state = 'off';
  reason = '';
  device = '';
  /** Where the session runs, and why if that was a choice. */
  backend = '';
  backendReason = '';
  counts = { candidates: 0, timed: 0, kept: 0, dropped: 0 };
  testedMs = 0;
  /** What Python said last: `status` of the course. @type {Record<string, any>} */
  latest = { ...NOTHING };
  /** What happened, oldest first. @type {TuningEvent[]} */
  events = [];
  /** ms of stretches of tuning that are over, and when the one under way began; 0: none is */
  #spentMs = 0;
  #started = 0;
  /** What inferences waited for labs that are closed, and for the one in use. */
  #delayedMs = 0;
  #delayedNowMs = 0;
  /** How much of the former is counted against what a session's inferences may wait. */
  #countedMs = 0;
  /** @type {Set<(event: TuningEvent) => void>} */
  #listeners = new Set();

  get spentMs() {
    return this.#spentMs + (this.#started ? performance.now() - this.#started : 0);
  }

  begins() {
    this.#started = performance.now();
  }

  ends() {
    this.#spentMs += performance.now() - this.#started;
    this.#started = 0;
    this.#delayedMs += this.#delayedNowMs;
    this.#countedMs += this.#delayedNowMs;
    this.#delayedNowMs = 0;
  }

  /** What inferences waited for earlier stretches, since tuning was asked for anew. */
  get earlierMs() {
    return this.#countedMs;
  }

  /** Tuning is asked for anew after its end: inferences may wait again. */
  renews() {
    this.#countedMs = 0;
  }

  /** @param {number} ms that inferences have waited since this stretch began */
  delayed(ms) {
    this.#delayedNowMs = ms;
  }

  get delayedMs() {
    return this.#delayedMs + this.#delayedNowMs;
  }

  /** @param {import('../engine/types.js').LabReport} report of a candidate, kernel or form */
  count({ verdict, busyMs }) {
    this.testedMs += busyMs;
    this.counts.candidates++;
    if (verdict === 'timed' || verdict === 'slow') this.counts.timed++;
    else this.counts.dropped++;
  }

  /** @param {Record<string, any>} status a part of it, from Python */
  now(status) {
    this.latest = { ...this.latest, ...status };
  }

  /** It rests for a reason, or works again. @param {string} why '': it works */
  rests(why) {
    if (why ? this.state !== 'resting' || this.reason !== why : this.state === 'resting') this.enter(why ? 'resting' : 'running', why);
  }

  /** As if nothing had been tuned. */
  forget() {
    this.counts = { candidates: 0, timed: 0, kept: 0, dropped: 0 };
    this.latest = { ...NOTHING };
    this.#spentMs = this.testedMs = this.#delayedMs = this.#countedMs = 0;
    this.events = [];
  }

  /** @param {State} state @param {string} reason */
  enter(state, reason) {
    this.state = state;
    this.reason = reason;
    this.tell({ kind: 'state', name: state, text: reason });
  }

  /** Where the session runs now. @param {string} backend @param {string} reason what was measured, or '' if there was no choice */
  runsOn(backend, reason) {
    const news = reason && (backend !== this.backend || reason !== this.backendReason);
    this.backend = backend;
    this.backendReason = reason;
    if (news) this.tell({ kind: 'backend', name: backend, text: reason });
  }

  /** @param {Partial<TuningEvent>} event */
  tell(event) {
    /** @type {TuningEvent} */
    const whole = { at: this.spentMs, kind: 'state', name: '', step: -1, text: '', verdict: '', ratio: 0, gained: this.latest.gained, detail: {}, ...event };
    this.events.push(whole);
    if (this.events.length > MOST_EVENTS) this.events.shift();
    for (const listener of this.#listeners) listener(whole);
  }

  /** @param {(event: TuningEvent) => void} listener @returns {() => void} unsubscribes */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** @param {Mode} mode @param {number} budgetMs @returns {TuningStatus} */
  status(mode, budgetMs) {
    const { gained, leftMs, modelMs, kernels, forms, phase, notes } = this.latest;
    return {
      mode, state: this.state, running: this.state === 'running', reason: this.reason, ...this.counts, spentMs: this.spentMs,
      testedMs: this.testedMs, delayedMs: this.delayedMs, budgetMs, speedup: gained, leftMs, modelMs, device: this.device, backend: this.backend,
      backendReason: this.backendReason, kernels, forms, phase, notes,
    };
  }
}
