// The pool as thread 0 sees it: starts the thread workers, sends mail to all, dispatches jobs and joins.

import { Control, MAIL, RUN } from './control.js';
import { NnjitError, asError } from './errors.js';
import { Replica } from './replica.js';

/** @typedef {import('./types.d.ts').Mail} Mail */
/** @typedef {import('./types.d.ts').Job} Job */
/** @typedef {import('./types.d.ts').Trap} Trap */

/** A job that threw in at least one thread. The session's memory is at rest again. */
export class JobTrapped extends Error {
  /** @param {Trap} trap the first thread's */
  constructor(trap) {
    super(trap.message);
    this.trap = trap;
  }
}

export class Pool {
  /** @type {Worker[]} */
  #workers = [];
  /** @type {((data: any) => void)[]} */
  #listeners = [];
  /** What a thread says about its trap comes as a message, apart from the answers to mail.
   * @type {Map<number, Trap>} */
  #traps = new Map();
  /** @type {Map<number, (trap: Trap) => void>} */
  #trapListeners = new Map();
  /** Mail and jobs exclude each other: a thread that reads mail is not at its post. */
  #mailing = Promise.resolve();
  #mails = 0;

  /**
   * @param {number} threads
   * @param {boolean} shared memory can be shared: the caller's thread may have a part in this
   * @param {(error: NnjitError) => void} onFatal a thread's script failed
   */
  constructor(threads, shared, onFatal) {
    this.threads = threads;
    this.onFatal = onFatal;
    this.replica = new Replica(0);
    this.control = Control.create(threads, shared);
  }

  /**
   * @param {string} lock prefix; thread t holds `${lock}-${t}` while it lives
   * @returns {Promise<string[]>} the locks to watch
   */
  async start(lock) {
    const locks = [];
    const ready = [];
    for (let thread = 1; thread < this.threads; thread++) {
      const name = `${lock}-${thread}`;
      const worker = new Worker(new URL('./thread.worker.js', import.meta.url), {
        type: 'module', name: `nnjit thread ${thread}`,
      });
      this.#workers[thread] = worker;
      worker.onmessage = ({ data }) => this.#receive(thread, data);
      ready.push(new Promise((resolve, reject) => {
        this.#listeners[thread] = resolve;
        worker.onerror = (event) => {
          const error = new NnjitError('ENGINE_START_FAILED', `Thread ${thread}: ${event.message ?? 'no script'}`);
          reject(error);
          this.onFatal(error);
        };
      }));
      const { threads, control: { buffer } } = this;
      worker.postMessage({ start: { thread, threads, buffer, lock: name } });
      locks.push(name);
    }
    await Promise.all(ready);
    return locks;
  }

  /**
   * @param {number} thread
   * @param {any} data
   */
  #receive(thread, data) {
    if (!data.trap) this.#listeners[thread](data);
    else if (this.#trapListeners.has(thread)) this.#trapListeners.get(thread)?.(data.trap);
    else this.#traps.set(thread, data.trap);
  }

  /**
   * @param {number} thread one whose share of the last job threw
   * @returns {Promise<Trap>}
   */
  async #trap(thread) {
    /** @type {Trap} */
    const trap = this.#traps.get(thread)
      ?? await new Promise((resolve) => { this.#trapListeners.set(thread, resolve); });
    this.#traps.delete(thread);
    this.#trapListeners.delete(thread);
    return trap;
  }

  /**
   * The next message of a thread.
   * @param {number} thread
   * @returns {Promise<any>}
   */
  #next(thread) {
    return new Promise((resolve) => { this.#listeners[thread] = resolve; });
  }

  /**
   * Applies `mail` in threads 0 .. threads-1, between jobs.
   * @param {Mail} mail
   * @param {number} threads
   * @returns {Promise<void>} rejects with the first thread's error after all have answered
   */
  broadcast(mail, threads) {
    this.#mails++;
    const sent = this.#mailing.then(() => this.#send(mail, threads)).finally(() => { this.#mails--; });
    this.#mailing = sent.catch(() => {});
    return sent;
  }

  /**
   * @param {Mail} mail
   * @param {number} threads
   */
  async #send(mail, threads) {
    const many = threads > 1;
    if (many) this.control.take();
    try {
      await this.#deliver(mail, threads);
    } finally {
      if (many) this.control.give();
    }
  }

  /**
   * @param {Mail} mail
   * @param {number} threads
   */
  async #deliver(mail, threads) {
    this.control.join(); // a thread that slept through the last run still has to look at it
    const answers = [];
    for (let thread = 1; thread < threads; thread++) {
      answers.push(this.#next(thread));
      this.control.signal(thread, MAIL);
      this.#workers[thread].postMessage({ mail });
    }
    /** @type {unknown} */
    let failure;
    try {
      this.replica.apply(mail);
    } catch (cause) {
      failure = asError(cause, 'COMPILE_FAILED');
    }
    for (const answer of await Promise.all(answers)) {
      if (answer.failed) failure ??= NnjitError.from(answer.failed);
    }
    if (failure) throw failure;
  }

  /**
   * Runs `job` on threads 0 .. job.threads-1 until it is done, without giving up the thread in between. A run
   * shares its steps among those who are there: it is done when its work is, also if a thread has yet to wake up.
   * @param {Job} job
   * @returns {Promise<number[]>} ms a thread; of a run, thread 0's alone
   */
  async dispatch(job) {
    while (this.#mails > 0) await this.#mailing;
    const many = job.threads > 1;
    /** @type {Trap | null} */
    let trap = null;
    /** @type {number[]} */
    let others = [];
    if (many) this.control.take();
    try {
      if (!many || !this.control.expects(job)) this.control.join();
      if (many) {
        this.replica.opens(job);
        this.control.start(job);
      }
      let ms = 0;
      try {
        ms = this.replica.execute(job);
      } catch (cause) {
        trap = this.replica.explain(job, cause);
      }
      if (job.kind === RUN && !trap && !(many && this.replica.aborted(job))) return [ms];
      if (many) this.control.join();
      others = this.#others(job);
      if (!trap && !others.length) return [ms, ...this.control.times.subarray(1, job.threads)];
      this.replica.rests(job);
    } finally {
      if (many) this.control.give();
    }
    throw await this.trapped(trap, others);
  }

  /**
   * @param {Job} job which every thread has left
   * @returns {number[]} the threads, 0 apart, that trapped in it
   */
  #others({ threads }) {
    return threads > 1 ? this.control.trapped(threads) : [];
  }

  /**
   * @param {Trap | null} trap the leader's
   * @param {number[]} others threads that trapped too; what happened there they tell by message
   * @returns {Promise<JobTrapped>} of the first that has one
   */
  async trapped(trap, others) {
    let first = trap;
    for (const thread of others) {
      const told = await this.#trap(thread);
      first ??= told;
    }
    return new JobTrapped(/** @type {Trap} */ (first));
  }

  /**
   * @param {number} session
   * @param {number} slot
   */
  functionIndex(session, slot) {
    return this.replica.functionIndex(session, slot);
  }
}
