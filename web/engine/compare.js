// Two outputs of the same kernel under different schedules: equal bits for integers, near for floats.

/**
 * @typedef {{checked: number, worst: number, at: number, wanted: number, got: number}} Comparison
 *   worst: the largest error in units of the tolerance; at: byte of the first element that is too far off, or -1
 */

/** Elements of each kind, as numbers. @type {Record<string, (bytes: Uint8Array) => ArrayLike<number | bigint>>} */
const VIEWS = {
  f32: (bytes) => new Float32Array(bytes.buffer),
  f64: (bytes) => new Float64Array(bytes.buffer),
  f16: (bytes) => new Uint16Array(bytes.buffer),
  bf16: (bytes) => new Uint16Array(bytes.buffer),
  8: (bytes) => bytes,
  16: (bytes) => new Uint16Array(bytes.buffer),
  32: (bytes) => new Int32Array(bytes.buffer),
  64: (bytes) => new BigInt64Array(bytes.buffer),
};

/**
 * @param {Uint8Array<ArrayBuffer>} wanted of the serving kernel; owns its buffer
 * @param {Uint8Array<ArrayBuffer>} got of the candidate; elements that it has not written yet hold `unwritten` bytes
 * @param {{kind: string, tolerance: {absolute: number, relative: number}, whole: boolean, unwritten: number}} how
 *   kind: f32, f64, f16, bf16, or bits of an integer; whole: an element not written is an error
 * @returns {Comparison}
 */
export function compare(wanted, got, { kind, tolerance: { absolute, relative }, whole, unwritten }) {
  const [a, b] = [VIEWS[kind](wanted), VIEWS[kind](got)];
  const size = wanted.length / a.length;
  const unwrittenBytes = new Uint8Array(size).fill(unwritten);
  const result = { checked: 0, worst: 0, at: -1, wanted: 0, got: 0 };
  const half = kind === 'f16' || kind === 'bf16';
  const near = !(absolute === 0 && relative === 0);
  let scale = 0;
  if (near) {
    for (let i = 0; i < a.length; i++) {
      const x = Math.abs(half ? widen(kind, Number(a[i])) : Number(a[i]));
      if (x > scale && x < Infinity) scale = x;
    }
  }
  for (let i = 0; i < a.length; i++) {
    if (a[i] === b[i]) {
      result.checked++;
      continue;
    }
    if (sameBytes(got, i * size, unwrittenBytes) && !sameBytes(wanted, i * size, unwrittenBytes)) {
      if (!whole) continue;
      return { ...result, worst: Infinity, at: i * size, wanted: Number(a[i]), got: NaN };
    }
    result.checked++;
    const x = half ? widen(kind, Number(a[i])) : Number(a[i]);
    const y = half ? widen(kind, Number(b[i])) : Number(b[i]);
    if (x === y || (x !== x && y !== y)) continue;
    const error = Math.abs(x - y) / (absolute * scale + relative * Math.abs(x));
    if (near && error <= 1) {
      if (error > result.worst) result.worst = error;
      continue;
    }
    return { ...result, worst: Infinity, at: i * size, wanted: x, got: y };
  }
  return result;
}

/**
 * Holds the outputs of two plans for the same model against each other.
 * @param {import('./types.d.ts').Agreement[]} outputs @param {unknown[]} base what the serving plan gave @param {unknown[]} mine
 * @param {number} unwritten
 * @returns {{worst: number, reason: string}} reason: how the first one differs that does by more than it may; '' for none
 */
export function disagreement(outputs, base, mine, unwritten) {
  let most = 0;
  for (const [i, { name, kind, tolerance }] of outputs.entries()) {
    const [a, b] = [base[i], mine[i]];
    if (!(a instanceof Uint8Array) || !(b instanceof Uint8Array)) continue;
    const { worst, at, wanted, got } = compare(own(a), own(b), { kind, tolerance, whole: true, unwritten });
    most = Math.max(most, worst);
    if (at >= 0 || a.length !== b.length) return { worst: most, reason: `output "${name}" has ${got} instead of ${wanted} at byte ${at}` };
  }
  return { worst: most, reason: '' };
}

/** @param {Uint8Array} bytes @returns {Uint8Array<ArrayBuffer>} that own their buffer */
export const own = (bytes) => /** @type {Uint8Array<ArrayBuffer>} */ (bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice());

/** @param {Uint8Array} bytes @param {number} at @param {Uint8Array} pattern */
function sameBytes(bytes, at, pattern) {
  for (let i = 0; i < pattern.length; i++) if (bytes[at + i] !== pattern[i]) return false;
  return true;
}

/** The value of 16 bits. @param {string} kind @param {number} bits */
function widen(kind, bits) {
  if (kind === 'bf16') {
    SCRATCH.setUint32(0, bits << 16 >>> 0);
    return SCRATCH.getFloat32(0);
  }
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

const SCRATCH = new DataView(new ArrayBuffer(4));
