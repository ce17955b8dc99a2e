// One session: its memory, its plans, and the line in which its calls wait. Loads plans and runs them.

import { CALL, CANDIDATE, RUN } from './control.js';
import { NnjitError, asError, check, throwIfAborted } from './errors.js';
import { PAGE, SessionMemory } from './memory.js';
import { JobTrapped } from './pool.js';
import { turn } from './turns.js';

/** @typedef {import('./types.d.ts').Plan} Plan */
/** @typedef {import('./types.d.ts').Step} Step */
/** @typedef {import('./types.d.ts').HostValue} HostValue */
/** @typedef {import('./types.d.ts').Job} Job */
/** @typedef {import('./types.d.ts').Mail} Mail */
/** @typedef {import('./types.d.ts').Trap} Trap */

/** What the caller's thread must have done too before its next run. It drops sessions itself. */
const FOR_CALLER = new Set(['plan', 'swap', 'dropPlan']);

/** A memory of more than 16 MiB is not copied to the caller. */
const COPY_PAGES = 256;

/**
 * What is kept of a plan once it is loaded: no module bytes, no constants.
 * @typedef {object} LoadedPlan
 * @property {number} no
 * @property {string} key
 * @property {number} tableBase
 * @property {number} slots
 * @property {Step[]} steps
 * @property {import('./types.d.ts').Segment[]} segments
 * @property {import('./types.d.ts').ValueRef[]} inputs
 * @property {import('./types.d.ts').ValueRef[]} outputs
 * @property {((steps: import('./types.d.ts').StepMs[]) => void) | null} [survey] wants the next inference's time of each step
 * @property {Map<string, HostValue>} values what host calls made at load
 * @property {number[]} long long[i]: of steps 0 .. i-1, see countLong
 */

let numbers = 0;

export class Session {
  /** @type {Map<string, LoadedPlan>} */
  plans = new Map();
  /** Numbers of the plans that the caller's thread may run too. @type {Set<number>} */
  lent = new Set();
  /** Modules compiled ahead of their plans, by the plan's key. @type {Map<string, {bytes: Uint8Array, module: WebAssembly.Module}>} */
  staged = new Map();
  #tail = Promise.resolve();

  /**
   * @param {string} id
   * @param {import('./pool.js').Pool} pool
   * @param {{shared: boolean, threads: number, maxPages?: number}} options
   * @param {((mail: Mail, transfer?: Transferable[]) => void) | null} [caller] takes the mail for the caller's thread; null: that runs nothing
   */
  constructor(id, pool, { shared, threads, maxPages }, caller = null) {
    this.id = id;
    this.caller = caller;
    this.no = numbers++;
    this.pool = pool;
    this.shared = shared;
    this.threads = threads;
    this.memory = new SessionMemory(shared, maxPages);
  }

  /**
   * The plan may run on the caller's thread too. A memory that cannot be shared has to be small enough for a copy.
   * @param {number} plan its number
   * @param {number} pages
   */
  lend(plan, pages) {
    if (!this.caller || (!this.shared && pages > COPY_PAGES)) return;
    if (!this.shared && !this.lent.size) this.caller({ op: 'own', session: this.no });
    this.lent.add(plan);
  }

  /** What was changed in memory for good, the caller's copy must have too. */
  copy() {
    if (!this.caller || this.shared || !this.lent.size) return;
    if (this.memory.bytes > COPY_PAGES * PAGE) {
      for (const plan of this.lent) this.caller({ op: 'dropPlan', session: this.no, plan });
      this.lent.clear();
      return;
    }
    const bytes = this.memory.view.slice().buffer;
    this.caller({ op: 'copy', session: this.no, bytes }, [bytes]);
  }

  /** Tells the threads. */
  open() {
    return this.mail({ op: 'session', session: this.no, memory: this.memory.memory });
  }

  /** @param {Mail} mail */
  mail(mail) {
    if (this.caller && ('plan' in mail ? this.lent.has(mail.plan) && FOR_CALLER.has(mail.op) : this.shared && mail.op === 'session')) this.caller(mail);
    return this.pool.broadcast(mail, this.threads);
  }

