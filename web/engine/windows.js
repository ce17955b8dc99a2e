// An array's place inside a larger one of the same rank, at the beginning of every axis: what a plan with room for longer
// inputs is fed, and what its outputs hold. Takes dims; gives copies in either direction, many bytes at a time.

/**
 * whole: bytes of the larger array; nbytes: of the smaller one, whose elements follow each other in pieces of `length` bytes;
 * loops: how the pieces lie, from the outside in, `near` bytes apart in the smaller and `far` in the larger array.
 * @typedef {{whole: number, nbytes: number, length: number, loops: {count: number, near: number, far: number}[]}} Window
 */

/** Pieces of fewer bytes are copied byte by byte: a call for each would cost more. */
const SHORT = 32;

/**
 * @param {readonly number[]} dims @param {readonly number[]} room dims of the larger array, none less
 * @param {number} size bytes of an element
 * @returns {Window | null} null: they are the same array
 */
export function windowOf(dims, room, size) {
  let last = dims.length - 1;
  while (last >= 0 && dims[last] === room[last]) last--;
  if (last < 0) return null;
  let [near, far] = [size, size];
  for (let axis = dims.length - 1; axis > last; axis--) near = far *= dims[axis];
  const length = near * dims[last];
  near = length;
  far *= room[last];
  /** @type {Window['loops']} */
  const loops = [];
  for (let axis = last - 1; axis >= 0; axis--) {
    const outer = loops[0];
    // one loop goes through two axes where the inner one is whole
    if (outer && outer.count * outer.far === far) outer.count *= dims[axis];
    else if (dims[axis] !== 1) loops.unshift({ count: dims[axis], near, far });
    near *= dims[axis];
    far *= room[axis];
  }
  return { whole: far, nbytes: near, length: near ? length : 0, loops: near ? loops : [] };
}

/**
 * Where the pieces begin in either array, in the smaller one's order.
 * @param {Window} window
 * @returns {Generator<[number, number]>} near, far
 */
export function* pieces({ length, loops }) {
  if (!length) return;
  const at = loops.map(() => 0);
  let [near, far] = [0, 0];
  for (;;) {
    yield [near, far];
    let axis = loops.length - 1;
    for (; axis >= 0; axis--) {
      const loop = loops[axis];
      near += loop.near;
      far += loop.far;
      if (++at[axis] < loop.count) break;
      near -= loop.count * loop.near;
      far -= loop.count * loop.far;
      at[axis] = 0;
    }
    if (axis < 0) return;
  }
}

/**
 * The smaller array's elements into the larger one, zeros beside them.
 * @param {Window} window @param {Uint8Array} from @param {Uint8Array} to all of the larger array
 */
export function spread(window, from, to) {
  let filled = 0;
  for (const [near, far] of pieces(window)) {
    if (far > filled) to.fill(0, filled, far);
    copy(from, near, to, far, window.length);
    filled = far + window.length;
  }
  to.fill(0, filled);
}

/**
 * The smaller array out of the larger one.
 * @param {Window} window @param {Uint8Array} from all of the larger array @param {Uint8Array} to
 */
export function cut(window, from, to) {
  for (const [near, far] of pieces(window)) copy(from, far, to, near, window.length);
}

/** @param {Uint8Array} from @param {number} start @param {Uint8Array} to @param {number} at @param {number} length */
function copy(from, start, to, at, length) {
  if (length >= SHORT) to.set(from.subarray(start, start + length), at);
  else for (let i = 0; i < length; i++) to[at + i] = from[start + i];
}
