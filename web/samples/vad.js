// Silero's voice activity detector, a window at a time. Takes samples at 16 kHz; returns the probability
// of speech in each 32 ms, and the stretches of speech that makes.

export const RATE = 16_000;
export const WINDOW = 512;
const CONTEXT = 64;

/** @typedef {import('../ui/runner.js').Runner} Runner */

export class Listener {
  /** @param {Runner} runner */
  constructor(runner) {
    this.runner = runner;
    this.state = new Float32Array(2 * 128);
    this.context = new Float32Array(CONTEXT);
  }

  reset() {
    this.state = new Float32Array(2 * 128);
    this.context = new Float32Array(CONTEXT);
  }

  /**
   * @param {Float32Array} window WINDOW samples in -1..1, the next ones of the same recording
   * @returns {Promise<number>} probability of speech
   */
  async hear(window) {
    // The model sees the last 4 ms of the window before, too.
    const heard = new Float32Array(CONTEXT + WINDOW);
    heard.set(this.context);
    heard.set(window, CONTEXT);
    const outputs = await this.runner.run({
      input: { type: 'float32', data: heard, dims: [1, heard.length] },
      state: { type: 'float32', data: this.state, dims: [2, 1, 128] },
      sr: { type: 'int64', data: BigInt64Array.of(BigInt(RATE)), dims: [] },
    });
    this.state = Float32Array.from(/** @type {Float32Array} */ (outputs.stateN.data));
    this.context = heard.slice(-CONTEXT);
    return Number(outputs.output.data[0]);
  }
}

/**
 * Stretches of speech: begun at 0.5, ended below 0.35 for 100 ms, at least 250 ms long.
 * @param {readonly number[]} probabilities one a window
 * @returns {{from: number, to: number}[]} seconds
 */
export function stretches(probabilities) {
  const seconds = WINDOW / RATE;
  /** @type {{from: number, to: number}[]} */
  const out = [];
  let from = -1;
  let quiet = -1;
  const end = (/** @type {number} */ to) => {
    if ((to - from) * seconds >= 0.25) out.push({ from: from * seconds, to: to * seconds });
    from = -1;
    quiet = -1;
  };
  probabilities.forEach((p, i) => {
    if (from < 0) {
      if (p >= 0.5) from = i;
      return;
    }
    if (p >= 0.35) quiet = -1;
    else if (quiet < 0) quiet = i;
    if (quiet >= 0 && (i - quiet) * seconds >= 0.1) end(quiet);
  });
  if (from >= 0) end(quiet >= 0 ? quiet : probabilities.length);
  return out;
}
