// What this browser can do: validates tiny modules, asks the page's own globals; returns EngineInfo's facts.

import { clockGrain } from './measure.js';

const HEADER = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

/**
 * A module with one function of type () -> v128 and the given body.
 * @param {number[]} body instructions, without the final `end`
 * @returns {boolean} whether the browser accepts it
 */
function acceptsVectorBody(body) {
  const code = [0x00, ...body, 0x0b]; // no locals, body, end
  return WebAssembly.validate(new Uint8Array([
    ...HEADER,
    0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b, // type: () -> v128
    0x03, 0x02, 0x01, 0x00, // one function of type 0
    0x0a, code.length + 2, 0x01, code.length, ...code,
  ]));
}

/** v128.const 0 */
const ZERO = [0xfd, 0x0c, ...new Array(16).fill(0)];

/** @returns {boolean} SIMD128 */
export const hasSimd = () => acceptsVectorBody(ZERO);

/** @returns {boolean} relaxed SIMD, by f32x4.relaxed_madd */
export const hasRelaxedSimd = () => acceptsVectorBody([...ZERO, ...ZERO, ...ZERO, 0xfd, 0x85, 0x02]);

/** (a, b) => the first lane of i32x4.relaxed_dot_i8x16_i7x16_add_s(i8x16.splat(a), i8x16.splat(b), 0) */
const DOT = [
  ...HEADER,
  0x01, 0x07, 0x01, 0x60, 0x02, 0x7f, 0x7f, 0x01, 0x7f, // type: (i32, i32) -> i32
  0x03, 0x02, 0x01, 0x00,
  0x07, 0x05, 0x01, 0x01, 0x66, 0x00, 0x00, // export "f"
  0x0a, 0x24, 0x01, 0x22, 0x00,
  0x20, 0x00, 0xfd, 0x0f, 0x20, 0x01, 0xfd, 0x0f, ...ZERO, 0xfd, 0x93, 0x02, 0xfd, 0x1b, 0x00, 0x0b,
];

/**
 * What the engine's relaxed dot product multiplies its signed bytes with, where the sums are exact: 'u8' (vpdpbusd of
 * x86), 's8' (sdot of Arm); '' where two products saturate in between (pmaddubsw), or without relaxed SIMD. The
 * specification leaves the choice to the machine and holds it fixed there.
 * @returns {'' | 'u8' | 's8'}
 */
export function dotKind() {
  const bytes = new Uint8Array(DOT);
  if (!hasRelaxedSimd() || !WebAssembly.validate(bytes)) return '';
  const { f } = /** @type {{f: (a: number, b: number) => number}} */ (
    /** @type {unknown} */ (new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports)
  );
  const pairs = [[127, 255], [-128, 255], [-128, 128], [127, 128]];
  if (pairs.every(([a, b]) => f(a, b) === 4 * a * b)) return 'u8';
  return pairs.every(([a, b]) => f(a, b) === 4 * a * (b - 256)) ? 's8' : '';
}

/** @returns {boolean} half-precision vectors, by f16x8.add */
export const hasFp16 = () => acceptsVectorBody([...ZERO, ...ZERO, 0xfd, 0xbd, 0x02]);

/** @returns {boolean} atomics on a shared memory, by validation only */
export function hasWasmThreads() {
  return WebAssembly.validate(new Uint8Array([
    ...HEADER,
    0x01, 0x04, 0x01, 0x60, 0x00, 0x00, // type: () -> ()
    0x03, 0x02, 0x01, 0x00,
    0x05, 0x04, 0x01, 0x03, 0x01, 0x01, // memory: shared, 1 page of at most 1
    0x0a, 0x0b, 0x01, 0x09, 0x00, 0x41, 0x00, 0xfe, 0x10, 0x02, 0x00, 0x1a, 0x0b, // i32.atomic.load, drop
  ]));
}

/** Buffers can be shared with workers. WebKitGTK isolates a page and gives it none. @returns {boolean} */
export const sharesBuffers = () => Boolean(globalThis.crossOriginIsolated) && typeof SharedArrayBuffer !== 'undefined';

/** @returns {boolean} whether a shared memory can be made here and posted to another thread */
export function canShareMemory() {
  if (!sharesBuffers() || !hasWasmThreads()) return false;
  try {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    return memory.buffer instanceof SharedArrayBuffer;
  } catch {
    return false;
  }
}

/**
 * @param {number | undefined} wanted threads asked for; default: what the browser reports
 * @returns {import('./types.d.ts').EngineInfo}
 */
export function probe(wanted) {
  const nav = /** @type {Navigator & {deviceMemory?: number}} */ (globalThis.navigator);
  const sharedMemory = canShareMemory();
  const cores = nav.hardwareConcurrency || 1;
  return {
    isolated: Boolean(globalThis.crossOriginIsolated),
    sharedMemory,
    threads: sharedMemory ? Math.min(Math.max(1, Math.floor(wanted ?? cores)), MAX_THREADS) : 1,
    simd: hasSimd(),
    relaxed: hasRelaxedSimd(),
    dot: dotKind(),
    wasmThreads: hasWasmThreads(),
    fp16: hasFp16(),
    hardwareConcurrency: cores,
    deviceMemory: nav.deviceMemory ?? 0,
    clockGrainMs: clockGrain(),
  };
}

/** Threads that the control words of a session's memory have room for (see memory.js, STEP_WORDS). */
export const MAX_THREADS = 128;
