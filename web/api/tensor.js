// Tensor as in onnxruntime-common: a type, data in row-major order, and dims. Everything is checked on the way in,
// so that a wrong length is an error here and not a wrong number later.
import { failure } from './errors.js';
import { TYPES, entriesFor, halfBits, inferType, isType } from './types.js';

/** @typedef {import('./types.js').NumericArray} NumericArray */
/** @typedef {NumericArray | string[]} TensorData */

const DATA = Symbol('data');

export class Tensor {
  /** @type {TensorData | undefined} */
  [DATA];

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

  /** Where the data lies; always 'cpu' on the Wasm backend. */
  get location() {
    return this[DATA] === undefined ? 'none' : 'cpu';
  }

  /** The values. Throws when the tensor was disposed of. @returns {TensorData} */
  get data() {
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
    const data = this.data;
    if (releaseData) this.dispose();
    return data;
  }

  /** Lets go of the data. A second call does nothing. */
  dispose() {
    this[DATA] = undefined;
  }

  /** The same data under other dims of the same size. @param {readonly number[]} dims */
  reshape(dims) {
    return new Tensor(this.type, this.data, dims);
  }
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
      throw failure('TENSOR_DATA', `Element ${i} of a ${type} tensor is a ${typeof value}`, { dtype: type });
    }
    if (big) {
      if (typeof value === 'number' && !Number.isInteger(value)) {
        throw failure('TENSOR_DATA', `Element ${i} of a ${type} tensor is ${value}, not an integer`, { dtype: type });
      }
      out[i] = BigInt(value);
    } else {
      /** @type {Exclude<NumericArray, BigInt64Array | BigUint64Array>} */ (out)[i] = bitsOnly
        ? halfBits(Number(value))
        : Number(value);
    }
  }
  return out;
}
