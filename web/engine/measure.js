// Clock arithmetic: the clock's grain, medians, and how often to repeat so that the grain does not show.
// All times in milliseconds.

/**
 * The smallest step of performance.now() seen in a few tries: 0.005 when isolated, 0.1 and more when not.
 * @returns {number}
 */
export function clockGrain() {
  let grain = Infinity;
  for (let i = 0; i < 5; i++) {
    const start = performance.now();
    let now = start;
    while (now === start) now = performance.now();
    grain = Math.min(grain, now - start);
  }
  return Math.max(grain, 0.001);
}

/**
 * @param {readonly number[]} values at least one
 * @returns {number} the middle one, or the mean of the middle two
 */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/**
 * @param {readonly number[]} values at least one
 * @returns {number}
 */
export function mean(values) {
  return values.reduce((sum, x) => sum + x, 0) / values.length;
}

/** A sample lasts this many grains, so that the clock's error stays under one percent. */
const GRAINS = 100;

/**
 * Calls in one sample so that it lasts GRAINS clock grains.
 * @param {number} callMs what one call takes, roughly; 0 when below the grain
 * @param {number} grainMs
 * @returns {number} 1 .. 2^20
 */
export function callsPerSample(callMs, grainMs) {
  const calls = Math.ceil((GRAINS * grainMs) / Math.max(callMs, 1e-6));
  return Math.min(Math.max(calls, 1), 1 << 20);
}

/**
 * Warm up, find the repeat count, then sample.
 *
 * V8 runs a fresh kernel in Liftoff code and replaces it 8-20 ms after its first calls, between calls and never
 * inside one; so warming up means many small calls over a stretch of time, not a few long ones.
 * @param {{warm: () => Promise<void>, full: (repeat: number) => Promise<number>, pause: () => Promise<void>}} probe
 *   warm: one small call; full: `repeat` calls, returns their ms; pause: lets other work in, may throw
 * @param {{reps: number, warmupMs: number, grainMs: number}} how
 * @returns {Promise<{median: number, min: number, max: number, samples: number[], inner: number}>}
 */
export async function sample(probe, { reps, warmupMs, grainMs }) {
  const until = performance.now() + warmupMs;
  do {
    await probe.warm();
    if (performance.now() < until) await probe.pause();
  } while (performance.now() < until);
  await probe.full(1);
  let inner = 1;
  let ms = await probe.full(1);
  while (ms < 4 * grainMs && inner < 1 << 20) { // too short to tell: double until it shows
    inner *= 2;
    ms = await probe.full(inner);
  }
  for (let i = 0; i < 2; i++) ms = Math.min(ms, await probe.full(inner)); // one may have been interrupted
  inner = callsPerSample(ms / inner, grainMs);
  const samples = [];
  for (let i = 0; i < reps; i++) {
    await probe.pause();
    samples.push(await probe.full(inner) / inner);
  }
  return { median: median(samples), min: Math.min(...samples), max: Math.max(...samples), samples, inner };
}
