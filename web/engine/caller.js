// The caller's own thread carries out short plans: what a message to the engine and back costs is saved. It has
// instances of its own over the sessions' shared memories, and leads the pool's threads where a plan is long enough
// for more than one. It never sleeps: where the team is not to be had it does all the work itself. Of a small memory
// that cannot be shared it has a copy.

import { Control, RUN } from './control.js';
import { PAGE } from './memory.js';
import { Replica } from './replica.js';
import { countLong } from './steps.js';
import { turn } from './turns.js';

/** @typedef {import('./types.d.ts').Mail} Mail */
/** @typedef {import('./types.d.ts').Plan} Plan */
/** @typedef {import('./types.d.ts').Trap} Trap */
/**
 * @typedef {object} ShortPlan
 * @property {number} no
 * @property {number} boundMs a run may take so long here
 * @property {number} freshMs the first ones are not judged for so long
 * @property {number} tries runs in a row that must be too long before the plan goes back to the engine
 * @property {number} patienceMs how long the threads may take to leave a run that trapped
 * @property {number} streakMs so long after the first run of a turn the page gets another: a loop of awaits would never give it one
 * @property {{first: number, last: number, many: boolean}[]} segments many: long enough to call the threads
 * @property {number} usualMs what a run takes here where the tuner leaves it alone; 0: not known
 * @property {number} since when it first ran here; 0: it has not yet
 * @property {number} over runs in a row that took longer
 * @property {boolean} elsewhere the next run goes to the engine
 * @property {boolean} never all do
 */

/** A run of the threads did not come to its end: one of them does not answer. */
export class Lost extends Error {}

/** A run that threw, here or in a thread that was called. All have left it. */
export class CallTrapped extends Error {
  /** @param {{first: number, last: number, trap: Trap | null, others: number[]}} how
   *    trap: this thread's own; others: the threads that trapped too */
  constructor(how) {
    super('A kernel stopped.');
    this.how = how;
  }
}

/** ABORT when the leader has waited too long; see team.py. */
const LOST = 2;

export class Caller {
  #replica = new Replica(0, true);
  #control;
  /** When this turn of the page had its first run, and its end. */
  #turnStart = 0;
  /** @type {Promise<void> | null} */
  #turnEnd = null;

  /**
   * @param {SharedArrayBuffer | null} control the pool's, if it can be shared
   * @param {number} threads
   */
  constructor(control, threads) {
    this.#control = control ? new Control(threads, control) : Control.create(1, false);
  }

  /** @param {Mail} mail */
  apply(mail) {
    try {
      if (mail.op === 'own') this.#own(mail.session);
      else if (mail.op === 'copy') this.#copy(mail);
      else this.#replica.apply(mail);
    } catch {
      // It cannot be linked here: the engine runs it, as if there were no caller.
      if ('plan' in mail) this.#replica.apply({ op: 'dropPlan', session: mail.session, plan: mail.plan });
    }
  }

