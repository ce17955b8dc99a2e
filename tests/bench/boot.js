// From opening a page to a library that answers, for boot.py: import, start, a session of a tiny model, its first run.

const PEER = '/vendor/peers/onnxruntime-web-1.30.0/';

/**
 * @param {'nnjit' | 'onnxruntime-web'} name @param {string} model its address @param {number} threads
 * @returns {Promise<Record<string, any>>} ms since this call: `import`ed, `ready`, `create`d, `first` result; and the worker's stages
 */
export async function boot(name, model, threads) {
  const origin = performance.now();
  /** @type {Record<string, any>} */
  const at = {};
  const mark = (/** @type {string} */ stage) => (at[stage] = performance.now() - origin);
  const ours = name === 'nnjit';
  const api = ours ? (await import(/** @type {string} */ ('/nnjit.js'))).default : await import(`${PEER}ort.wasm.min.mjs`);
  mark('import');
  api.env.wasm.numThreads = threads;
  if (ours) {
    api.env.snapshot = true;
    const { bootMs, bytecode, restored } = await api.ready;
    Object.assign(at, { stages: bootMs, bytecode, restored });
    mark('ready');
  } else {
    api.env.wasm.wasmPaths = new URL(PEER, location.href).href;
    api.env.logLevel = 'error';
  }
  const session = await api.InferenceSession.create(model, { executionProviders: ['wasm'] });
  mark('create');
  await session.run({ x: new api.Tensor('float32', new Float32Array(3), [3]) });
  mark('first');
  return at;
}

/** Whether Python's memory is kept for the next visit, waiting for it. @returns {Promise<boolean>} */
export async function kept() {
  for (const until = performance.now() + 60_000; performance.now() < until;) {
    const store = await caches.open('nnjit-python');
    if ((await store.keys()).some(({ url }) => url.endsWith('/facts'))) return true;
    await new Promise((later) => setTimeout(later, 200));
  }
  return false;
}
