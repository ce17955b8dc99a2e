// A model's bytes while they come and are put away: in memory that all workers see, so that nobody waits until they are
// in a Blob or a file, which takes three times as long as their way from a server nearby. Takes bytes in order; gives
// them, what is there of them meanwhile, and the Blob once there is one.
import { announce, arriving, give } from '../engine/arrival.js';
import { collect } from '../engine/garbage.js';
import { log } from './env.js';
import { PIECE, Stash, readable } from './stash.js';

/** Smaller models are Blobs at once. */
const LEAST = 1 << 20;

/** The part of the device's memory (in GiB; 4 where the browser does not tell) that a model may take meanwhile. */
const PART = 1 / 8;

/**
 * Putting away takes the page's thread from a session that is being made: it waits until none has been for so many ms. Like
 * the two above it is needed before there is a compiler to ask.
 */
const QUIET_MS = 200;

let making = 0;
/** @type {(() => void)[]} */
let waiting = [];

/**
 * Work that a session's first result waits for.
 * @template T
 * @param {() => Promise<T>} work @returns {Promise<T>}
 */
export async function beforehand(work) {
  making++;
  try {
    return await work();
  } finally {
    if (!--making) look();
  }
}

/** Who waits for quiet sees whether it has come. */
const look = () => {
  for (const go of waiting.splice(0)) go();
};

/** @param {number} ms resolves when no session has been made for that long @param {() => boolean} wanted or nobody waits for it any more */
export async function quiet(ms, wanted) {
  for (let calm = false; !calm && wanted();) {
    while (making && wanted()) await new Promise((go) => waiting.push(() => go(null)));
    if (ms && wanted()) await new Promise((later) => setTimeout(later, ms));
    calm = !making;
  }
}

export class Held {
  /** Bytes that have come. */
  #got = 0;
  /** Called with an error where no more will come. @type {(error?: Error) => void} */
  #end = () => {};
  /** Called when all have come, or none are wanted any more. */
  #over = () => {};
  #dropped = false;
  #wanted = () => !this.#dropped;
  #drop = () => {};

  /** @param {Uint8Array} view over shared memory */
  constructor(view) {
    this.view = view;
    /** What readers get until all bytes are there. */
    this.arriving = arriving(view);
    /** Resolves when they are, rejects when they will not be. @type {Promise<void>} */
    this.arrived = new Promise((resolve, reject) => {
      this.#end = (error) => (error ? reject(error) : resolve());
    });
    this.arrived.catch(() => undefined);
    /** The Blob; null where the browser has no room for one and the memory has to stay. @type {Promise<Blob | null>} */
    this.settled = this.#settle();
  }

  /**
   * Room for so many bytes; null where there is none: the size is unknown, the page is not isolated, memory is short.
   * @param {number} size @returns {Held | null}
   */
  static of(size) {
    const { deviceMemory = 4 } = /** @type {{deviceMemory?: number}} */ (globalThis.navigator ?? {});
    if (!globalThis.crossOriginIsolated || size < LEAST || size > deviceMemory * PART * 2 ** 30) return null;
    try {
      return new Held(new Uint8Array(new SharedArrayBuffer(size)));
    } catch {
      return null;
    }
  }

  /** @param {Uint8Array} chunk copied; RangeError where more comes than there is room for */
  add(chunk) {
    if (this.#dropped) return; // the last of a transfer that was ended
    this.view.set(chunk, this.#got);
    this.#got += chunk.byteLength;
    if (this.#got > this.#told) announce(this.arriving, this.#told = this.#got);
    if (this.#got < this.view.byteLength) return;
    this.#end();
    this.#over();
  }

  /** Bytes that readers know of. */
  #told = 0;

  /** Some have not come yet. */
  get missing() {
    return this.#told < this.view.byteLength;
  }

  /** The same bytes come once more, from the first one on. */
  rewind() {
    this.#got = 0;
  }

  /** No more will come. @param {Error} error */
  fail(error) {
    if (this.missing) give(this.arriving);
    this.#end(error);
    this.drop();
  }

  /** Only once all have come: meanwhile this thread has enough to do with taking them. */
  async #settle() {
    await new Promise((over) => (this.#over = () => over(null)));
    await quiet(QUIET_MS, this.#wanted);
    for (const disk of [false, true]) {
      if (this.#dropped) return null;
      const stashed = await this.#putAway(new Stash(this.view.byteLength, disk)).catch(() => {
        this.#drop(); // what was written of it is of no use
        return undefined;
      });
      if (stashed && !this.#dropped && await readable(stashed.blob)) {
        this.#drop = stashed.drop;
        return stashed.blob;
      }
      stashed?.drop();
    }
    if (this.#dropped) return null;
    log('warning', `the browser has no room to put ${this.view.byteLength} bytes of a model away: they stay in memory`);
    return null;
  }

  /** @param {Stash} stash */
  async #putAway(stash) {
    this.#drop = () => stash.drop();
    for (let at = 0; at < this.view.byteLength && !this.#dropped; at += PIECE) {
      if (making) await quiet(0, this.#wanted);
      await stash.add(this.view.slice(at, at + PIECE));
    }
    return stash.close();
  }

  /** The memory is not needed any more: whoever reads has the Blob, or nobody does. */
  forget() {
    if (!this.view.byteLength) return;
    this.view = new Uint8Array(0);
    this.arriving = { ...this.arriving, view: this.view }; // who reads still has the old one
    setTimeout(collect);
  }

  /** The bytes are not needed any more, whether they have been put away or not. */
  drop() {
    this.#dropped = true;
    this.#over();
    this.#drop();
    this.forget();
    look();
  }
}