  /**
   * Does `work` after all that was asked of this session before.
   * @template T
   * @param {() => Promise<T>} work
   * @param {AbortSignal} [signal] of a call that can be cancelled
   * @returns {Promise<T>}
   */
  inOrder(work, signal) {
    const done = this.#tail.then(async () => {
      if (signal) {
        await turn(); // while a job ran, no message came in: the call may have been cancelled since
        throwIfAborted(signal);
      }
      return work();
    });
    this.#tail = done.then(() => {}, () => {});
    return done;
  }

  /**
   * @param {string} key
   * @returns {LoadedPlan}
   */
  plan(key) {
    const plan = this.plans.get(key);
    check(plan !== undefined, 'UNKNOWN_PLAN', `Session "${this.id}" has no plan "${key}".`,
      { session: this.id, plan: key });
    return plan;
  }

  /** @returns {number} a number that no other plan of this engine has */
  planNumber() {
    return numbers++;
  }

  /**
   * Steps first .. last-1 of a plan, on all threads if one of the steps is worth waking them for.
   * @param {LoadedPlan} plan
   * @param {number} first
   * @param {number} last
   * @returns {Promise<number[]>} ms a thread
   */
  runSteps(plan, first, last) {
    return this.#dispatch(this.#steps(plan, first, last), plan);
  }

  /**
   * A run of steps that the caller's thread led has trapped.
   * @param {LoadedPlan} plan
   * @param {import('./caller.js').CallTrapped['how']} how
   * @returns {Promise<NnjitError>}
   */
  async calledTrapped(plan, { first, last, trap, others }) {
    const found = await this.pool.trapped(trap, others);
    return this.#explain(this.#steps(plan, first, last), plan, found.trap);
  }

  /**
   * @param {LoadedPlan} plan
   * @param {number} first
   * @param {number} last
   */
  #steps(plan, first, last) {
    return { kind: RUN, first, last, threads: plan.long[last] > plan.long[first] ? this.threads : 1 };
  }

  /**
   * One kernel by itself, `repeat` times.
   * @param {LoadedPlan} plan
   * @param {{slot: number, args: number, tiles: number, parallel?: boolean, stride?: number}} step
   * @param {{repeat?: number, candidate?: boolean}} [how]
   * @returns {Promise<number[]>} ms a thread
   */
  callStep(plan, { slot, args, tiles, parallel, stride }, { repeat = 1, candidate = false } = {}) {
    const { threads } = this;
    const job = { kind: CALL, threads, slot: candidate ? CANDIDATE : slot, args, tiles, repeat, stride, serial: parallel === false };
    return this.#dispatch(job, plan);
  }

  /**
   * @param {Omit<Job, 'session' | 'plan'>} job
   * @param {LoadedPlan} plan
   */
  async #dispatch(job, plan) {
    try {
      return await this.pool.dispatch({ ...job, session: this.no, plan: plan.no });
    } catch (cause) {
      throw cause instanceof JobTrapped ? this.#explain(job, plan, cause.trap) : asError(cause);
    }
  }

  /**
   * @param {Omit<Job, 'session' | 'plan'>} job
   * @param {LoadedPlan} plan
   * @param {Trap} trap
   * @returns {NnjitError}
   */
  #explain(job, plan, trap) {
    const index = this.#locate(job, plan, trap);
    const step = plan.steps[index];
    let where = job.kind === CALL ? `slot ${job.slot}, at load` : 'a step that is not known';
    if (step) where = `step ${index} (${step.name})`;
    return new NnjitError('KERNEL_TRAP', `A kernel stopped in ${where}: ${trap.message}`, {
      session: this.id, plan: plan.key, step: index, name: step?.name ?? '', kernel: step?.kernel ?? '',
      nodes: step?.nodes ?? [], thread: trap.thread, reason: trap.message,
    }, 'This is a fault of the compiler, please report it with the model; the session can still be used.');
  }

  /**
   * @param {Omit<Job, 'session' | 'plan'>} job
   * @param {LoadedPlan} plan
   * @param {Trap} trap
   * @returns {number} the step that it was in, or -1
   */
  #locate({ kind, first = 0, last = 0, slot, args }, plan, { step, functionIndex }) {
    if (kind === CALL) {
      return plan.steps.findIndex((each) => (slot === CANDIDATE || each.slot === slot) && each.args === args);
    }
    if (step >= first && step < last) return step;
    // A plan that keeps no step word: the function index is that of a kernel, which has one slot or few.
    const found = plan.steps.slice(first, last)
      .findIndex((each) => this.pool.functionIndex(this.no, each.slot) === functionIndex);
    return found < 0 ? -1 : first + found;
  }

  /** @param {string} key */
  async dropPlan(key) {
    const plan = this.plan(key);
    this.plans.delete(key);
    await this.mail({ op: 'dropPlan', session: this.no, plan: plan.no });
  }

  /** @returns {Promise<number>} bytes given back */
  async release() {
    const { bytes } = this.memory;
    this.plans.clear();
    this.staged.clear();
    await this.mail({ op: 'dropSession', session: this.no });
    return bytes;
  }

  /** @returns {import('./types.d.ts').SessionMemory} */
  report() {
    return {
      id: this.id, bytes: this.memory.bytes, shared: this.shared, threads: this.threads, plans: [...this.plans.keys()],
    };
  }
}
