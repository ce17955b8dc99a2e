// The page's one seam to the compiler: what it takes from nnjit.js, and the shapes it expects back.
import nnjit from '../nnjit.js';

/**
 * @typedef {Float32Array | Float64Array | Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array
 *   | BigInt64Array | BigUint64Array | Float16Array | string[]} Data
 * @typedef {{type: string, data: Data, dims: readonly number[]}} Value
 * @typedef {{name: string, type: string, shape: readonly (number | string)[], isTensor: boolean}} Metadata
 * @typedef {Record<string, Value>} Values
 */
export { nnjit };
