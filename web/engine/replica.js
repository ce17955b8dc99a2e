// One thread's copy of everything that cannot be shared: instances and tables, for each session and plan.
// Mail changes it, a job runs on it. Thread 0, the thread workers and the caller's thread use the same class.

import { CALL, CANDIDATE, LAB, RUN } from './control.js';
import { check } from './errors.js';
import { collect } from './garbage.js';
import { ABORT, AWAKE, DONE, RUNNING, SEQUENCE, STEP_WORDS } from './memory.js';

/** @typedef {import('./types.d.ts').Mail} Mail */
/** @typedef {import('./types.d.ts').Job} Job */
/** @typedef {(args: number, begin: number, end: number) => void} Kernel */
/**
 * @typedef {object} PlanReplica
 * @property {(thread: number, threads: number, first: number, last: number) => void} run
 * @property {number} base
 * @property {number} slots
 * @property {Map<number, Kernel>} defaults the plan's own kernels of swapped slots
 * @property {Kernel | null} candidate
 */
/**
 * @typedef {object} SessionReplica
 * @property {WebAssembly.Memory} memory
 * @property {Int32Array} words
 * @property {WebAssembly.Table} table
 * @property {Map<number, PlanReplica>} plans
 * @property {(Kernel | null)[]} lab kernels that are tried out, by number
 */

/** Calls between two looks at the clock, which take as long as one. */
const LOOK = 64;

export class Replica {
  /**
   * @param {number} thread
   * @param {boolean} [awake] this thread may not sleep when it leads
   */
  constructor(thread, awake = false) {
    this.thread = thread;
    this.awake = awake;
    /** @type {Map<number, SessionReplica>} */
    this.sessions = new Map();
  }

