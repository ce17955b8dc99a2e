// The pool's control words: one SharedArrayBuffer through which thread 0 hands out jobs and the others report.
// A job block that all read, then one 64-byte line a thread, then one float64 (ms) a thread.

/** Kinds of job. RUN: plan.run over steps; CALL: one slot, `repeat` times. */
export const RUN = 1;
export const CALL = 2;

/** Commands to a thread. MAIL: go back to the event loop, exactly one message is on its way. */
export const JOB = 1;
export const MAIL = 2;

/** Slot number that means "the candidate module's kernel", which has no place in the table. */
export const CANDIDATE = -1;

/** Slot LAB - n is kernel n of a lab; see lab.js. */
export const LAB = -16;

const LINE = 16; // int32 words in 64 bytes, so that two threads never share a cache line
const REMAINING = 0;
const FIELDS = 1;

const SIGNAL = 0;
const COMMAND = 1;
const TRAPPED = 2;

/** Loop turns before a thread goes to sleep: some 10-20 microseconds, the length of a short step. */
const SPINS = 1500;

/** Atomics.pause tells the core that this is a spin loop; not every browser has it yet. */
const pause = /** @type {{pause?: () => void}} */ (/** @type {unknown} */ (Atomics)).pause ?? (() => {});

/** @typedef {import('./types.d.ts').Job} Job */

/** Both ends of the control words. Without shared memory there is one thread, and nothing ever waits. */
export class Control {
  /**
   * @param {number} threads
   * @param {ArrayBufferLike} buffer of Control.bytes(threads)
   */
  constructor(threads, buffer) {
    this.threads = threads;
    this.buffer = buffer;
    this.words = new Int32Array(buffer, 0, LINE * (threads + 1));
    /** What each thread's share of the last job took, in ms. */
    this.times = new Float64Array(buffer, 4 * LINE * (threads + 1), threads);
  }

  /** @param {number} threads */
  static bytes(threads) {
    return 4 * LINE * (threads + 1) + 8 * threads;
  }

  /**
   * @param {number} threads
   * @returns {Control}
   */
  static create(threads) {
    const size = Control.bytes(threads);
    return new Control(threads, threads > 1 ? new SharedArrayBuffer(size) : new ArrayBuffer(size));
  }

  /** @param {number} thread */
  #line(thread) {
    return LINE * (thread + 1);
  }

  // --- thread 0 ---

  /**
   * Hands `job` to threads 1 .. job.threads-1.
   * @param {Job} job
   */
  start(job) {
    const { words } = this;
    words[FIELDS] = job.kind;
    words[FIELDS + 1] = job.session;
    words[FIELDS + 2] = job.plan;
    words[FIELDS + 3] = job.threads;
    words[FIELDS + 4] = job.first ?? 0;
    words[FIELDS + 5] = job.last ?? 0;
    words[FIELDS + 6] = job.slot ?? 0;
    words[FIELDS + 7] = job.args ?? 0;
    words[FIELDS + 8] = job.tiles ?? 0;
    words[FIELDS + 9] = job.repeat ?? 1;
    words[FIELDS + 10] = job.serial ? 1 : 0;
    words[FIELDS + 11] = job.stride ?? 0;
    Atomics.store(words, REMAINING, job.threads - 1);
    for (let thread = 1; thread < job.threads; thread++) this.signal(thread, JOB);
  }

  /**
   * @param {number} thread
   * @param {number} command
   */
  signal(thread, command) {
    const line = this.#line(thread);
    Atomics.store(this.words, line + COMMAND, command);
    Atomics.add(this.words, line + SIGNAL, 1);
    Atomics.notify(this.words, line + SIGNAL);
  }

  /** Blocks until every thread has finished the job. */
  join() {
    for (let spins = 0; ; spins++) {
      const left = Atomics.load(this.words, REMAINING);
      if (left === 0) return;
      if (spins > SPINS) Atomics.wait(this.words, REMAINING, left);
      else pause();
    }
  }

  /**
   * @param {number} threads
   * @returns {number[]} the threads, 0 apart, whose share of the last job threw
   */
  trapped(threads) {
    const found = [];
    for (let t = 1; t < threads; t++) if (this.words[this.#line(t) + TRAPPED]) found.push(t);
    return found;
  }

  // --- threads 1 and up ---

  /**
   * Blocks until the signal differs from `seen`.
   * @param {number} thread
   * @param {number} seen
   * @returns {{seen: number, command: number}}
   */
  await(thread, seen) {
    const line = this.#line(thread);
    for (let spins = 0; ; spins++) {
      const signal = Atomics.load(this.words, line + SIGNAL);
      if (signal !== seen) return { seen: signal, command: Atomics.load(this.words, line + COMMAND) };
      if (spins > SPINS) Atomics.wait(this.words, line + SIGNAL, seen);
      else pause();
    }
  }

  /** @returns {Job} */
  job() {
    const { words } = this;
    return {
      kind: words[FIELDS],
      session: words[FIELDS + 1],
      plan: words[FIELDS + 2],
      threads: words[FIELDS + 3],
      first: words[FIELDS + 4],
      last: words[FIELDS + 5],
      slot: words[FIELDS + 6],
      args: words[FIELDS + 7],
      tiles: words[FIELDS + 8],
      repeat: words[FIELDS + 9],
      serial: words[FIELDS + 10] === 1,
      stride: words[FIELDS + 11],
    };
  }

  /**
   * @param {number} thread
   * @param {number} ms
   * @param {boolean} trapped
   */
  finish(thread, ms, trapped) {
    this.times[thread] = ms;
    this.words[this.#line(thread) + TRAPPED] = trapped ? 1 : 0;
    // the atomic subtraction publishes the two plain stores above
    if (Atomics.sub(this.words, REMAINING, 1) === 1) Atomics.notify(this.words, REMAINING);
  }
}
