// Made-up inputs for a model nobody has written a demo for. Takes an input's name, type and declared
// shape; returns a sensible size for each open dimension, a recipe, and data drawn from a seed (the same
// seed gives the same numbers).
import { kindOf, sizeOf, write } from './tensors.js';

/** @typedef {import('./api.js').Metadata} Metadata */
/** @typedef {import('./api.js').Data} Data */
/** @typedef {'uniform' | 'normal' | 'zeros' | 'ones' | 'count'} Fill */
/** @typedef {{fill: Fill, low: number, high: number}} Recipe */

/** First rule whose pattern matches the symbol's name wins. @type {[RegExp, number][]} */
const DIM_RULES = [
  [/batch|^n$|^b$|^bs$/i, 1],
  [/past|cache|prev/i, 1],
  [/total/i, 129],
  [/target|decoder|label/i, 16],
  [/seq|tokens?|text|length|^t$|^l$|^s$/i, 128],
  [/height|width|size|^h$|^w$|spatial/i, 224],
  [/channel|^c$/i, 3],
  [/sample|audio|wave|frames?|time/i, 16000],
  [/head/i, 8],
  [/num|count/i, 1],
];

/**
 * The name under which an open dimension is asked for: its symbol, or `input[axis]` where the model gives none.
 * @param {Metadata} input
 * @param {number} axis
 * @returns {string | null} null when the dimension is fixed
 */
export function symbolOf(input, axis) {
  const dim = input.shape[axis];
  if (typeof dim === 'number' && dim >= 0) return null;
  // Exporters use these for "unknown", each time anew: they are not one symbol.
  if (typeof dim !== 'string' || dim === '' || dim === '?') return `${input.name}[${axis}]`;
  return dim;
}

/**
 * @param {Metadata} input
 * @param {number} axis
 */
function defaultDim(input, axis) {
  const rank = input.shape.length;
  const dim = input.shape[axis];
  if (typeof dim === 'string') {
    for (const [pattern, size] of DIM_RULES) if (pattern.test(dim)) return size;
  }
  if (axis === 0) return 1;
  if (rank === 4) return axis === 1 ? 3 : 224;
  if (rank === 2 && kindOf(input.type)?.family === 'int') return 128;
  return rank === 3 ? 128 : 1;
}

/**
 * Open dimensions of all inputs, each symbol once, in the order they appear.
 * @param {readonly Metadata[]} inputs
 * @returns {Map<string, number>}
 */
export function openDims(inputs) {
  const dims = new Map();
  for (const input of inputs) {
    input.shape.forEach((_, axis) => {
      const symbol = symbolOf(input, axis);
      if (symbol && !dims.has(symbol)) dims.set(symbol, defaultDim(input, axis));
    });
  }
  return dims;
}

/**
 * @param {Metadata} input
 * @param {ReadonlyMap<string, number>} dims
 * @returns {number[]}
 */
export function concrete(input, dims) {
  return input.shape.map((dim, axis) => {
    const symbol = symbolOf(input, axis);
    return symbol === null ? Number(dim) : (dims.get(symbol) ?? defaultDim(input, axis));
  });
}

/**
 * What to put into an input, judged by its name and type.
 * @param {Metadata} input
 * @returns {Recipe}
 */
export function recipeFor(input) {
  const family = kindOf(input.type)?.family ?? 'string';
  const name = input.name.toLowerCase();
  if (/mask/.test(name) || family === 'bool') return { fill: 'ones', low: 0, high: 1 };
  if (/state|past|cache|hidden|h0|c0/.test(name) && family === 'float')
    return { fill: 'zeros', low: -1, high: 1 };
  if (family === 'float') {
    return input.shape.length === 4
      ? { fill: 'uniform', low: 0, high: 1 }
      : { fill: 'normal', low: -1, high: 1 };
  }
  if (/token_type|segment/.test(name)) return { fill: 'zeros', low: 0, high: 1 };
  if (/position/.test(name)) return { fill: 'count', low: 0, high: 511 };
  if (/^sr$|sample_?rate/.test(name)) return { fill: 'uniform', low: 16000, high: 16000 };
  if (/byte|pixel|image/.test(name)) return { fill: 'uniform', low: 0, high: 255 };
  // Token ids: every vocabulary holds the first hundred, and an id past its end is an error.
  return { fill: 'uniform', low: 0, high: 99 };
}

/**
 * mulberry32 (Tommy Ettinger's public-domain generator): 32 bits of state, uniform in [0, 1).
 * @param {number} seed
 */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * @param {string} text
 * @param {number} seed
 */
function mix(text, seed) {
  let hash = seed >>> 0;
  for (const char of text) hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 0x01000193) >>> 0;
  return hash;
}

/**
 * @param {Metadata} input
 * @param {readonly number[]} dims
 * @param {Recipe} recipe
 * @param {number} seed
 * @returns {Data}
 * @throws {Error} for a type the page cannot make, or a tensor past 2 GB
 */
export function generate(input, dims, recipe, seed) {
  const kind = kindOf(input.type);
  if (!kind)
    throw new Error(`The page cannot make ${input.type} values; feed ${input.name} from the console.`);
  const n = sizeOf(dims);
  if (n * Math.max(kind.size, 1) > 2 ** 31)
    throw new Error(
      `${input.name} would take ${((n * kind.size) / 1e9).toFixed(1)} GB; choose smaller dimensions.`,
    );
  const data = kind.make(n);
  const next = random(mix(input.name, seed));
  const { low, high } = recipe;
  const whole = kind.family !== 'float';
  for (let i = 0; i < n; i++) {
    let x = 0;
    if (recipe.fill === 'ones') x = 1;
    else if (recipe.fill === 'count') x = low + (i % (dims.at(-1) ?? 1));
    else if (recipe.fill === 'uniform')
      x = whole ? low + Math.floor(next() * (high - low + 1)) : low + next() * (high - low);
    else if (recipe.fill === 'normal') {
      // Box–Muller, its standard deviation a third of the range so that almost all values lie inside it.
      const normal = Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
      x = (low + high) / 2 + (normal * (high - low)) / 6;
    }
    write(input.type, data, i, x);
  }
  return data;
}
