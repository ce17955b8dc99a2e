// Tensor as in onnxruntime-common: a type, data in row-major order, and dims. Everything is checked on the way in,
// so that a wrong length is an error here and not a wrong number later.
import { failure } from './errors.js';
import { numberToHalf } from '../engine/halves.js';
import { TYPES, entriesFor, inferType, isType, viewAs } from './types.js';

/** @typedef {import('./types.js').NumericArray} NumericArray */
/** @typedef {NumericArray | string[]} TensorData */

const DATA = Symbol('data');
const GPU = Symbol('gpu');
const LEASE = Symbol('lease');
const LATER = Symbol('later');
const ORIGIN = Symbol('origin');

/**
 * @typedef {import('../engine/webgpu/device.js').GpuDevice} GpuDevice
 * @typedef {{buffer: GPUBuffer, home?: GpuDevice, download?: () => Promise<TensorData>, dispose?: () => void}} OnGpu home: the
 *   device it is known to lie on
 * @typedef {{over: boolean}} Lease  for how long a session's memory holds what a run left there
 * @typedef {{read: () => NumericArray, forget: () => void, again: () => Tensor}} Later  read: gives the values, for good; forget: nobody
 *   will ask; again: another tensor of these values
 */

/**
 * How bytes come from a device and go there, the page's where no other is named; workers.js puts it here.
 * @type {{download?: (buffer: GPUBuffer, nbytes: number, home?: GpuDevice) => Promise<Uint8Array>,
 *   fill?: (buffer: GPUBuffer, from: GPUBuffer | Uint8Array, nbytes: number, home?: GpuDevice) => Promise<void>}}
 */
export const gpuAccess = {};

export class Tensor {
  /** @type {TensorData | undefined} */
  [DATA];
  /** @type {OnGpu | undefined} */
  [GPU];
  /** @type {Lease | undefined} */
  [LEASE];
  /** @type {Later | undefined} */
  [LATER];
  /** What made it. @type {object | undefined} */
  [ORIGIN];

  /**
   * `new Tensor('float32', data, [2, 3])`, or `new Tensor(data, [2, 3])` with the type taken from the data
   * (a typed array names its own; booleans are 'bool', strings 'string'). Without dims: one axis.
   * @param {string | ArrayBufferView | readonly unknown[]} typeOrData
   * @param {ArrayBufferView | readonly unknown[]} [dataOrDims]
   * @param {readonly number[]} [dims]
   */
  constructor(typeOrData, dataOrDims, dims) {
    let data;
    let shape;
    if (typeof typeOrData === 'string') {
      /** @type {string} */
      this.type = typeOrData;
      data = dataOrDims;
      shape = dims;
      if (!isType(this.type)) {
        throw failure('TENSOR_TYPE', `'${this.type}' is not a tensor type`, {
          hint: `one of ${['string', ...Object.keys(TYPES)].join(', ')}`,
        });
      }
    } else {
      const inferred = inferType(typeOrData);
      if (!inferred) {
        throw failure('TENSOR_TYPE', 'The type of this tensor cannot be told from its data', {
          hint: "name it: new Tensor('float32', data, dims)",
        });
      }
      this.type = inferred;
      data = typeOrData;
      shape = /** @type {readonly number[] | undefined} */ (dataOrDims);
    }
    const values = convert(this.type, data);
    const perElement = this.type === 'string' ? 1 : TYPES[this.type].perElement;
    /** @type {readonly number[]} */
    this.dims = Object.freeze(checkDims(shape ?? [values.length / perElement]));
    /** Elements, the product of dims. */
    this.size = this.dims.reduce((n, d) => n * d, 1);
    const expected = entriesFor(this.type, this.size);
    if (values.length !== expected) {
      throw failure(
        'TENSOR_SIZE',
        `A ${this.type} tensor of [${this.dims.join(', ')}] needs ${expected} values, ${values.length} were given`,
        { dtype: this.type, hint: shape ? 'make data and dims agree' : 'give dims: packed types do not tell their own' },
      );
    }
    this[DATA] = values;
    Object.defineProperty(this, 'type', { writable: false, enumerable: true });
  }

