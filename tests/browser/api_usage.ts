// Type checks of web/nnjit.d.ts: compiled by tsc, never run. Each @ts-expect-error is a mistake that must not compile.
import nnjit, { InferenceSession, NnjitError, Tensor, env, ready } from '../../web/nnjit.js';
import type { Difference, PlacedNode, Profile, TensorType } from '../../web/nnjit.js';

export async function usage(bytes: ArrayBuffer, file: File, abort: AbortController): Promise<void> {
  env.wasm.numThreads = 2;
  env.logLevel = 'error';
  const { pyodide, bootMs } = await ready;
  const seconds: number = bootMs.python / 1000;
  console.log(pyodide, seconds, nnjit.help());

  const session = await InferenceSession.create('model.onnx', {
    executionProviders: ['webgpu', { name: 'wasm' }],
    numThreads: 1,
    freeDimensionOverrides: { batch: 1 },
    externalData: ['weights.bin', { path: 'more.bin', data: file }],
    progress: (stage, done, total) => console.log(stage, done / total),
    signal: abort.signal,
    tune: { mode: 'off' },
    graphOptimizationLevel: 'all',
  });
  await InferenceSession.create(bytes, 16, 100, { strict: true });
  // @ts-expect-error an option is misspelt
  await InferenceSession.create(file, { numThread: 1 });
  // @ts-expect-error sessions are created, not constructed
  new InferenceSession();

  const x = new Tensor('float32', [1, 2, 3, 4], [2, 2]);
  const data: Float32Array = x.data;
  const ids = new Tensor('int64', [1n, 2, 3]);
  const wide: BigInt64Array = await ids.getData();
  const inferred = new Tensor(new Uint8Array(4), [4]);
  const texts = new Tensor('string', ['a', 'b'], [2]);
  const word: string = texts.data[0];
  const kind: TensorType = inferred.type;
  // @ts-expect-error no such type
  new Tensor('float33', [1]);
  // @ts-expect-error text is no number
  new Tensor('float32', ['1']);
  // @ts-expect-error dims cannot be changed
  x.dims = [4];
  console.log(data, wide, word, kind, x.reshape([4]).size);

  const all = await session.run({ x, ids });
  const some = await session.run({ x, sequence: [x, x], absent: null }, ['y'], { signal: abort.signal });
  await session.run({ x }, { y: x, z: null });
  await session.run({ x }, { tag: 'warm-up' });
  console.log(all.y.dims, some.y.data);
  // @ts-expect-error feeds are tensors
  await session.run({ x: [1, 2, 3] });

  const shape: readonly (number | string)[] = session.inputMetadata[0].shape;
  const placed: PlacedNode[] = session.placement();
  const table: Profile = await session.profile({ repeats: 3 });
  const trace = await session.profile({ feeds: { x }, format: 'chrome' });
  const differences: Difference[] = await session.check({ x });
  const kernel = await session.kernel(table.steps[0].step);
  const mode: 'off' | 'idle' | 'now' = session.tuning.status().mode;
  console.log(shape, placed[0].backend, trace.traceEvents.length, differences[0].maxAbs, kernel.listing, mode);
  await session.prepare({ x: [4, 2], ids });
  console.log(session.backend, session.state, session.stats().load?.bytes);

  const gpu = await nnjit.InferenceSession.create('model.onnx', {
    executionProviders: ['webgpu', 'wasm'],
    preferredOutputLocation: { y: 'gpu-buffer' },
  });
  const { y: kept } = await gpu.run({ x });
  const onGpu = nnjit.Tensor.fromGpuBuffer(kept.gpuBuffer as GPUBuffer, { dataType: 'float32', dims: [1, 4] });
  console.log(gpu.backendReason, onGpu.location === 'gpu-buffer', nnjit.env.webgpu.device?.lost);

  const stop = nnjit.onDeath((which, error) => console.log(which === 'engine', error.code));
  stop();
  try {
    await session.release();
  } catch (error) {
    if (error instanceof NnjitError) console.log(error.code, error.hint, error.node, error.fields.input);
  }
  const device = await nnjit.device();
  console.log(device.threads, device.why.isolated, await nnjit.python('1 + 1'));
  await nnjit.restart({ all: true });
  console.log(window.nnjit === nnjit);
}
