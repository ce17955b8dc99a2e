// Whether runs are under way, and since when none is: what is done in pauses waits for that.

export class UnderWay {
  #running = 0;
  /** When the last one ended, by performance.now(); -Infinity before that. */
  lastEnd = -Infinity;

  /** @template T @param {() => Promise<T>} run @returns {Promise<T>} */
  async during(run) {
    this.#running++;
    try {
      return await run();
    } finally {
      this.#running--;
      this.lastEnd = performance.now();
    }
  }

  /** How long there was none; 0 while one is under way. */
  get idleMs() {
    return this.#running ? 0 : performance.now() - this.lastEnd;
  }
}