  /**
   * A tensor whose elements lie in a GPU buffer, row-major from its start. The buffer stays the caller's.
   * @param {GPUBuffer} buffer of the device in env.webgpu.device; usage COPY_SRC to be fed or read
   * @param {{dims: readonly number[], dataType?: string, download?: () => Promise<TensorData>, dispose?: () => void}} options
   * @returns {Tensor}
   */
  static fromGpuBuffer(buffer, options) {
    if (typeof GPUBuffer === 'undefined' || !(buffer instanceof GPUBuffer)) {
      throw failure('BAD_ARGUMENT', 'fromGpuBuffer takes a GPUBuffer', { hint: 'Tensor.fromGpuBuffer(buffer, { dataType, dims })' });
    }
    const { dims, dataType = 'float32', download, dispose } = options ?? {};
    if (!GPU_TYPES.has(dataType)) {
      throw failure('TENSOR_TYPE', `A tensor of '${dataType}' cannot lie in a GPU buffer`, { hint: `one of ${[...GPU_TYPES].join(', ')}` });
    }
    const shape = Object.freeze(checkDims(dims));
    const size = shape.reduce((n, d) => n * d, 1);
    const nbytes = (size * TYPES[dataType].bits) / 8;
    if (buffer.size < nbytes) {
      throw failure('TENSOR_SIZE', `A ${dataType} tensor of [${shape.join(', ')}] takes ${nbytes} bytes, the buffer has ${buffer.size}`, { dtype: dataType });
    }
    /** @type {Tensor} */
    const tensor = Object.create(Tensor.prototype);
    Object.defineProperty(tensor, 'type', { value: dataType, enumerable: true });
    tensor.dims = shape;
    tensor.size = size;
    tensor[GPU] = { buffer, ...(download ? { download } : {}), ...(dispose ? { dispose } : {}) };
    return tensor;
  }

  /**
   * A tensor whose data is a view of a session's memory until the lease is over.
   * @param {string} type @param {TensorData} data @param {readonly number[]} dims @param {Lease} lease
   */
  static leased(type, data, dims, lease) {
    const tensor = new Tensor(type, data, dims);
    tensor[LEASE] = lease;
    return tensor;
  }

  /** Where the data lies: 'cpu', 'cpu-pinned' in a session's memory, 'gpu-buffer', or 'none' after dispose() or a lease. */
  get location() {
    if (this[GPU]) return 'gpu-buffer';
    if ((this[DATA] === undefined && !this[LATER]) || taken(this)) return 'none';
    return this[LEASE] ? 'cpu-pinned' : 'cpu';
  }

  /** The buffer of a tensor that lies on the GPU. @returns {GPUBuffer} */
  get gpuBuffer() {
    const { location } = this;
    if (this[GPU]) return this[GPU].buffer;
    throw failure('TENSOR_LOCATION', `This tensor lies on '${location}', not in a GPU buffer`);
  }

  /** The values. Throws when the tensor was disposed of. @returns {TensorData} */
  get data() {
    if (this[GPU]) {
      throw failure('TENSOR_LOCATION', 'This tensor lies on the GPU', { hint: 'await tensor.getData()' });
    }
    if (taken(this)) {
      throw failure('TENSOR_DISPOSED', "This output's memory went to a later call of its session, or with its device", {
        hint: "copy it before the next run(), or leave preferredOutputLocation at 'cpu'",
      });
    }
    if (this[LATER]) {
      this[DATA] = this[LATER].read();
      this[LATER] = undefined;
    }
    const data = this[DATA];
    if (data === undefined) {
      throw failure('TENSOR_DISPOSED', 'This tensor was disposed of', { hint: 'read it before dispose()' });
    }
    return data;
  }

  /**
   * The values, whatever device they lie on.
   * @param {boolean} [releaseData]  give the tensor's hold on them up as well
   * @returns {Promise<TensorData>}
   */
  async getData(releaseData = false) {
    const data = this[GPU] ? await downloaded(this, this[GPU]) : this.data;
    if (releaseData) this.dispose();
    return data;
  }

  /** Lets go of the data. A second call does nothing. */
  dispose() {
    this[DATA] = undefined;
    this[LATER]?.forget();
    this[LATER] = undefined;
    this[GPU]?.dispose?.();
    this[GPU] = undefined;
  }

