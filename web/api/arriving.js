// A model's file as Python reads it while it is on its way: takes what the page shares of it; says what is there, gives
// bytes, and fetches a piece ahead of the rest where that comes sooner, so that the graph is known before the weights are.
import { arrival, arrivalHere, arrived } from '../engine/arrival.js';

/** @typedef {import('../engine/arrival.js').Arriving} Arriving */

/** ms that a piece is expected to take until one has been timed. Python, which reads the file, cannot say: it waits in the call. */
const FIRST_GUESS = 20;

/** Each time that the stream is waited for instead, a piece is expected to take this part of what it took. */
const PATIENCE = 0.9;
const LEAST_MS = 2;

/** While a piece is waited for, the stream is seen to have come at least this often. */
const LOOK_MS = 50;

export class ArrivingFile {
  /** Pieces that are there ahead of the rest. @type {[number, number][]} */
  #pieces = [];
  /** Pieces that were asked for. @type {{from: number, to: number, done: Promise<boolean>}[]} */
  #coming = [];
  /** What a piece takes: of those so far the last. */
  #pieceMs = FIRST_GUESS;
  #ranges;

  /** @param {Uint8Array | Arriving} bytes an array: all are there */
  constructor(bytes) {
    this.arriving = ArrayBuffer.isView(bytes) ? null : bytes;
    this.view = ArrayBuffer.isView(bytes) ? bytes : bytes.view;
    this.size = this.view.byteLength;
    this.#ranges = Boolean(this.arriving?.url);
  }

  /** @param {number} start @param {number} end */
  has(start, end) {
    if (!this.arriving || arrived(this.arriving) >= end) return true;
    return this.#pieces.some(([from, to]) => from <= start && end <= to);
  }

  /** A copy. What has not come is waited for, and nothing else is done meanwhile. @param {number} start @param {number} end */
  read(start, end) {
    const last = Math.min(end, this.size);
    if (!this.has(start, last)) arrivalHere(/** @type {Arriving} */ (this.arriving), last);
    return this.view.slice(start, last);
  }

  /**
   * Resolves when the first of these pieces is there. The others are on their way then, unless the stream is sooner there.
   * @param {[number, number][]} pieces @param {AbortSignal} signal
   */
  async need([piece, ...guesses], signal) {
    const { arriving } = this;
    while (arriving && !this.has(...piece)) {
      const coming = this.#ahead(piece, signal);
      for (const guess of guesses.splice(0)) void this.#ahead(guess, signal)?.catch(() => undefined);
      if (coming && await Promise.race([coming, arrival(arriving, piece[1], { signal, ms: LOOK_MS })])) return; // a piece may stall
      if (coming && this.#ranges) continue;
      await arrival(arriving, piece[1], { signal, ...(this.#ranges ? { ms: this.#pieceMs } : {}) }); // so may the stream
    }
  }

  /**
   * A piece by itself, where that is sooner than the stream. @param {[number, number]} piece @param {AbortSignal} signal
   * @returns {Promise<boolean> | undefined}
   */
  #ahead([start, end], signal) {
    const under = this.#coming.find(({ from, to }) => from <= start && end <= to);
    if (under) return under.done;
    if (!this.#ranges || this.#later(end) <= this.#pieceMs) {
      this.#pieceMs = Math.max(this.#pieceMs * PATIENCE, LEAST_MS); // one that took long does not rule them out for ever
      return undefined;
    }
    const done = this.#fetch(start, end, signal);
    done.catch(() => undefined); // told to who waits for it
    this.#coming.push({ from: start, to: end, done });
    return done;
  }

  /** ms until the stream is there, as fast as it has been so far. @param {number} end */
  #later(end) {
    const { began } = /** @type {Arriving} */ (this.arriving);
    const count = arrived(/** @type {Arriving} */ (this.arriving));
    return count > 0 ? (end - count) * (Date.now() - began) / count : Infinity;
  }

  /**
   * A piece by a Range request; false where the server has none to give, or has another file by now: then nothing is
   * asked again.
   * @param {number} start @param {number} end @param {AbortSignal} signal
   */
  async #fetch(start, end, signal) {
    const { url, headers, credentials, version } = /** @type {Arriving} */ (this.arriving);
    const begun = performance.now();
    try {
      const range = { Range: `bytes=${start}-${end - 1}` };
      // not from the cache: it holds the whole back until that has come
      const answer = await fetch(url, { headers: { ...Object.fromEntries(headers), ...range }, credentials, cache: 'no-store', signal });
      const same = answer.status === 206 && versionOf(answer) === version;
      const bytes = same ? new Uint8Array(await answer.arrayBuffer()) : null;
      if (!same) void answer.body?.cancel().catch(() => undefined);
      if (bytes?.byteLength !== end - start) throw new Error(`${answer.status}, ${bytes?.byteLength} bytes`);
      this.view.set(bytes, start);
    } catch (error) {
      if (signal.aborted) throw error;
      this.#ranges = false;
      return false;
    }
    this.#pieces.push([start, end]);
    this.#pieceMs = performance.now() - begun;
    return true;
  }
}

/** What tells one content from another: the ETag, or where a foreign server does not expose it, the date. @param {Response} response */
export const versionOf = ({ headers }) => headers.get('etag') ?? headers.get('last-modified') ?? '';
