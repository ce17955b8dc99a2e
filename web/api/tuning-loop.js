// One stretch of tuning a plan, from the device's facts to the end or a pause. Python says what to do next, the engine's
// lab does it between inferences, a winner is swapped in; this carries the messages and keeps the budget.
import { tell } from './device-facts.js';
import { reportRecords, sharedRecords } from './records.js';
import { asFailure } from './errors.js';
import { log } from './env.js';
import { profile } from './inspect.js';
import { quiet, relink } from './relink.js';
import { pause, restReason } from './tuning-calm.js';
import { saveRecords } from './tuning-store.js';

/** @typedef {import('./tuning-ground.js').Ground} Ground */
/**
 * @typedef {object} Tuned
 * @property {import('./plans.js').Plans} plans
 * @property {<T>(work: () => Promise<T>) => Promise<T>} queue does work between the session's calls
 * @property {import('./tuning-progress.js').Progress} progress
 * @property {import('./tuning-calm.js').Calm} calm
 * @property {() => import('./tuning.js').TuneOptions} options as they are now
 */

/** Trials take turns among the sessions of a page. */
let turnstile = Promise.resolve();
let labs = 0;
/** Why nothing is tried although something is left. */
const PAUSES = 'inferences have waited for it as long as they may: it goes on in a pause';

export class TuningLoop {
  /** Python has said that it is not done yet. */
  #working = false;
  /** @type {import('./tuning-calm.js').StreamPolicy} */
  #policy = /** @type {any} */ (null);
  #lab = `lab-${++labs}`;
  /** What the engine goes by. @type {'now' | 'idle' | undefined} */
  #paced;
  /** What inferences may still wait without a pause. */
  #mostMs = 0;

  /** @param {Tuned} tuned @param {Ground} ground @param {string} key the plan's @param {AbortSignal} signal */
  constructor(tuned, ground, key, signal) {
    this.tuned = tuned;
    this.ground = ground;
    this.client = ground.client;
    this.key = key;
    this.signal = signal;
  }

