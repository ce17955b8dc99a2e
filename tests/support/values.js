// ONNX values to and from a JSON description plus bytes: the page's half of codec.py. Works on any library
// whose Tensor is made like onnxruntime-common's: new Tensor(type, data, dims).

/**
 * @typedef {{kind: 'none'} | {kind: 'sequence', items: Head[]} |
 *   {kind: 'tensor', type: string, dims: number[], offset?: number, length?: number, strings?: string[]}} Head
 * @typedef {{type: string, dims: readonly number[], data: any}} TensorLike
 * @typedef {TensorLike | ValueList | null} Value
 * @typedef {Value[]} ValueList
 * @typedef {new (type: any, data: any, dims: readonly number[]) => any} TensorClass
 */

/** Halves and bfloat16 go in as their bits. @type {Record<string, {new (buffer: ArrayBuffer): any}>} */
const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int8: Int8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  complex64: Float32Array,
  complex128: Float64Array,
};

/**
 * A file made by codec.py's `bundle`: four bytes of length, JSON, bytes. @param {ArrayBuffer} file
 * @returns {{head: any, blob: Uint8Array}}
 */
export function readBundle(file) {
  const length = new DataView(file).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 4, length)));
  return { head, blob: new Uint8Array(file, 4 + length) };
}

/** @param {Head} head @param {Uint8Array} blob @param {TensorClass} Tensor @returns {any} */
export function decode(head, blob, Tensor) {
  if (head.kind === 'none') return null;
  if (head.kind === 'sequence') return head.items.map((item) => decode(item, blob, Tensor));
  if (head.strings) return new Tensor('string', head.strings, head.dims);
  const start = /** @type {number} */ (head.offset);
  const bytes = blob.slice(start, start + /** @type {number} */ (head.length));
  const Kind = ARRAYS[head.type] ?? Uint8Array;
  return new Tensor(head.type, new Kind(bytes.buffer), head.dims);
}

/** Collects outputs; `text()` is their bytes in base64, which is what crosses to Python. */
export class Encoder {
  /** @type {Uint8Array[]} */
  parts = [];
  size = 0;

  /** @param {Value} value @returns {Head} */
  add(value) {
    if (value === null || value === undefined) return { kind: 'none' };
    if (Array.isArray(value)) return { kind: 'sequence', items: value.map((item) => this.add(item)) };
    const { type, data } = value;
    const dims = value.dims.map(Number);
    if (type === 'string') return { kind: 'tensor', type, dims, strings: [...data] };
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const offset = this.size;
    this.parts.push(bytes.slice());
    this.size += bytes.byteLength;
    return { kind: 'tensor', type, dims, offset, length: bytes.byteLength };
  }

  /** @returns {Promise<string>} */
  async text() {
    const blob = new Blob(/** @type {BlobPart[]} */ (this.parts));
    /** @type {string} */
    const url = await new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(/** @type {string} */ (reader.result));
      reader.onerror = () => reject(reader.error);
      reader.readAsDataURL(blob);
    });
    return url.slice(url.indexOf(',') + 1);
  }
}