  /** The same data under other dims of the same size. @param {readonly number[]} dims */
  reshape(dims) {
    if (this[LEASE]) return Tensor.leased(this.type, this.data, dims, this[LEASE]);
    if (this[GPU]) {
      const { buffer, home } = this[GPU];
      const tensor = Tensor.fromGpuBuffer(buffer, { dims, dataType: this.type });
      if (home) /** @type {OnGpu} */ (tensor[GPU]).home = home;
      return tensor;
    }
    return new Tensor(this.type, this.data, dims);
  }
}

/** Whether a session's memory, or the device it was mapped from, has been taken back. @param {Tensor} tensor */
function taken({ [LEASE]: lease, [DATA]: data, size }) {
  return Boolean(lease && (lease.over || (size > 0 && data?.length === 0))); // unmapped, a view has no elements
}

/** Gives a tensor that is a view of a session's memory a copy of its own. @param {unknown} tensor @param {Lease} lease */
export function keep(tensor, lease) {
  if (!(tensor instanceof Tensor) || tensor[LEASE] !== lease || lease.over) return;
  const view = !tensor[LATER];
  const data = /** @type {NumericArray} */ (tensor.data);
  tensor[DATA] = view ? data.slice() : data;
  tensor[LEASE] = undefined;
}

/**
 * A tensor whose values are fetched when they are asked for.
 * @param {string} type a numeric one @param {readonly number[]} dims @param {Later} from @param {Lease | null} lease until when they can be
 */
export function later(type, dims, from, lease) {
  /** @type {Tensor} */
  const tensor = Object.create(Tensor.prototype);
  Object.defineProperty(tensor, 'type', { value: type, enumerable: true });
  tensor.dims = Object.freeze([...dims]);
  tensor.size = dims.reduce((n, d) => n * d, 1);
  tensor[LATER] = from;
  if (lease) tensor[LEASE] = lease;
  return tensor;
}

/** A tensor of the same values, whatever becomes of this one; what lies on the GPU is there once. @param {Tensor} tensor @returns {Tensor} */
export function copied(tensor) {
  if (tensor[GPU]) return tensor;
  if (tensor[LATER] && !tensor[LEASE]) return tensor[LATER].again();
  const copy = new Tensor(tensor.type, /** @type {any} */ (tensor.data).slice(), tensor.dims);
  return from(copy, tensor[ORIGIN]);
}

/** Whether nobody has asked for a tensor's values yet. @param {Tensor} tensor */
export const unread = (tensor) => tensor[LATER] !== undefined;

/** @param {Tensor} tensor @param {object | undefined} origin what made it @returns {Tensor} */
export function from(tensor, origin) {
  tensor[ORIGIN] = origin;
  return tensor;
}

/** An output that stays on `home`. @param {GPUBuffer} buffer @param {string} dataType @param {readonly number[]} dims @param {GpuDevice} home */
export function staying(buffer, dataType, dims, home) {
  const tensor = Tensor.fromGpuBuffer(buffer, { dims, dataType, dispose: () => buffer.destroy() });
  /** @type {OnGpu} */ (tensor[GPU]).home = home;
  return tensor;
}

/** Why the device is gone that a tensor is known to lie on, if it is. @param {Tensor} tensor */
export const goneWith = (tensor) => tensor[GPU]?.home?.death ?? null;

/**
 * Writes a result into a tensor on the GPU, of the same type and dims.
 * @param {Tensor} into @param {Tensor} result @param {(tensor: Tensor) => Uint8Array} bytesOf of one that is not on the GPU
 */
export async function fill(into, result, bytesOf) {
  if (!gpuAccess.fill) throw failure('TENSOR_LOCATION', 'There is no device to fill this tensor on');
  const from = result[GPU]?.buffer ?? bytesOf(result);
  await gpuAccess.fill(into.gpuBuffer, from, (into.size * TYPES[into.type].bits) / 8, result[GPU]?.home ?? into[GPU]?.home);
  result.dispose();
}

/** @param {Tensor} tensor */
export const cameFrom = (tensor) => tensor[ORIGIN];

/** Bytes of a numeric tensor's data, wherever it is. @param {Tensor} tensor */
export const sizeOf = ({ type, size }) => entriesFor(type, size) * TYPES[type].array.BYTES_PER_ELEMENT;

