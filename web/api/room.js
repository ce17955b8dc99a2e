// Plans with room: made for a capacity, they serve every length up to it. Takes what the compiler says of such a plan and the
// shapes of a request; gives the request's numbers, one for each length that moves by itself, or null where the plan does not
// serve it.

/**
 * A length: `offset`, and `factor` times number `root` of a request for each term, which was first taken through the steps
 * [a, r, s]: v becomes (a * v + r) / s, rounded down.
 * @typedef {{offset: number, terms: [factor: number, root: number, steps: [a: number, r: number, s: number][]][]}} Length
 * Work, in multiply-adds: each so often as the lengths say.
 * @typedef {[each: number, dims: Length[]][]} Work
 * lengths: the plan's own inputs that are told the numbers, and those it serves; inputs, outputs: the axes that grow; run, exact:
 * what a run does, and what an exact plan would; times, more: how much more that may be where this plan is used; null: anything.
 * @typedef {{lengths: {name: string, least: number, most: number}[], run: Work, exact: Work, times: number | null, more: number | null,
 *   inputs: Record<string, [axis: number, length: Length][]>, outputs: Record<string, [axis: number, length: Length][]>}} Room
 * @typedef {Record<string, readonly number[]>} Shapes
 */

/** @param {Length} length @param {readonly number[]} n of a request */
function at({ offset, terms }, n) {
  let sum = offset;
  for (const [factor, root, steps] of terms) {
    let value = n[root];
    for (const [a, r, s] of steps) value = Math.floor((a * value + r) / s);
    sum += factor * value;
  }
  return sum;
}

/**
 * @param {Room} room @param {Shapes} made the shapes that the plan was made for @param {Shapes} shapes of all inputs
 * @returns {number[] | null}
 */
export function numbersIn(room, made, shapes) {
  const n = numbersOf(room, shapes);
  if (!n || !room.lengths.every(({ least, most }, i) => least <= n[i] && n[i] <= most)) return null;
  if (!pays(room, n)) return null;
  for (const [name, dims] of Object.entries(shapes)) {
    if (made[name]?.length !== dims.length) return null;
    const held = shapesAt(room, { [name]: made[name] }, n)[name];
    if (dims.some((d, axis) => d !== held[axis])) return null;
  }
  return n;
}

/** @param {Work} work @param {readonly number[]} n */
export const workAt = (work, n) => work.reduce((sum, [each, dims]) => sum + dims.reduce((product, d) => product * at(d, n), each), 0);

/** Whether a plan does not do too much in vain. @param {Room} room @param {readonly number[]} n */
function pays({ run, exact, times, more }, n) {
  if (times === null || more === null) return true;
  const least = workAt(exact, n);
  return workAt(run, n) <= Math.max(least * times, least + more);
}

/** The numbers of a request, as those axes tell that only one of them is in. @param {Room} room @param {Shapes} shapes @returns {number[] | null} */
function numbersOf({ lengths, inputs }, shapes) {
  /** @type {number[]} */
  const n = lengths.map(() => NaN);
  for (const [name, axes] of Object.entries(inputs)) {
    for (const [axis, { offset, terms: [[factor, root], ...others] }] of axes) {
      if (!others.length && Number.isNaN(n[root])) n[root] = ((shapes[name]?.[axis] ?? NaN) - offset) / factor;
    }
  }
  return n.every(Number.isInteger) ? n : null;
}

/** The shapes of a request. @param {Room} room @param {Shapes} made @param {readonly number[]} n @returns {Record<string, number[]>} */
export function shapesAt({ inputs }, made, n) {
  return Object.fromEntries(Object.entries(made).map(([name, dims]) => [name, dimsAt(inputs[name], dims, n)]));
}

/** An output's dims. @param {Room} room @param {string} name @param {readonly number[]} dims at capacity @param {readonly number[]} n */
export const outputDims = ({ outputs }, name, dims, n) => dimsAt(outputs[name], dims, n);

/** @param {[axis: number, length: Length][] | undefined} axes that grow @param {readonly number[]} dims @param {readonly number[]} n */
function dimsAt(axes, dims, n) {
  const found = [...dims];
  for (const [axis, length] of axes ?? []) found[axis] = at(length, n);
  return found;
}
