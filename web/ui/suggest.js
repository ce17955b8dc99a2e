// Sizes for a form nobody has filled in: the page's guesses, brought to what the open model's graph takes (a table of
// positions has 77 rows, a flattened picture 784). Takes a session, sizes by symbol and what inputs are filled with.
import { concrete, symbolOf } from './generate.js';
import { kindOf } from './tensors.js';

/** @typedef {import('./api.js').Metadata} Metadata */
/** @typedef {import('./generate.js').Recipe} Recipe */
/** @typedef {{dims: Map<string, number>, highest: Record<string, number>, reason: string}} Suggested dims: those that differ */

/**
 * @param {import('../nnjit.js').InferenceSession} session
 * @param {ReadonlyMap<string, number>} dims
 * @param {readonly {input: Metadata, recipe: Recipe}[]} rows
 * @returns {Promise<Suggested>}
 */
export async function suggest(session, dims, rows) {
  const tensors = rows.filter(({ input }) => input.isTensor);
  const shapes = Object.fromEntries(tensors.map(({ input }) => [input.name, concrete(input, dims)]));
  const whole = tensors.filter(({ input }) => kindOf(input.type)?.family === 'int');
  const made = Object.fromEntries(whole.map(({ input, recipe }) => [input.name, highestOf(recipe)]));
  const found = await session.suggest(shapes, made);
  /** @type {Map<string, number>} */
  const others = new Map();
  for (const { input } of tensors) {
    found.shapes[input.name].forEach((size, axis) => {
      const symbol = symbolOf(input, axis);
      if (symbol !== null && dims.get(symbol) !== size) others.set(symbol, size);
    });
  }
  return { dims: others, highest: found.highest, reason: found.reason };
}

/** @param {Recipe} recipe @returns {number | null} null: it counts along the last axis */
function highestOf({ fill, high }) {
  if (fill === 'count') return null;
  return fill === 'zeros' ? 0 : fill === 'ones' ? 1 : Math.trunc(high);
}
