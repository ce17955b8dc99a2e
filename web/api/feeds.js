// Feeds against the model's declarations, before anything runs. Takes what the user passed to run(); gives the
// tensors in declared order, or an error that says which input, what was expected and what came.
import { failure, nearestName } from './errors.js';
import { Tensor, copied } from './tensor.js';
import { isDetached } from './values.js';

/**
 * @typedef {Tensor | FeedList | null} Feed
 * @typedef {Feed[]} FeedList  a sequence
 * @typedef {{name: string, kind: string, type: string, dims: (number | string | null)[] | null, optional: boolean}} Declared
 */

/** Feeds that are read: what becomes of them is nobody's concern any more. @type {WeakSet<Map<string, Feed>>} */
export const READ = new WeakSet();

/**
 * Feeds of a call that has to wait: what their caller does with them from now on changes nothing. Buffers of the GPU stay his.
 * @param {Map<string, Feed>} feeds get copies
 */
export function copyFeeds(feeds) {
  for (const [name, feed] of feeds) feeds.set(name, copyOf(feed));
}

/** @param {Feed} feed @returns {Feed} */
export const copyOf = (feed) => (Array.isArray(feed) ? feed.map(copyOf) : feed instanceof Tensor ? copied(feed) : feed);

/**
 * @param {readonly Declared[]} declared @param {unknown} given
 * @returns {Map<string, Feed>}
 */
export function checkFeeds(declared, given) {
  if (typeof given !== 'object' || given === null || given instanceof Tensor || Array.isArray(given)) {
    throw failure('FEED', 'run() takes an object of tensors by input name', {
      reason: 'type',
      hint: `session.run({${declared.map((d) => d.name).join(', ')}})`,
    });
  }
  const feeds = /** @type {Record<string, unknown>} */ (given);
  const names = declared.map((d) => d.name);
  checkNames(declared, names, Object.keys(feeds));
  /** @type {Map<string, Feed>} */
  const checked = new Map();
  for (const input of declared) {
    const value = feeds[input.name];
    if (value === undefined && input.kind !== 'optional') continue;
    checked.set(input.name, checkValue(input, value ?? null));
  }
  return checked;
}

/** @param {readonly Declared[]} declared @param {string[]} names @param {string[]} given */
function checkNames(declared, names, given) {
  const unknown = given.find((name) => !names.includes(name));
  const missing = declared.filter((d) => !d.optional && d.kind !== 'optional' && !given.includes(d.name)).map((d) => d.name);
  if (unknown !== undefined) {
    const near = nearestName(unknown, missing.length ? missing : names);
    throw failure('FEED', `The model has no input '${unknown}'`, {
      reason: 'unknown',
      input: unknown,
      expected: names,
      hint: near ? `did you mean '${near}'?` : `inputs: ${names.join(', ') || 'none'}`,
    });
  }
  if (missing.length) {
    const list = missing.map((name) => `'${name}'`).join(', ');
    throw failure('FEED', `No feed for input${missing.length > 1 ? 's' : ''} ${list}`, {
      reason: 'missing',
      input: missing[0],
      missing,
      hint: 'pass a tensor for every name in session.inputNames',
    });
  }
}

/**
 * Shapes by input name, as prepare() and suggest() take them: dims, or a tensor that has them.
 * @param {readonly Declared[]} inputs @param {unknown} shapes @param {string} call how it is written
 * @returns {Map<string, {dims: number[], tensor: Tensor | null}>}
 */
export function checkShapes(inputs, shapes, call) {
  if (typeof shapes !== 'object' || shapes === null) {
    throw failure('FEED', `${call}() takes an object of shapes by input name`, { reason: 'type', hint: `session.${call}({ ${inputs[0]?.name ?? 'x'}: [1, 128] })` });
  }
  /** @type {Map<string, {dims: number[], tensor: Tensor | null}>} */
  const found = new Map();
  for (const [name, given] of Object.entries(shapes)) {
    const input = inputs.find((each) => each.name === name);
    if (!input) {
      const names = inputs.map((each) => each.name);
      const near = nearestName(name, names);
      const hint = near ? `did you mean '${near}'?` : `inputs: ${names.join(', ') || 'none'}`;
      throw failure('FEED', `The model has no input '${name}'`, { reason: 'unknown', input: name, expected: names, hint });
    }
    const tensor = given instanceof Tensor ? given : null;
    const from = tensor?.dims ?? given;
    const dims = typeof from === 'object' && Symbol.iterator in (from ?? {}) ? [...from] : from;
    if (!Array.isArray(dims) || !dims.every((n) => Number.isInteger(n) && n >= 0)) {
      const got = Array.isArray(dims) ? dims.map((n) => (typeof n === 'bigint' ? `${n}n` : n)) : dims; // JSON knows no bigint
      throw wrong(input, 'shape', `takes a list of sizes such as [1, 128], not ${JSON.stringify(got) ?? String(got)}`, { got });
    }
    found.set(name, { dims, tensor });
  }
  return found;
}

