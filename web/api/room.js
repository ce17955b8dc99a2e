// Plans with room: made for a capacity, they serve every length up to it. Takes what the compiler says of such a plan and the
// shapes of a request; gives the request's length, or null where the plan does not serve it.

/**
 * least..most: the lengths n it serves; length: the plan's own input that is told n; inputs: the axes of inputs that are
 * n + offset long; outputs: those that are factor * n + offset.
 * @typedef {{least: number, most: number, length: string, inputs: Record<string, [axis: number, offset: number][]>,
 *   outputs: Record<string, [axis: number, factor: number, offset: number][]>}} Room
 * @typedef {Record<string, readonly number[]>} Shapes
 */

/**
 * @param {Room} room @param {Shapes} made the shapes that the plan was made for @param {Shapes} shapes of some inputs
 * @returns {number | null}
 */
export function lengthIn({ least, most, inputs }, made, shapes) {
  let length = null;
  for (const [name, dims] of Object.entries(shapes)) {
    const known = made[name];
    if (known?.length !== dims.length) return null;
    for (let axis = 0; axis < dims.length; axis++) {
      const grows = inputs[name]?.find(([which]) => which === axis);
      if (!grows && dims[axis] !== known[axis]) return null;
      if (!grows) continue;
      const n = dims[axis] - grows[1];
      if (length !== null && n !== length) return null;
      length = n;
    }
  }
  return length !== null && least <= length && length <= most ? length : null;
}

/** The shapes of a request of length n. @param {Room} room @param {Shapes} made @param {number} n @returns {Record<string, number[]>} */
export function shapesAt({ inputs }, made, n) {
  return Object.fromEntries(Object.entries(made).map(([name, dims]) => {
    const shape = [...dims];
    for (const [axis, offset] of inputs[name] ?? []) shape[axis] = n + offset;
    return [name, shape];
  }));
}

/** An output's dims at length n. @param {Room} room @param {string} name @param {readonly number[]} dims at capacity @param {number} n */
export function outputDims({ outputs }, name, dims, n) {
  const shape = [...dims];
  for (const [axis, factor, offset] of outputs[name] ?? []) shape[axis] = factor * n + offset;
  return shape;
}