/** Types whose elements in a buffer are the tensor's own. */
const GPU_TYPES = new Set(['float32', 'int32', 'uint32', 'int64', 'uint64', 'float16']);

/** @param {Tensor} tensor @param {OnGpu} on @returns {Promise<TensorData>} */
async function downloaded({ type, size }, { buffer, home, download }) {
  if (download) return download();
  if (!gpuAccess.download) throw failure('TENSOR_LOCATION', 'There is no device to read this tensor from');
  return viewAs(type, await gpuAccess.download(buffer, (size * TYPES[type].bits) / 8, home));
}

/** @param {readonly number[]} dims @returns {number[]} */
function checkDims(dims) {
  if (!Array.isArray(dims)) throw failure('TENSOR_DIMS', `dims must be an array of numbers, not ${typeof dims}`);
  for (const d of dims) {
    if (!Number.isSafeInteger(d) || d < 0) {
      throw failure('TENSOR_DIMS', `${String(d)} in [${dims.join(', ')}] is not a dimension`, {
        hint: 'dims are integers of 0 or more',
      });
    }
  }
  return [...dims];
}

/**
 * Data given in any of the forms onnxruntime-common takes, as the one array the type is kept in.
 * @param {string} type @param {unknown} data @returns {TensorData}
 */
function convert(type, data) {
  if (type === 'string') {
    if (!Array.isArray(data) || data.some((s) => typeof s !== 'string')) {
      throw failure('TENSOR_DATA', 'A string tensor takes an array of strings', { dtype: type });
    }
    return /** @type {string[]} */ ([...data]);
  }
  const { array, bits } = TYPES[type];
  if (ArrayBuffer.isView(data)) {
    if (data instanceof array) return /** @type {NumericArray} */ (data);
    if (acceptsBits(type, data)) {
      return /** @type {NumericArray} */ (
        new array(data.buffer, data.byteOffset, data.byteLength / array.BYTES_PER_ELEMENT)
      );
    }
    throw failure('TENSOR_DATA', `A ${type} tensor keeps its data in a ${array.name}, not a ${data.constructor.name}`, {
      dtype: type,
      hint: `${array.name}.from(data) converts it`,
    });
  }
  if (!Array.isArray(data)) {
    throw failure('TENSOR_DATA', `Tensor data must be an array, not ${data === null ? 'null' : typeof data}`, { dtype: type });
  }
  if (bits < 8) {
    throw failure('TENSOR_DATA', `A ${type} tensor takes packed bytes in a Uint8Array`, { dtype: type });
  }
  return fromList(type, array, data);
}

/** Same bits under another array's name: halves given as Uint16Array, bool bytes as clamped ones. @param {string} type @param {ArrayBufferView} data */
function acceptsBits(type, data) {
  if (type === 'float16') return data instanceof Uint16Array || data.constructor.name === 'Float16Array';
  if (type === 'uint8' || type === 'bool') return data instanceof Uint8ClampedArray;
  return type === 'int4' && data instanceof Int8Array;
}

/** @param {string} type @param {import('./types.js').NumericArrayConstructor} array @param {unknown[]} list @returns {NumericArray} */
function fromList(type, array, list) {
  const out = new array(list.length);
  const bitsOnly = type === 'float16' && array.name === 'Uint16Array';
  const big = out instanceof BigInt64Array || out instanceof BigUint64Array;
  for (let i = 0; i < list.length; i++) {
    const value = list[i];
    if (typeof value !== 'number' && typeof value !== 'bigint' && typeof value !== 'boolean') {
      throw failure('TENSOR_DATA', `Element ${i} of a ${type} tensor is a ${typeof value}`, { dtype: type, hint: 'give numbers; a string tensor takes strings' });
    }
    if (big) {
      if (typeof value === 'number' && !Number.isInteger(value)) {
        throw failure('TENSOR_DATA', `Element ${i} of a ${type} tensor is ${value}, not an integer`, { dtype: type });
      }
      out[i] = BigInt(value);
    } else {
      /** @type {Exclude<NumericArray, BigInt64Array | BigUint64Array>} */ (out)[i] = bitsOnly
        ? numberToHalf(Number(value))
        : Number(value);
    }
  }
  return out;
}
