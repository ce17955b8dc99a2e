// The pool's control words: one SharedArrayBuffer through which a leader hands out jobs and the threads report. It
// leads who has taken the team: thread 0, or for a short run the caller's own thread (caller.js).
// A job block that all read, one 64-byte line a thread, the caller's line, then one float64 (ms) a thread and the caller's.

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
const LEFT = 3;

/** Words of the caller's line: who has the team, whether a run is under way there, how many there were; and how many
 * slices the tuner has begun and ended. */
const OWNER = 0;
const CALLING = 1;
const CALLS = 2;
const SLICES = 3;

const NOBODY = 0;
const ENGINE = 1;
const CALLER = 2;

/** Loop turns before a thread goes to sleep: some 10-20 microseconds, the length of a short step. */
const SPINS = 1500;
/** The caller's, before it works alone. */
const FEW_SPINS = 150;

/** Atomics.pause tells the core that this is a spin loop; not every browser has it yet. */
const pause = /** @type {{pause?: () => void}} */ (/** @type {unknown} */ (Atomics)).pause ?? (() => {});

/** @typedef {import('./types.d.ts').Job} Job */

/** All ends of the control words. Without shared memory there is one thread, and nothing ever waits. */
export class Control {
  /**
   * @param {number} threads
   * @param {ArrayBufferLike} buffer of Control.bytes(threads)
   */
  constructor(threads, buffer) {
    this.threads = threads;
    this.buffer = buffer;
    this.words = new Int32Array(buffer, 0, LINE * (threads + 2));
    /** What each thread's share of the last job took, in ms. */
    this.times = new Float64Array(buffer, 4 * LINE * (threads + 2), threads);
    /** When the caller's last run ended, by the clock of all threads, what it took, and by how much all of them were
     * longer than usual because slices of the tuner met them. */
    this.called = new Float64Array(buffer, 4 * LINE * (threads + 2) + 8 * threads, 3);
    this.caller = LINE * (threads + 1);
  }

  /** @param {number} threads */
  static bytes(threads) {
    return 4 * LINE * (threads + 2) + 8 * (threads + 3);
  }

  /**
   * @param {number} threads
   * @param {boolean} shared with other threads, or a caller's
   * @returns {Control}
   */
  static create(threads, shared) {
    const size = Control.bytes(threads);
    return new Control(threads, shared ? new SharedArrayBuffer(size) : new ArrayBuffer(size));
  }

  /** @param {number} thread */
  #line(thread) {
    return LINE * (thread + 1);
  }

  // --- whose the team is ---

  /** Thread 0: blocks until the team is free, and takes it. */
  take() {
    const { words } = this;
    const at = this.caller + OWNER;
    for (let spins = 0; ; spins++) {
      const held = Atomics.compareExchange(words, at, NOBODY, ENGINE);
      if (held === NOBODY) return;
      if (spins > SPINS) Atomics.wait(words, at, held);
      else pause();
    }
  }

  /**
   * The caller's thread, which may not block: takes the team if it is free and ready for a job, or soon is.
   * @param {Job} job a run
   * @returns {boolean}
   */
  tryTake(job) {
    const { words } = this;
    const at = this.caller + OWNER;
    let mine = false;
    for (let spins = 0; spins < FEW_SPINS; spins++) {
      mine ||= Atomics.compareExchange(words, at, NOBODY, CALLER) === NOBODY;
      if (mine && (Atomics.load(words, REMAINING) === 0 || this.expects(job))) return true;
      pause();
    }
    if (mine) this.give();
    return false;
  }

  /**
   * The caller's thread: waits until every thread has left the job that it led.
   * @param {number} ms at most
   * @returns {boolean} they have
   */
  left(ms) {
    for (const until = performance.now() + ms; Atomics.load(this.words, REMAINING) !== 0; pause()) {
      if (performance.now() > until) return false;
    }
    return true;
  }

  /** Gives the team back. */
  give() {
    Atomics.store(this.words, this.caller + OWNER, NOBODY);
    Atomics.notify(this.words, this.caller + OWNER);
  }

  // --- the caller's runs, for who must know of them ---

  callBegins() {
    Atomics.store(this.words, this.caller + CALLING, 1);
  }

  /** @param {number} ms */
  callEnded(ms) {
    this.called[0] = performance.timeOrigin + performance.now();
    this.called[1] = ms;
    Atomics.add(this.words, this.caller + CALLS, 1);
    Atomics.store(this.words, this.caller + CALLING, 0);
  }

  /** The caller's thread: a run took so much longer for the tuner's sake. @param {number} ms */
  callWaited(ms) {
    this.called[2] += ms;
  }

  /** A slice of the tuner begins or ends. @param {boolean} begins */
  slice(begins) {
    const { words } = this;
    const at = this.caller + SLICES;
    if (begins === ((Atomics.load(words, at) & 1) === 0)) Atomics.add(words, at, 1);
  }

  /** How many slices have begun and ended: odd while one is under way. */
  get slices() {
    return Atomics.load(this.words, this.caller + SLICES);
  }

  /** A run is under way on the caller's thread. */
  get calling() {
    return Atomics.load(this.words, this.caller + CALLING) !== 0;
  }

  /** How many runs there were on the caller's thread. */
  get calls() {
    return Atomics.load(this.words, this.caller + CALLS);
  }

  // --- the leader ---

  /**
   * A thread slept through the last job, which was the same run: it will find this one as it would have found that.
   * @param {Job} job
   * @returns {boolean}
   */
  expects({ kind, session, plan, threads, first = 0, last = 0 }) {
    const { words } = this;
    const told = [kind, session, plan, threads, first, last];
    return kind === RUN && Atomics.load(words, REMAINING) !== 0 && told.every((value, i) => words[FIELDS + i] === value);
  }

  /**
   * Hands `job` to threads 1 .. job.threads-1; where one of them has yet to look at the same run, to those who have left.
   * @param {Job} job
   */
  start(job) {
    const { words } = this;
    if (this.expects(job)) {
      for (let thread = 1; thread < job.threads; thread++) {
        if (Atomics.exchange(words, this.#line(thread) + LEFT, 0) === 0) continue;
        Atomics.add(words, REMAINING, 1);
        this.signal(thread, JOB);
      }
      return;
    }
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
    for (let thread = 1; thread < job.threads; thread++) {
      Atomics.store(words, this.#line(thread) + LEFT, 0);
      this.signal(thread, JOB);
    }
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
    // before the subtraction: who is called again in between is counted in again. It publishes the plain stores above
    Atomics.store(this.words, this.#line(thread) + LEFT, 1);
    if (Atomics.sub(this.words, REMAINING, 1) === 1) Atomics.notify(this.words, REMAINING);
  }
}
