// What this device and this page can do, with the reason for each 'no', and the help text of the console.
import { factsNow, recall } from './device-facts.js';
import { getCompiler, getEngine } from './workers.js';

/**
 * @typedef {{isolated: boolean, threads: number, hardwareConcurrency: number, simd: boolean, relaxedSimd: boolean, sharedMemory: boolean,
 *   fp16: boolean, webgpu: boolean, deviceMemory: number, clockGrainMs: number, tuning: import('./device-facts.js').Facts | null, why: Record<string, string>,
 *   compiler: import('./compiler-client.js').CompilerInfo | null, memory: {total: number, sessions: {id: string, bytes: number}[]}}} Device
 */

/** Facts and features, of the engine and of the compiler if it is up. @returns {Promise<Device>} */
export async function device() {
  const { client } = await getEngine();
  if (getCompiler().info) await recall(null, () => undefined).catch(() => undefined); // not while it boots
  const { isolated, threads, hardwareConcurrency, simd, relaxed, sharedMemory, fp16, deviceMemory, clockGrainMs } = client.info;
  const webgpu = await hasWebGpu();
  const facts = { isolated, threads, hardwareConcurrency, simd, relaxedSimd: relaxed, sharedMemory, fp16, webgpu, deviceMemory, clockGrainMs };
  return { ...facts, tuning: factsNow(), why: reasons(facts), compiler: getCompiler().info, memory: await client.memory() };
}

async function hasWebGpu() {
  const gpu = /** @type {any} */ (globalThis.navigator)?.gpu;
  return Boolean(await gpu?.requestAdapter().catch(() => null));
}

/** @param {Omit<Device, 'why' | 'tuning' | 'compiler' | 'memory'>} facts @returns {Record<string, string>} */
export function reasons({ isolated, sharedMemory, threads, hardwareConcurrency, simd, relaxedSimd, webgpu }) {
  /** @type {Record<string, string>} */
  const why = {};
  if (!isolated) why.isolated = 'the server must send Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp';
  if (isolated && !sharedMemory) why.sharedMemory = 'this browser gives isolated pages no shared WebAssembly memory (WebKitGTK: start it with JSC_useSharedArrayBuffer=1)';
  if (!isolated) why.threads = 'threads need an isolated page';
  else if (!sharedMemory) why.threads = 'threads need shared memory';
  else if (threads === 1) why.threads = hardwareConcurrency > 1 ? 'nnjit.env.wasm.numThreads asks for one' : 'this device reports one core';
  if (!simd) why.simd = 'this browser is older than Wasm SIMD (Chrome 91, Firefox 89, Safari 16.4)';
  if (!relaxedSimd) why.relaxedSimd = 'relaxed SIMD came with Chrome 114 and Firefox 145; kernels use plain SIMD instead';
  if (!webgpu) why.webgpu = 'no adapter: the browser has no WebGPU, or has it switched off for this device';
  return why;
}

const TEXT = `nnjit: ONNX models in the browser, on kernels compiled for their shapes

  session = await nnjit.InferenceSession.create(url)      a URL, bytes, File or Blob
  session.inputMetadata                                   names, types and shapes
  x = new nnjit.Tensor('float32', data, [1, 3, 224, 224])
  outputs = await session.run({ [session.inputNames[0]]: x })
  await outputs[session.outputNames[0]].getData()

  session.placement()          where each node ran            await session.profile()   ms of each step
  await session.kernel(0)      one step's schedule and code   await session.check(feeds) error against onnx.reference
  session.stats()              times and bytes                await session.release()   give the memory back
  await session.tuning.start() faster kernels, while you go on session.tuning.status()   what was tried and kept

  await nnjit.ready            the compiler is up             await nnjit.device()      threads, SIMD, WebGPU
  await nnjit.python('1 + 1')  Python in the compiler worker  await nnjit.restart()     after a worker died
  nnjit.env                    settings

More: docs/api.md in the repository.`;

/** Prints how to use nnjit, and returns the same text. */
export function help() {
  console.info(TEXT);
  return TEXT;
}
