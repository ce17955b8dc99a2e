// Which steps of a plan are worth more than one thread.

/** @typedef {import('./types.d.ts').Step} Step */

/**
 * @param {Step[]} steps
 * @returns {number[]} of each prefix of the steps, how many are long enough to wake a thread for
 */
export function countLong(steps) {
  const counts = [0];
  for (const { parallel, wake } of steps) {
    counts.push(counts[counts.length - 1] + (parallel !== false && wake !== false ? 1 : 0));
  }
  return counts;
}
