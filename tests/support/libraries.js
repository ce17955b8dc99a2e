// nnjit and onnxruntime-web behind one face: `load(name, threads, provider)` gives {Tensor, create(model, options)},
// the same calls for both, as their public APIs are the same.

/**
 * @typedef {{inputNames: readonly string[], outputNames: readonly string[], run(feeds: any): Promise<any>,
 *   release(): Promise<void>, placement?(): any}} Session
 * @typedef {{name: string, version: string, Tensor: any, api: any,
 *   create(model: Uint8Array | string, options?: object): Promise<Session>}} Library
 */

/**
 * @param {'nnjit' | 'onnxruntime-web'} name @param {number} threads @param {string} [provider]
 * @returns {Promise<Library>}
 */
export async function load(name, threads, provider = 'wasm') {
  if (name === 'nnjit') return loadNnjit(threads, provider);
  const folder = new URL('/vendor/peers/onnxruntime-web-1.30.0/', location.href).href;
  const ort = await import(`${folder}ort.wasm.min.mjs`);
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = folder;
  ort.env.logLevel = 'error';
  return {
    name,
    version: '1.30.0',
    Tensor: ort.Tensor,
    api: ort,
    create: (model, options = {}) =>
      ort.InferenceSession.create(model, { executionProviders: ['wasm'], logSeverityLevel: 4, ...options }),
  };
}

/** @param {number} threads @param {string} provider @returns {Promise<Library>} */
async function loadNnjit(threads, provider) {
  const module = await import(/** @type {string} */ ('/nnjit.js'));
  const api = module.default ?? module;
  return {
    name: 'nnjit',
    version: String(api.version ?? api.env?.versions?.nnjit ?? ''),
    Tensor: api.Tensor,
    api,
    create: (model, options = {}) =>
      api.InferenceSession.create(model, { executionProviders: [provider], numThreads: threads, ...options }),
  };
}
