// Feeds made up for timing: numbers in [-1, 1) for floats, 0 or 1 for integers (a valid index into anything).
import { numberToHalf } from '../engine/halves.js';
import { failure } from './errors.js';
import { Tensor } from './tensor.js';
import { TYPES, entriesFor } from './types.js';

/**
 * @param {readonly import('./feeds.js').Declared[]} declared
 * @param {readonly import('../engine/types.js').ValueRef[]} refs  the plan's inputs, which know their dims
 * @returns {Map<string, import('./feeds.js').Feed>}
 */
export function generateFeeds(declared, refs) {
  const random = mulberry32(1);
  return new Map(
    refs.map((ref) => {
      const type = declared.find((d) => d.name === ref.name)?.type ?? ref.type;
      if (ref.host || !TYPES[type]) {
        throw failure('BAD_ARGUMENT', `Input '${ref.name}' (${type}) cannot be made up`, { hint: 'pass feeds' });
      }
      return [ref.name, generate(type, ref.dims, random)];
    }),
  );
}

/**
 * For the shapes that a plan was made for, whatever it has room for.
 * @param {readonly import('./feeds.js').Declared[]} declared @param {import('./shelf.js').Prepared} plan one that has steps
 */
export function feedsFor(declared, { facts, room, request: { shapes } }) {
  const refs = facts?.inputs.filter(({ name }) => !room?.lengths.some((length) => length.name === name)) ?? [];
  return generateFeeds(declared, refs.map((ref) => (ref.host || !room?.inputs[ref.name] ? ref : { ...ref, dims: shapes[ref.name] })));
}

/** @param {string} type @param {readonly number[]} dims @param {() => number} random */
function generate(type, dims, random) {
  const length = entriesFor(type, dims.reduce((n, d) => n * d, 1));
  const data = new TYPES[type].array(length);
  const isFloat = type.startsWith('float') && TYPES[type].bits >= 16;
  const isHalfBits = type === 'float16' && data instanceof Uint16Array;
  for (let i = 0; i < length; i++) {
    if (isFloat) data[i] = isHalfBits ? numberToHalf(random() * 2 - 1) : random() * 2 - 1;
    else if (data instanceof BigInt64Array || data instanceof BigUint64Array) data[i] = BigInt(Math.floor(random() * 2));
    else data[i] = type === 'bfloat16' ? 0x3f00 : Math.floor(random() * 2);
  }
  return new Tensor(type, data, dims);
}

/** A small seeded generator (Tommy Ettinger's mulberry32, public domain), so that two runs time the same numbers. @param {number} seed */
function mulberry32(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
