// Tensors to and from the plain {type, dims, data} that crosses between workers: numbers as bytes in a
// Uint8Array, strings as they are, a sequence as {type: 'sequence', data: [...]}, a map as its keys and values, an
// absent optional as 'none'.
import { failure } from './errors.js';
import { Tensor, fill, unread } from './tensor.js';
import { viewAs } from './types.js';

/** @typedef {import('./feeds.js').Feed} Feed */
/** @typedef {{type: string, dims: number[], data: any}} Value */

/** @param {Feed} feed @returns {Value} */
export function toValue(feed) {
  if (feed === null) return { type: 'none', dims: [], data: null };
  if (Array.isArray(feed)) return { type: 'sequence', dims: [feed.length], data: feed.map(toValue) };
  if (feed.type === 'string') return { type: feed.type, dims: [...feed.dims], data: feed.data };
  const bytes = bytesOf(feed);
  // whoever takes it may look when the session's memory holds something else
  return { type: feed.type, dims: [...feed.dims], data: feed.location === 'cpu-pinned' ? bytes.slice() : bytes };
}

/** A view of a numeric tensor's bytes, not a copy. @param {Tensor} tensor @returns {Uint8Array} */
export function bytesOf(tensor) {
  const data = /** @type {ArrayBufferView} */ (/** @type {unknown} */ (tensor.data));
  if (isDetached(tensor)) {
    throw failure('TENSOR_DISPOSED', "This tensor's buffer is detached: it was sent to a worker before the run came to it", {
      hint: 'await run() before sending what it was fed',
    });
  }
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** Whether the buffer under a numeric tensor's data has gone to another thread. @param {Tensor} tensor */
export function isDetached(tensor) {
  if (unread(tensor)) return false;
  const data = /** @type {ArrayBufferView} */ (/** @type {unknown} */ (tensor.data));
  return tensor.size > 0 && ArrayBuffer.isView(data) && data.byteLength === 0;
}

/** @param {Value} value @returns {Feed} */
export function fromValue(value) {
  if (value.type === 'none') return null;
  if (value.type === 'sequence') return value.data.map(fromValue);
  if (value.type === 'map') return mapOf(value);
  if (value.type === 'string') return new Tensor('string', value.data, value.dims);
  return new Tensor(value.type, viewAs(value.type, value.data), value.dims);
}

/** Labels to numbers, as ZipMap of ai.onnx.ml gives them. @param {Value} value @returns {any} */
function mapOf(value) {
  const [keys, numbers] = value.data.map((/** @type {Value} */ part) => /** @type {Tensor} */ (fromValue(part)).data);
  return new Map(Array.from(keys, (key, i) => [typeof key === 'bigint' ? Number(key) : key, numbers[i]]));
}

/**
 * Writes a result into a tensor the caller had ready, as onnxruntime's fetches allow.
 * @param {Tensor} into @param {Feed} result @param {string} name
 */
export async function copyInto(into, result, name) {
  const fits = result instanceof Tensor && result.type === into.type && String(result.dims) === String(into.dims);
  if (!fits) {
    const got = result instanceof Tensor ? `${result.type} [${result.dims.join(', ')}]` : 'no tensor';
    throw failure('FETCH', `Output '${name}' is ${got}, the tensor to fill is ${into.type} [${into.dims.join(', ')}]`, { output: name });
  }
  if (into.location === 'gpu-buffer') {
    await fill(into, result, bytesOf);
    return into;
  }
  if (into.type === 'string') {
    const target = /** @type {string[]} */ (into.data);
    /** @type {string[]} */ (result.data).forEach((text, i) => (target[i] = text));
  } else bytesOf(into).set(bytesOf(result));
  return into;
}
