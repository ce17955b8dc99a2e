// Timing: how long one call takes, measured so that the clock's grain and the order of the rivals don't matter.

/** @typedef {{median: number, q1: number, q3: number, min: number, samples: number[], inner: number}} Timing */
/** @typedef {() => Promise<unknown>} Call */

const now = () => performance.now();

/** Calls a second time and on until `ms` have gone by; gives ms a call. @param {Call} call @param {number} ms */
export async function warm(call, ms) {
  let calls = 0;
  const begin = now();
  let last = begin;
  do {
    const start = now();
    await call();
    last = now() - start;
    calls++;
  } while (calls < 3 || now() - begin < ms);
  return last;
}

/**
 * Samples of each call, taken in turn: A B C A B C … A sample is as many calls as make `grain` ms.
 * @param {Record<string, Call>} calls @param {{repeats: number, warmMs: number, grain?: number, limitMs?: number}} how
 * @returns {Promise<Record<string, Timing>>}
 */
export async function alternate(calls, { repeats, warmMs, grain = 10, limitMs = 120000 }) {
  const names = Object.keys(calls);
  /** @type {Record<string, number>} */
  const inner = {};
  /** @type {Record<string, number[]>} */
  const samples = {};
  for (const name of names) {
    const once = await warm(calls[name], warmMs);
    inner[name] = Math.max(1, Math.min(1000, Math.ceil(grain / Math.max(once, 0.001))));
    samples[name] = [];
  }
  const begin = now();
  for (let round = 0; round < repeats && (round < 3 || now() - begin < limitMs); round++) {
    // Every other round runs backwards: whoever comes after a rival finds its caches, so each comes after each.
    for (const name of round % 2 ? [...names].reverse() : names) {
      // A rival's threads may still spin for work and hold the cores: let them go to sleep, then call once untimed.
      await new Promise((resolve) => setTimeout(resolve, 15));
      if (inner[name] > 1) await calls[name]();
      const start = now();
      for (let i = 0; i < inner[name]; i++) await calls[name]();
      samples[name].push((now() - start) / inner[name]);
    }
  }
  return Object.fromEntries(names.map((name) => [name, { ...spread(samples[name]), inner: inner[name] }]));
}

/** @param {number[]} samples @returns {Omit<Timing, 'inner'>} */
export function spread(samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (/** @type {number} */ q) => {
    const place = q * (sorted.length - 1);
    const low = Math.floor(place);
    return sorted[low] + (place - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
  };
  return { median: at(0.5), q1: at(0.25), q3: at(0.75), min: sorted[0], samples };
}
