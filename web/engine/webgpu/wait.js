// Waiting for the device: takes a promise of what it does, gives its value, sooner where that can be had. A browser looks
// whether the GPU is done when commands come, and else only every few milliseconds; an empty submission makes it look. On
// an H200 in Chromium 156 a small run takes 0.6 ms so, and 2.9 ms without; on a software adapter, whose threads want the
// same cores, it takes longer. So both ways are tried, and the faster one stays; the other gets a chance now and then.

const channel = new MessageChannel();
/** @type {(() => void)[]} */
const waiting = [];
channel.port1.onmessage = () => waiting.shift()?.();

/** The next task of this thread: whatever else the page has to do comes first. @returns {Promise<void>} */
export const nextTask = () => new Promise((resolve) => {
  waiting.push(resolve);
  channel.port2.postMessage(0);
});

/** @param {number} ms @returns {Promise<void>} */
const sleep = (ms) => new Promise((resolve) => {
  setTimeout(resolve, ms);
});

export class Waiter {
  /** How long runs took that were asked about, and others. @type {number[]} */
  #asked = [];
  /** @type {number[]} */
  #left = [];
  #runs = 0;

  /** @param {boolean} asks whether asking can help at all @param {import('./types.d.ts').WaitPolicy} policy */
  constructor(asks, policy) {
    this.asks = asks;
    this.policy = policy;
  }

  /**
   * @template T
   * @param {{queue: {submit(commands: never[]): void}}} device @param {Promise<T>} promise @returns {Promise<T>}
   */
  async until(device, promise) {
    const { everyMs, mostMs, earlyMs } = this.policy;
    const begun = performance.now();
    const asking = this.#asking();
    let done = false;
    const settled = promise.finally(() => {
      done = true;
    });
    if (asking) {
      settled.catch(() => undefined); // it is awaited below
      const known = [...this.#asked, ...this.#left];
      const usual = known.length ? Math.min(...known) : 0;
      if (usual > earlyMs) await Promise.race([settled.catch(() => undefined), sleep(usual - earlyMs)]);
      for (const end = performance.now() + mostMs; !done && performance.now() < end;) {
        device.queue.submit([]);
        for (const at = performance.now(); !done && performance.now() - at < everyMs;) await nextTask();
      }
    }
    const value = await settled;
    if (this.#runs > 1) this.#note(asking ? this.#asked : this.#left, performance.now() - begun);
    return value;
  }

  /** Turn about at first, then the faster way. The first run is slow however it is waited for, and tells nothing. */
  #asking() {
    if (!this.asks) return false;
    const { tries, again } = this.policy;
    const run = this.#runs++;
    if (run <= 2 * tries) return run % 2 === 1;
    const faster = Math.min(...this.#asked) <= Math.min(...this.#left);
    return run % again === 0 ? !faster : faster;
  }

  /** @param {number[]} times @param {number} ms */
  #note(times, ms) {
    times.push(ms);
    if (times.length > this.policy.tries) times.shift();
  }
}