/** @param {Declared} input @param {unknown} value @returns {Feed} */
function checkValue(input, value) {
  if (input.kind === 'optional' && value === null) return null;
  if (input.kind === 'sequence' || (input.kind === 'optional' && Array.isArray(value))) return checkSequence(input, value);
  if (!isTensor(value)) {
    const got = value === null ? 'null' : (/** @type {any} */ (value).constructor?.name ?? typeof value);
    throw wrong(input, 'type', `takes a Tensor, not ${got}`, { got, hint: `new nnjit.Tensor('${input.type}', data, dims)` });
  }
  const tensor = checkThere(input, value);
  if (input.kind === 'optional') return tensor;
  if (tensor.type !== input.type) {
    throw wrong(input, 'type', `is ${input.type}, the feed is ${tensor.type}`, {
      expected: input.type,
      got: tensor.type,
      dtype: tensor.type,
      hint: `make it with new nnjit.Tensor('${input.type}', …)`,
    });
  }
  checkDims(input, tensor.dims);
  return tensor;
}

/**
 * A tensor of ours, or one of another library of the same form (onnxruntime-common's).
 * @param {any} value @returns {value is {type: string, data: any, dims: readonly number[]}}
 */
const isTensor = (value) =>
  value instanceof Tensor || (typeof value?.type === 'string' && Array.isArray(value?.dims) && value?.data !== undefined);

/** @param {Declared} input @param {Tensor | {type: string, data: any, dims: readonly number[]}} value @returns {Tensor} one that has its data */
function checkThere(input, value) {
  const tensor = value instanceof Tensor ? value : new Tensor(value.type, value.data, value.dims);
  if (tensor.location === 'none') throw wrong(input, 'disposed', 'was fed a tensor that had been disposed of');
  if (tensor.location === 'cpu' && isDetached(tensor)) {
    const hint = 'copy the array before its buffer is sent away, or feed the one that came back';
    throw wrong(input, 'detached', 'was fed an array whose buffer is detached: it was sent to a worker', { hint });
  }
  return tensor;
}

/** @param {Declared} input @param {unknown} value @returns {Feed[]} */
function checkSequence(input, value) {
  if (!Array.isArray(value)) throw wrong(input, 'type', 'is a sequence and takes an array of tensors');
  return value.map((item) => {
    if (!isTensor(item)) throw wrong(input, 'type', 'is a sequence: every entry must be a Tensor');
    return checkThere(input, item);
  });
}

/** @param {Declared} input @param {readonly number[]} dims */
function checkDims(input, dims) {
  if (!input.dims) return;
  /** @type {Record<string, unknown>} */
  const facts = { expected: input.dims, got: [...dims] };
  const shape = `[${input.dims.map((d) => d ?? '?').join(', ')}]`;
  if (dims.length !== input.dims.length) {
    throw wrong(input, 'rank', `has ${input.dims.length} axes ${shape}, the feed has ${dims.length} [${dims.join(', ')}]`, {
      ...facts,
      hint: `give the tensor's dims as ${shape}`,
    });
  }
  // Symbols are not compared between inputs: exporters reuse their names carelessly. Python's ShapeError says so
  // when sizes that should be equal turn out not to be.
  input.dims.forEach((expected, axis) => {
    if (typeof expected === 'number' && dims[axis] !== expected) {
      throw wrong(input, 'shape', `is ${shape}, the feed is [${dims.join(', ')}]: axis ${axis} must be ${expected}`, {
        ...facts,
        hint: 'the model fixes that size: bring the data to it, or export the model with the axis left open',
      });
    }
  });
}

/** @param {Declared} input @param {string} reason @param {string} what @param {Record<string, unknown>} [facts] */
const wrong = (input, reason, what, facts = {}) => failure('FEED', `Input '${input.name}' ${what}`, { reason, input: input.name, ...facts });