  /** @returns {'now' | 'idle'} */
  get #mode() {
    return this.tuned.options().mode === 'now' ? 'now' : 'idle';
  }

  /** @param {string} method @param {Record<string, unknown>} [args] */
  #ask(method, args = {}) {
    return this.tuned.plans.ask(`tune.${method}`, { json: JSON.stringify({ key: this.key, ...args }) });
  }

  /** Until there is nothing left to do, or the signal. @returns {Promise<string>} why it is over */
  async run() {
    const { client, signal, tuned: { plans, progress, options } } = this;
    const { factsMs, stream: policy } = await tell('policy', {});
    this.#policy = policy;
    const facts = this.#facts(factsMs);
    if (this.#mode === 'now') await facts;
    const { shared, threads } = plans.memory;
    // at the same time: where inferences follow each other, the engine answers once between two of them
    const coming = this.#nextRun();
    this.#paced = this.#mode;
    const { earlierMs } = progress;
    this.#mostMs = Math.max(0, policy.mayMs - earlierMs);
    const opening = client.openLab(this.#lab, { shared, threads, mode: this.#paced, earlierMs });
    opening.catch(() => undefined);
    try {
      await facts;
      progress.device = await this.ground.device();
      const { cacheUrl } = options();
      if (cacheUrl) await tell('know', { shared: await sharedRecords(cacheUrl, progress.device) });
      const [waits, status] = await Promise.all([opening, this.#ask('open')]);
      this.#waits(waits);
      progress.now(status);
      await this.#survey(coming);
      const reason = await this.#steps();
      progress.device = await this.ground.device(); // facts may have come meanwhile
      await this.#keep();
      await report(this.tuned, this.key);
      progress.now(await this.#ask('status'));
      return signal.aborted ? '' : reason;
    } finally {
      await opening.catch(() => undefined);
      await client.pace({}, this.#lab).then((waits) => this.#waits(waits), () => undefined);
      await client.closeLab(this.#lab).catch(() => undefined);
    }
  }

  /**
   * A stream of inferences may leave no time to measure the device. Then typical facts serve, and the tuner's search puts
   * right what they say of bounds; those of this device come when there is a pause.
   * @param {number} mostMs how long they are waited for beside inferences
   */
  async #facts(mostMs) {
    const { calm } = this.tuned;
    if (this.#mode === 'now') await pause(this.#policy.streamMs); // the next run may be on its way
    const mode = this.#mode === 'now' && !calm.stream(this.#policy) ? 'now' : 'idle';
    const facts = this.ground.facts({ mode });
    let known = false;
    const measured = facts.then(() => { known = true; }, () => { known = true; });
    do await Promise.race([measured, pause(mostMs)]);
    while (!known && mode === 'now' && !this.signal.aborted && !calm.stream(this.#policy));
    facts.catch((error) => log('info', `tuning: the device was not measured: ${asFailure(error).message}`));
  }

  /** @returns {Promise<string>} why it is over */
  async #steps() {
    const { signal, tuned: { plans, progress, options } } = this;
    try {
      for (;;) {
        await this.#wake();
        if (signal.aborted) return '';
        if (plans.latest?.key !== this.key) return 'the input shapes changed';
        const { budgetMs } = options();
        if (budgetMs && progress.spentMs >= budgetMs) return 'the budget is used up';
        const reason = await inTurn(() => this.#step());
        if (reason) return reason;
      }
    } catch (error) {
      const { code, message } = asFailure(error);
      if (code !== 'TUNING_SPENT') throw error;
      return message;
    }
  }

  /** What the steps of the next inference take. @returns {Promise<{step: number, ms: number}[]>} */
  #nextRun() {
    const coming = this.client.survey(this.tuned.plans.id, this.key);
    coming.catch(() => undefined);
    return coming;
  }

  /**
   * Where the model's time goes: the next inference is timed step by step. Where none is under way and tuning was asked for
   * at once, it is one on made-up feeds; else, until one comes, the device's facts say what a kernel should take.
   * @param {Promise<{step: number, ms: number}[]>} coming
   */
  async #survey(coming) {
    const { signal, tuned: { plans, queue, calm } } = this;
    const told = (/** @type {{step: number, ms: number}[]} */ steps) => this.#ask('surveyed', { steps });
    const seen = coming.then(told).catch(() => undefined); // a hint, no more
    if (this.#mode === 'now' && !calm.stream(this.#policy)) {
      const table = await queue(() => profile(plans, { repeats: 1, format: 'table', signal }));
      if ('steps' in table) await told(table.steps.map(({ step, ms }) => ({ step, ms })));
    } else {
      const { surveyMs, streamSurveyMs } = this.#policy;
      await Promise.race([seen, pause(calm.stream(this.#policy) ? streamSurveyMs : surveyMs)]);
    }
  }

  /** One thing to do, and its report. @returns {Promise<string>} why it is over, or '' */
  async #step() {
    const { client, signal, tuned: { progress, calm, options } } = this;
    if (this.#mode === 'idle') {
      if (this.#working) await calm.between(this.#policy);
      else await calm.before(this.#policy, client.info.hardwareConcurrency <= this.tuned.plans.memory.threads, signal);
    }
    if (this.#paced !== this.#mode) this.#waits(await client.pace({ mode: this.#paced = this.#mode }, this.#lab));
    const busy = this.#mode === 'idle' && calm.stream(this.#policy);
    const asked = performance.now();
    const todo = await this.#ask('next', { most: busy ? this.#mostMs * this.#policy.part : null });
    calm.worked(performance.now() - asked);
    this.#working = todo.do === 'work';
    for (const line of todo.skipped) progress.tell({ kind: 'trial', name: line.name, step: line.step, text: line.text, verdict: line.verdict, detail: line });
    if (options().mode === 'off' || signal.aborted) return '';
    progress.rests(todo.do === 'wait' ? PAUSES : '');
    switch (todo.do) {
      case 'done': return todo.reason;
      case 'wait': await pause(this.#policy.surveyMs / 4); break;
      case 'link': await this.#relink(); break;
      case 'pair': await this.#pair(todo); break;
      case 'setup': await this.#setup(todo); break;
      case 'trial': await this.#trial(todo); break;
    }
    return '';
  }

  /** Two ways of a part of the model. @param {any} todo */
  async #pair({ job, pair, schedule }) {
    const { progress } = this.tuned;
    const report = await this.#watched(this.client.labPair(this.#lab, pair, this.signal));
    progress.count(report);
    this.#waits(report.waits);
    const { line } = await this.#ask('paired', { report });
    progress.now(await this.#ask('status'));
    progress.tell({ kind: 'form', name: job.name, step: job.step, text: schedule, verdict: line.verdict, ratio: line.ratio, detail: line });
  }

  /** A kernel is laid out. @param {any} todo */
  async #setup({ job, setup }) {
    const { progress } = this.tuned;
    const { ms, busyMs, samples, waits } = await this.#watched(this.client.labSetup(this.#lab, setup, this.signal));
    progress.testedMs += busyMs;
    this.#waits(waits);
    const answer = await this.#ask('measured', { ms, samples });
    progress.now(await this.#ask('status'));
    progress.tell({ kind: 'kernel', name: job.name, step: job.step, text: answer.reason, verdict: answer.ok ? 'timed' : 'wrong', detail: { ...job, ms } });
  }

  /** A candidate. @param {any} todo */
  async #trial({ job, trial, schedule }) {
    const { progress } = this.tuned;
    const report = await this.#watched(this.client.labTrial(this.#lab, trial, this.signal));
    progress.count(report);
    this.#waits(report.waits);
    const { won, line } = await this.#ask('report', { report });
    const adopted = won ? await this.#adopt() : 0;
    if (adopted) Object.assign(line, { adopted: true, adoptedRatio: adopted });
    if (progress.counts.candidates % 4 === 0 || won) progress.now(await this.#ask('status'));
    progress.tell({ kind: 'trial', name: job.name, step: job.step, text: schedule, verdict: line.verdict, ratio: line.ratio, detail: line });
  }

  /** Another plan takes this one's place, or does not. */
  async #relink() {
    const { client, key, signal, tuned: { plans, queue, progress, calm } } = this;
    const now = this.#mode === 'now';
    const reason = await relink(plans, client, key, {
      ask: (method, args) => this.#ask(method, args),
      queue, signal, lab: this.#lab,
      modelMs: progress.latest.modelMs,
      mayMs: async () => (now ? Infinity : (await client.pace({}, this.#lab)).leftMs),
      idleMs: () => (now ? Infinity : calm.idleMs),
    });
    const { phase } = progress.latest;
    this.#waits(await client.pace({}, this.#lab));
    progress.now(await this.#ask('status'));
    if (reason && !signal.aborted) log('info', `tuning: the plan stays as it was linked: ${reason}`);
    progress.tell({ kind: 'plan', name: reason ? 'kept' : 'replaced', text: reason, gained: progress.latest.gained, detail: { phase } });
    if (!reason && progress.latest.phase === 'kernels') await this.#survey(this.#nextRun());
  }

  /** The last candidate is verified whole and takes over between two runs. @returns {Promise<number>} its time over the one before it; 0 if it may not serve */
  async #adopt() {
    const { client, key, signal, tuned: { plans, queue, progress } } = this;
    const confirmed = await this.#watched(client.labConfirm(this.#lab, this.signal));
    this.#waits(confirmed.waits);
    await quiet(plans, queue, signal); // a plan that comes may move what is to be made over
    if (signal.aborted) {
      await this.#ask('refused', { reason: 'interrupted', again: true });
      return 0;
    }
    const { compiled } = plans;
    const adoption = await this.#ask('adoption', { confirmed });
    if (!adoption) {
      if (!confirmed.ok) progress.counts.dropped++;
      return 0;
    }
    const adopted = await queue(async () => {
      if (plans.latest?.key !== key || plans.compiled !== compiled) {
        await this.#ask('refused', { reason: 'another plan was made meanwhile', again: true });
        return 0;
      }
      try {
        await client.adopt(plans.id, key, { ...adoption, lab: this.#lab });
      } catch (error) {
        await this.#ask('refused', { reason: asFailure(error).message });
        throw error;
      }
      const { gained, swapped, ratio } = await this.#ask('adopted');
      progress.counts.kept++;
      progress.now({ gained });
      progress.tell({ kind: 'swap', name: swapped.name, step: swapped.step, text: swapped.serving, gained, detail: swapped });
      return ratio;
    });
    if (adopted) await this.#keep();
    return adopted;
  }

  /** Takes note of what inferences waited for the lab so far, and still may. @param {import('../engine/types.js').PaceReport | undefined} found */
  #waits(found) {
    if (!found) return;
    this.tuned.progress.delayed(found.delayedMs);
    if (found.starved) this.#mostMs = 0;
    else if (found.leftMs < Infinity) this.#mostMs = found.leftMs; // a lab knows its limits from the first setup on
  }

  /**
   * What the lab was asked may wait long for its turns: what inferences waited is told meanwhile, and whether it rests.
   * @template T @param {Promise<T>} asked @returns {Promise<T>}
   */
  async #watched(asked) {
    let over = false;
    const answer = asked.finally(() => { over = true; });
    answer.catch(() => undefined);
    for (;;) {
      await Promise.race([answer, pause(this.#policy.watchMs)]);
      if (over) return answer;
      const waits = await this.client.pace({}, this.#lab).catch(() => undefined);
      if (over) return answer;
      this.#waits(waits);
      if (waits) this.tuned.progress.rests(waits.starved ? PAUSES : '');
    }
  }

  async #keep() {
    const { device } = this.tuned.progress;
    await saveRecords(device, await this.#ask('records', { device }));
  }

  /** Waits while the page is hidden or the battery is low. */
  async #wake() {
    const { signal, tuned: { progress } } = this;
    for (;;) {
      const why = await restReason(this.#policy);
      if (signal.aborted || (!why && progress.reason === PAUSES)) return;
      progress.rests(why);
      if (!why) return;
      await pause(500);
    }
  }

  /** The plan is linked anew as it was at first. */
  async restore() {
    const { client, key, signal, tuned: { plans, queue } } = this;
    const { shared, threads } = plans.memory;
    await client.openLab(this.#lab, { shared, threads });
    try {
      for (;;) {
        const todo = await this.#ask('next');
        if (todo.do === 'link') {
          const always = { modelMs: 0, mayMs: async () => Infinity, idleMs: () => Infinity };
          await client.pace({ mode: 'now' }, this.#lab);
          await relink(plans, client, key, { ask: (method, args) => this.#ask(method, args), queue, signal, lab: this.#lab, ...always });
        }
        if (todo.do !== 'work') return;
      }
    } finally {
      await client.closeLab(this.#lab);
    }
  }
}

/** Records, to the server, where the user has agreed to that. @param {Tuned} tuned @param {string} key the plan's */
export async function report({ plans, progress: { device }, options }, key) {
  const { cacheUrl, share } = options();
  if (!cacheUrl || !share) return;
  const lines = await plans.ask('tune.records', { json: JSON.stringify({ key, device }) });
  await reportRecords(cacheUrl, kernelLines(lines));
}

/** Those of kernels: answers about forms stay in this browser. @param {{key: string, line: string}[]} lines @returns {string[]} */
export const kernelLines = (lines) => lines.filter(({ key }) => !key.startsWith('form!')).map(({ line }) => line);

/** @template T @param {() => Promise<T>} work @returns {Promise<T>} */
function inTurn(work) {
  const mine = turnstile.then(work);
  turnstile = mine.then(() => undefined, () => undefined);
  return mine;
}
