// Settings a program may change after import and before its first session, in onnxruntime-web's places.

export const LOG_LEVELS = /** @type {const} */ (['verbose', 'info', 'warning', 'error', 'fatal']);

/** @typedef {(typeof LOG_LEVELS)[number]} LogLevel */

export const env = {
  /** Least severe message that reaches the console. @type {LogLevel} */
  logLevel: 'warning',
  wasm: {
    /** Threads of the engine's pool; 0 = one a core, as far as the page is isolated. */
    numThreads: 0,
    /** False keeps to plain SIMD128 even where the device has relaxed SIMD (fused multiply-add). */
    relaxedSimd: true,
  },
  webgpu: {
    /** The device sessions run on: give your own before the first one, or find the one in use here. @type {GPUDevice | undefined} */
    device: undefined,
  },
  /** Whether Python's memory is kept for the next visit, which starts the sooner: unless storage or memory is short, always, never. @type {'auto' | boolean} */
  snapshot: /** @type {'auto' | boolean} */ ('auto'),
  /** Whether the first plan of a model is kept for later sessions with it, which need not compile it: unless a program drives the browser, always, never. @type {'auto' | boolean} */
  plans: /** @type {'auto' | boolean} */ ('auto'),
  versions: { nnjit: '', pyodide: '' },
};

/**
 * @param {LogLevel} level @param {string} message @param {...unknown} rest
 */
export function log(level, message, ...rest) {
  if (LOG_LEVELS.indexOf(level) < LOG_LEVELS.indexOf(env.logLevel)) return;
  const print = level === 'warning' ? console.warn : level === 'error' || level === 'fatal' ? console.error : console.info;
  print(`[nnjit] ${message}`, ...rest);
}
