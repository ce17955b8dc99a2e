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

/** @returns {boolean} whether a shared memory can be made here and posted to another thread */
export function canShareMemory() {
  if (!globalThis.crossOriginIsolated || typeof SharedArrayBuffer === 'undefined' || !hasWasmThreads()) return false;
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
    wasmThreads: hasWasmThreads(),
    fp16: hasFp16(),
    hardwareConcurrency: cores,
    deviceMemory: nav.deviceMemory ?? 0,
    clockGrainMs: clockGrain(),
  };
}

/** Threads that the control words of a session's memory have room for (see memory.js, STEP_WORDS). */
export const MAX_THREADS = 128;