  /** @param {number} session */
  #session(session) {
    const found = this.sessions.get(session);
    check(found !== undefined, 'INTERNAL', `Thread ${this.thread} has no session ${session}.`);
    return found;
  }

  /**
   * @param {number} session
   * @param {number} plan
   */
  #plan(session, plan) {
    const found = this.#session(session).plans.get(plan);
    check(found !== undefined, 'INTERNAL', `Thread ${this.thread} has no plan ${plan} in session ${session}.`);
    return found;
  }

  /** @param {Mail} mail */
  apply(mail) {
    switch (mail.op) {
      case 'session':
        this.sessions.set(mail.session, {
          memory: mail.memory,
          words: new Int32Array(mail.memory.buffer, 0, 256),
          table: new WebAssembly.Table({ element: 'anyfunc', initial: 0 }),
          plans: new Map(),
          lab: [],
        });
        break;
      case 'plan':
        this.#addPlan(mail);
        break;
      case 'swap':
        this.#swap(mail);
        break;
      case 'candidate':
        this.#plan(mail.session, mail.plan).candidate = mail.module && this.#kernel(mail.session, mail.module);
        break;
      case 'lab':
        for (const [no, module] of mail.modules) this.#session(mail.session).lab[no] = module && this.#kernel(mail.session, module);
        break;
      case 'dropPlan':
        this.#dropPlan(mail);
        break;
      case 'dropSession':
        this.sessions.delete(mail.session);
        collect();
        break;
    }
  }

  /** @param {Extract<Mail, {op: 'plan'}>} mail */
  #addPlan({ session, plan, module, tableBase, slots }) {
    const { memory, table, plans } = this.#session(session);
    if (table.length < tableBase + slots) table.grow(tableBase + slots - table.length);
    const instance = new WebAssembly.Instance(module, { env: { memory, table } });
    const { run } = instance.exports;
    check(typeof run === 'function', 'BAD_PLAN', 'The plan module exports no function "run".');
    plans.set(plan, {
      run: /** @type {PlanReplica['run']} */ (run),
      base: tableBase, slots, defaults: new Map(), candidate: null,
    });
  }

  /**
   * @param {number} session
   * @param {WebAssembly.Module} module
   * @returns {Kernel} the only function that the module exports
   */
  #kernel(session, module) {
    const { memory, table } = this.#session(session);
    const { exports } = new WebAssembly.Instance(module, { env: { memory, table } });
    const kernels = Object.values(exports).filter((value) => typeof value === 'function');
    check(kernels.length === 1, 'BAD_PLAN', `A kernel module exports one function; this one has ${kernels.length}.`);
    return /** @type {Kernel} */ (kernels[0]);
  }

  /** @param {Extract<Mail, {op: 'swap'}>} mail */
  #swap({ session, plan, slot, module }) {
    const { table } = this.#session(session);
    const { defaults } = this.#plan(session, plan);
    if (module) {
      const kernel = this.#kernel(session, module);
      if (!defaults.has(slot)) defaults.set(slot, table.get(slot));
      table.set(slot, kernel);
    } else if (defaults.has(slot)) {
      table.set(slot, defaults.get(slot));
      defaults.delete(slot);
    }
  }

  /** @param {Extract<Mail, {op: 'dropPlan'}>} mail */
  #dropPlan({ session, plan }) {
    const { table, plans } = this.#session(session);
    const dropped = plans.get(plan);
    if (!dropped) return; // it failed to link here, or was never sent
    plans.delete(plan);
    // a function in the table keeps its whole instance alive
    for (let slot = dropped.base; slot < dropped.base + dropped.slots; slot++) table.set(slot, null);
  }

  /**
   * Before the threads are called to a run: from now on those who come stay until it is over.
   * @param {Job} job
   */
  opens(job) {
    if (job.kind !== RUN) return;
    const words = wordsOf(this.#session(job.session));
    words[AWAKE] = this.awake ? 1 : 0;
    Atomics.store(words, RUNNING, 1);
  }

  /**
   * @param {Job} job a run that has come back on this thread
   * @returns {number} not 0: another thread has trapped in it, or does not answer
   */
  aborted(job) {
    return Atomics.load(wordsOf(this.#session(job.session)), ABORT);
  }

  /**
   * Puts a memory's control words back to rest after a trap, once every thread has left the job.
   * @param {Job} job
   */
  rests(job) {
    const words = wordsOf(this.#session(job.session));
    words[RUNNING] = 0;
    words[ABORT] = 0;
  }

  /**
   * This thread's share of a job.
   * @param {Job} job
   * @returns {number} ms
   */
  execute(job) {
    if (job.kind === RUN) return this.#run(job);
    check(job.kind === CALL, 'INTERNAL', `There is no job ${job.kind}.`);
    return this.#call(job);
  }

  /** @param {Job} job */
  #run({ session, plan, threads, first = 0, last = 0 }) {
    const { run } = this.#plan(session, plan);
    const words = wordsOf(this.#session(session));
    words[STEP_WORDS + this.thread] = -1;
    const start = performance.now();
    try {
      run(this.thread, threads, first, last);
    } catch (cause) {
      if (threads > 1) release(words);
      throw cause;
    }
    return performance.now() - start;
  }

  /** @param {Job} job */
  #call({ session, plan, threads, slot = 0, args = 0, first = 0, tiles = 0, repeat = 1, serial, stride = 0 }) {
    const kernel = this.#called(session, plan, slot);
    check(kernel !== null, 'BAD_PLAN', `Slot ${slot} is empty.`, { slot });
    const { thread } = this;
    if (serial && thread > 0) return 0;
    const begin = first + (serial ? 0 : Math.floor((tiles * thread) / threads));
    const end = first + (serial ? tiles : Math.floor((tiles * (thread + 1)) / threads));
    const start = performance.now();
    const mine = args + thread * stride;
    for (let i = 0; i < repeat; i++) kernel(mine, begin, end);
    return performance.now() - start;
  }

  /**
   * Calls a kernel of a plan on no tiles: it reads its operands' addresses and writes nothing.
   * @param {number} session
   * @param {number} plan
   * @param {number} slot
   * @param {number} calls
   * @param {number} mostMs
   */
  rehearse(session, plan, slot, calls, mostMs) {
    const kernel = this.#called(session, plan, slot);
    check(kernel !== null, 'BAD_PLAN', `Slot ${slot} is empty.`, { slot });
    const until = performance.now() + mostMs;
    for (let i = 0; i < calls; i++) {
      kernel(0, 0, 0);
      if (i % LOOK === LOOK - 1 && performance.now() >= until) return;
    }
  }

  /**
   * @param {number} session
   * @param {number} plan
   * @param {number} slot of the table, CANDIDATE, or LAB - n
   * @returns {Kernel | null}
   */
  #called(session, plan, slot) {
    if (slot <= LAB) return this.#session(session).lab[LAB - slot] ?? null;
    if (slot === CANDIDATE) return this.#plan(session, plan).candidate;
    return /** @type {Kernel | null} */ (this.#session(session).table.get(slot));
  }

  /**
   * Where a job that threw was: the step word if the plan keeps one, and the function by its index.
   * @param {Job} job
   * @param {unknown} cause
   * @returns {import('./types.d.ts').Trap}
   */
  explain(job, cause) {
    const session = this.sessions.get(job.session);
    const step = job.kind === RUN && session ? wordsOf(session)[STEP_WORDS + this.thread] : -1;
    const stack = cause instanceof Error ? cause.stack ?? '' : '';
    const frame = /wasm-function\[(\d+)\]/.exec(stack); // V8, SpiderMonkey and JavaScriptCore all print this
    return {
      thread: this.thread,
      step,
      message: cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause),
      functionIndex: frame ? Number(frame[1]) : -1,
    };
  }

  /**
   * @param {number} session
   * @param {number} slot
   * @returns {number} index of the slot's function in its module: an exported function's name is that number
   */
  functionIndex(session, slot) {
    const { table } = this.#session(session);
    const kernel = slot < table.length ? table.get(slot) : null;
    return kernel ? Number(kernel.name) : -1;
  }
}

/**
 * @param {SessionReplica} session
 * @returns {Int32Array} its control words; a memory that is not shared has a new buffer when it has grown
 */
function wordsOf(session) {
  if (session.words.length === 0) session.words = new Int32Array(session.memory.buffer, 0, 256);
  return session.words;
}

/**
 * Lets every thread out of the run after a trap. Who falls asleep between the flag and the wake-up naps for the
 * 50 ms that the plan's functions sleep at most.
 * @param {Int32Array} words
 */
function release(words) {
  if (words.buffer instanceof ArrayBuffer) return;
  Atomics.store(words, ABORT, 1);
  Atomics.notify(words, SEQUENCE);
  Atomics.notify(words, DONE);
}
