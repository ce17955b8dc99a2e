// Outputs that stay in the session's memory because they are fed again: a decoder's keys and values. A plan says which of its
// outputs are made in an input's own place, going on from what was fed (`extends`). Such an output is read there when somebody
// asks for it, and fed to the next run it is where it has to be. Before the place holds anything else, what can still be asked for is
// copied out.
import { Tensor, cameFrom, from, later, unread } from './tensor.js';
import { TYPES, viewAs } from './types.js';
import { cut, windowOf } from '../engine/windows.js';

/**
 * @typedef {import('./feeds.js').Feed} Feed
 * @typedef {import('./tensor.js').Lease} Lease
 * @typedef {import('../engine/types.js').TensorRef} TensorRef
 * @typedef {{key: string, facts: import('./shelf.js').PlanFacts}} Ran the plan of a run
 */

/** Where an input of one plan lies, and the outputs of run after run that begin with each other there. */
class Place {
  /** Tensors that have not asked for their values. */
  #readers = 0;
  /** Tensors of all that there is, with zeros behind. @type {WeakSet<Tensor>} */
  #whole = new WeakSet();

  /** @param {Uint8Array} bytes all of it, in the session's memory */
  constructor(bytes) {
    this.bytes = bytes;
  }

  /**
   * What a run has left: a tensor that begins where the place does, and ends behind all others.
   * @param {string} type @param {readonly number[]} dims @param {readonly number[]} room dims of the place @param {Lease | null} lease for how long; null: for good
   */
  next(type, dims, room, lease) {
    const tensor = this.#tensor(type, dims, room, lease);
    this.#whole = new WeakSet([tensor]);
    return tensor;
  }

  /** @param {string} type @param {readonly number[]} dims @param {readonly number[]} room @param {Lease | null} lease @returns {Tensor} */
  #tensor(type, dims, room, lease) {
    const counts = lease ? 0 : 1; // with a lease nobody asks once the memory has gone to something else
    this.#readers += counts;
    const forget = () => { this.#readers -= counts; };
    const read = () => {
      const values = partOf(this.bytes, type, dims, room);
      forget();
      return values;
    };
    const again = () => {
      const twin = this.#tensor(type, dims, room, lease);
      if (this.#whole.has(tensor)) this.#whole.add(twin);
      return from(twin, cameFrom(tensor));
    };
    const tensor = later(type, dims, { read, forget, again }, lease);
    return tensor;
  }

  /** Whether a feed is all that is there. One that was read is the caller's to change. @param {Feed | undefined} feed */
  holds(feed) {
    return feed instanceof Tensor && unread(feed) && this.#whole.has(feed);
  }

  /** There is more now than any tensor holds. */
  grown() {
    this.#whole = new WeakSet();
  }

  /** The session's memory goes to something else. */
  leave() {
    this.bytes = this.#readers > 0 ? new Uint8Array(this.bytes) : new Uint8Array();
  }
}

export class Keeping {
  /** By input. @type {Map<string, Place>} */
  #places = new Map();
  /** The plan they belong to. */
  #key = '';
  /** Of the run under way: outputs that were to stay are copied once it is over. @type {Lease} */
  #stays = { over: true };

  /**
   * A run begins: what it does not go on from is copied out, before anything is written.
   * @param {Ran} plan @param {Map<string, Feed>} feeds
   * @returns {{there: Map<string, Uint8Array>, lease: Lease}} there: by input, the place of a feed that is there already; lease: for how
   *   long outputs may stay
   */
  begins({ key, facts }, feeds) {
    /** @type {Map<string, Uint8Array>} */
    const there = new Map();
    for (const [input, place] of key === this.#key ? this.#places : []) {
      if (Object.values(facts.extends).includes(input) && place.holds(feeds.get(input))) there.set(input, place.bytes);
    }
    this.#key = key;
    for (const [input, feed] of feeds) if (!there.has(input)) read(feed); // of a place with a lease nothing is there once it is left
    for (const [input, place] of this.#places) {
      if (there.has(input)) continue;
      place.leave();
      this.#places.delete(input);
    }
    this.#stays = { over: false };
    return { there, lease: this.#stays };
  }

  /**
   * Outputs that are worth keeping: their input was fed what an earlier run gave, or the caller asks for it.
   * @param {Ran} plan @param {Map<string, Feed>} feeds @param {(name: string) => boolean} asked
   * @returns {Map<string, string>} output -> input
   */
  wanted({ facts }, feeds, asked) {
    const again = (/** @type {Feed | undefined} */ feed) => feed instanceof Tensor && cameFrom(feed) === this;
    return new Map(Object.entries(facts.extends).filter(([output, input]) => asked(output) || again(feeds.get(input))));
  }

  /**
   * What a run has left in the place of an input.
   * @param {string} input @param {TensorRef} ref as the plan has it @param {readonly number[]} dims of the output @param {Uint8Array} bytes all of the
   *   place in the session's memory, or a copy of it @param {Lease | null} lease
   */
  made(input, ref, dims, bytes, lease) {
    if (bytes.buffer instanceof ArrayBuffer) return new Tensor(ref.type, partOf(bytes, ref.type, dims, ref.dims), dims);
    const place = this.#places.get(input) ?? new Place(bytes);
    this.#places.set(input, place);
    return place.next(ref.type, dims, ref.dims, lease);
  }

  /** A run has ended. Places where it left what no tensor stands for are done with. @param {Set<string | undefined>} filled inputs whose places have their new output */
  ended(filled) {
    for (const [input, place] of this.#places) if (!filled.has(input)) place.grown();
  }

  /** The session's memory is about to change. */
  leave() {
    this.#stays.over = true;
    for (const place of this.#places.values()) place.leave();
    this.#places.clear();
  }
}

/** Gives what has not asked for its values a copy of them. @param {Feed} feed */
function read(feed) {
  if (Array.isArray(feed)) feed.forEach(read);
  else if (feed instanceof Tensor && unread(feed)) void feed.data;
}

/**
 * The elements of an array in one with more room, as an array of its own.
 * @param {Uint8Array} bytes @param {string} type @param {readonly number[]} dims @param {readonly number[]} room
 */
function partOf(bytes, type, dims, room) {
  const window = windowOf(dims, room, TYPES[type].bits / 8);
  if (!window) return viewAs(type, new Uint8Array(bytes));
  const part = new Uint8Array(window.nbytes);
  cut(window, bytes, part);
  return viewAs(type, part);
}