  /** A memory for a session whose own cannot be shared. @param {number} session */
  #own(session) {
    if (!this.memory(session)) this.#replica.apply({ op: 'session', session, memory: new WebAssembly.Memory({ initial: 1 }) });
  }

  /**
   * The engine's memory of a session as it is now, in this thread's own.
   * @param {Extract<Mail, {op: 'copy'}>} mail
   */
  #copy({ session, bytes }) {
    const memory = this.memory(session);
    if (!memory) return;
    const more = bytes.byteLength - memory.buffer.byteLength;
    if (more > 0) memory.grow(more / PAGE);
    new Uint8Array(memory.buffer).set(new Uint8Array(bytes));
  }

  /**
   * @param {number} session
   * @returns {WebAssembly.Memory | undefined} what its runs here work on
   */
  memory(session) {
    return this.#replica.sessions.get(session)?.memory;
  }

  /** @param {number} session */
  drop(session) {
    this.#replica.sessions.delete(session);
  }

  /**
   * @param {Plan} plan
   * @param {number} session
   * @param {number} no the plan's number
   * @returns {ShortPlan | null} null: this thread may not run it
   */
  short({ callerMs, callerFreshMs = 0, callerTries = 1, callerPatienceMs = Infinity, callerStreakMs = 0, steps, segments, inputs, outputs }, session, no) {
    if ([...inputs, ...outputs].some(({ host }) => host)) return null; // such values are the engine's to pass on
    if (!callerMs || !this.#replica.sessions.get(session)?.plans.has(no)) return null;
    const long = countLong(steps);
    /** @type {ShortPlan['segments']} */
    const parts = [];
    for (const part of segments) {
      if (part.kind !== 'wasm') return null;
      parts.push({ first: part.first, last: part.last, many: long[part.last] > long[part.first] });
    }
    // The first run shows in the engine how long it takes, and leaves code that is ready to call.
    return {
      no, boundMs: callerMs, freshMs: callerFreshMs, tries: callerTries, patienceMs: callerPatienceMs, streakMs: callerStreakMs, segments: parts, usualMs: 0, since: 0, over: 0,
      elsewhere: true, never: false,
    };
  }

  /**
   * @param {number} session
   * @param {ShortPlan} plan
   * @returns {boolean} the next run is this thread's
   */
  takes(session, plan) {
    return !plan.elsewhere && (this.#replica.sessions.get(session)?.plans.has(plan.no) ?? false);
  }

  /**
   * Word of a run in the engine: the next one comes here if that one was short enough.
   * @param {ShortPlan} plan
   * @param {number} ms
   */
  ran(plan, ms) {
    if (!plan.never && ms <= plan.boundMs) plan.elsewhere = false;
  }

  /** Before a run. @param {ShortPlan} plan @returns {Promise<void> | null} the page's next turn, where it should have one first */
  pause({ streakMs }) {
    const now = performance.now();
    if (this.#turnEnd) return now - this.#turnStart < streakMs ? null : this.#turnEnd;
    this.#turnStart = now;
    this.#turnEnd = turn().then(() => { this.#turnEnd = null; });
    return null;
  }

  /**
   * All segments of a plan, with feeds in place.
   * @param {number} session
   * @param {ShortPlan} plan
   * @param {number} threads that the session may have
   * @returns {number} ms
   */
  run(session, plan, threads) {
    const control = this.#control;
    const slices = control.slices;
    const start = performance.now();
    control.callBegins();
    try {
      for (const { first, last, many } of plan.segments) this.#steps(session, plan, first, last, many ? threads : 1);
    } finally {
      control.callEnded(performance.now() - start);
    }
    const ms = performance.now() - start;
    if (slices & 1 || control.slices !== slices) {
      if (plan.usualMs) control.callWaited(Math.max(0, ms - plan.usualMs));
    } else {
      plan.usualMs = plan.usualMs ? 0.8 * plan.usualMs + 0.2 * ms : ms;
    }
    this.#judge(plan, start, ms);
    return ms;
  }

  /**
   * @param {number} session
   * @param {ShortPlan} plan
   * @param {number} first
   * @param {number} last
   * @param {number} wanted threads
   */
  #steps(session, { no: plan, patienceMs }, first, last, wanted) {
    const job = { kind: RUN, session, plan, threads: wanted, first, last };
    if (wanted > 1 && this.#control.tryTake(job)) {
      this.#replica.opens(job);
      this.#control.start(job);
    } else {
      job.threads = 1;
    }
    const { threads } = job;
    /** @type {Trap | null} */
    let trap = null;
    try {
      this.#replica.execute(job);
    } catch (cause) {
      trap = this.#replica.explain(job, cause);
    }
    if (threads === 1) {
      if (trap) throw new CallTrapped({ first, last, trap, others: [] });
      return;
    }
    const aborted = this.#replica.aborted(job);
    if (aborted === LOST || (aborted && !this.#control.left(patienceMs))) throw new Lost('A thread of the engine does not answer.');
    const others = aborted ? this.#control.trapped(threads) : [];
    if (aborted) this.#replica.rests(job);
    this.#control.give();
    if (aborted) throw new CallTrapped({ first, last, trap, others });
  }

  /**
   * @param {ShortPlan} plan
   * @param {number} start
   * @param {number} ms
   */
  #judge(plan, start, ms) {
    plan.since ||= start;
    plan.over = ms > plan.boundMs && start - plan.since > plan.freshMs ? plan.over + 1 : 0;
    if (plan.over >= plan.tries) plan.elsewhere = plan.never = true;
  }
}
