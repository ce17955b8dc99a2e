// The libraries under measurement, each as prepare(job) -> {call(): Promise<output>, output, release()}. A job is a
// model or an operator as run.py describes it. What a library can't do it declines by returning null. `ways` are the other
// documented ways to get at outputs: 'given', into an array that the caller gives again each time; 'stays', left where the
// library has them, for its own next call.
import { decode } from '/t/support/values.js';
import { load } from '/t/support/libraries.js';
import { spread } from './clock.js';

/**
 * @typedef {{name: string, kind: string, url: string, inputs: Record<string, any>, second: Record<string, any> | null, weights: Record<string, any>,
 *   attrs: {strides?: number[], pads?: number[], group?: number}, outputs: string[]}} Job
 * @typedef {{call: () => Promise<any>, read: (result: any) => Promise<Record<string, Float32Array>>,
 *   ways?: Record<string, () => Promise<any>>, release: () => Promise<void>, finish?: () => Promise<any>, facts?: any, session?: any}} Prepared
 * @typedef {{prepare: (job: Job, blob: Uint8Array, ways?: boolean) => Promise<Prepared | null>}} Rival
 */

/** @param {'nnjit' | 'onnxruntime-web'} name @param {number} threads @returns {Promise<Rival>} */
export async function onnx(name, threads) {
  const library = await load(name, threads);
  await library.api.ready;
  return {
    async prepare(job, blob, ways) {
      const start = performance.now();
      const session = await library.create(job.url);
      const createMs = performance.now() - start;
      /** @param {Record<string, any>} heads */
      const tensors = (heads) =>
        Object.fromEntries(Object.entries(heads).map(([n, head]) => [n, decode(head, blob, library.Tensor)]));
      const feeds = tensors(job.inputs);
      const first = performance.now();
      await session.run(feeds);
      const firstRunMs = performance.now() - first;
      const more = ways ? await waysOf(library, session, job, feeds) : null;
      return {
        session,
        ...(more ? { ways: more.ways } : {}),
        facts: { createMs, firstRunMs, ready: readiness(session) },
        finish: async () =>
          job.second
            ? { second: await another(session, tensors(job.second)), flops: (await stepsOf(session, feeds, 1))?.flops }
            : { kernelMs: await kernelMs(session, feeds) },
        call: () => session.run(feeds),
        read: async (result) => Object.fromEntries(job.outputs.map((n) => [n, result[n].data])),
        release: async () => {
          await session.release();
          await more?.release();
        },
      };
    },
  };
}

/**
 * An array that is not written to is no way: onnxruntime-web 1.30 takes tensors on the processor as `fetches` and leaves them
 * as they are.
 * @param {import('../support/libraries.js').Library} library @param {any} session @param {Job} job @param {any} feeds
 * @returns {Promise<{ways: Record<string, () => Promise<any>>, release: () => Promise<void>}>}
 */
async function waysOf(library, session, job, feeds) {
  const made = await session.run(feeds);
  const given = Object.fromEntries(job.outputs.map((n) => [n, new library.Tensor(made[n].type, made[n].data.slice().fill(0), made[n].dims)]));
  await session.run(feeds, given);
  const written = job.outputs.every((n) => made[n].data.every((/** @type {number} */ v, /** @type {number} */ i) => v === given[n].data[i]));
  /** @type {Record<string, () => Promise<any>>} */
  const ways = written ? { given: () => session.run(feeds, given) } : {};
  if (library.name !== 'nnjit') return { ways, release: async () => undefined };
  const pinned = await library.create(job.url, { preferredOutputLocation: 'cpu-pinned' });
  return { ways: { ...ways, stays: () => pinned.run(feeds) }, release: () => pinned.release() };
}

/** What nnjit says of the plan it has just made. @param {any} session */
function readiness(session) {
  const stats = session.stats?.();
  return stats
    ? { seconds: stats.seconds, load: stats.load, compile: stats.compile, compileMs: stats.lastRun?.compileMs, weights: session.model.parameterBytes }
    : null;
}

/** The first run at another shape. @param {any} session @param {any} feeds */
async function another(session, feeds) {
  const start = performance.now();
  await session.run(feeds);
  return { runMs: performance.now() - start, compileMs: session.lastRun?.compileMs ?? null };
}

/**
 * What the plan's steps take in the engine. Where that is near the clock's grain: the mean of many runs, and of nine such
 * means the median, because an interruption would be half of one.
 * @param {any} session @param {any} feeds
 */
async function kernelMs(session, feeds) {
  const found = await stepsOf(session, feeds, 15);
  if (!found || found.ms >= 0.2) return found?.ms;
  const means = [];
  for (let i = 0; i < 9; i++) means.push((await stepsOf(session, feeds, 60))?.mean ?? 0);
  return spread(means).median;
}

/** What the plan's steps take in the engine, and their flops as nnjit counts them. @param {any} session @param {any} feeds @param {number} repeats */
async function stepsOf(session, feeds, repeats) {
  if (!session.profile) return null;
  const { steps } = await session.profile({ feeds, repeats });
  /** @param {(step: any) => number} of */
  const sum = (of) => steps.reduce((/** @type {number} */ total, /** @type {any} */ step) => total + of(step), 0);
  return { ms: sum((step) => step.ms), mean: sum((step) => step.mean), flops: sum((step) => (step.gflops ?? 0) * step.ms * 1e6) };
}

/** @param {number} threads @returns {Promise<Rival>} */
export async function tfjs(threads) {
  const tf = /** @type {any} */ (globalThis).tf;
  tf.wasm.setWasmPaths('/vendor/peers/tfjs-4.22.0/');
  tf.wasm.setThreadsCount(threads);
  await tf.setBackend('wasm');
  await tf.ready();
  return {
    async prepare(job, blob) {
      const run = tfGraph(tf, job, blob);
      if (!run) return null;
      return {
        call: async () => {
          const y = run();
          const data = await y.data();
          y.dispose();
          return data;
        },
        ways: { stays: async () => run().dispose() },
        read: async (data) => ({ y: data }),
        release: async () => tf.disposeVariables(),
      };
    },
  };
}

/** Raw f32 values of an input or weight. @param {any} head @param {Uint8Array} blob */
function floats(head, blob) {
  return decode(head, blob, /** @type {any} */ (class { constructor(/** @type {any} */ _t, /** @type {any} */ data) { this.data = data; } })).data;
}

/** @param {any} tf @param {Job} job @param {Uint8Array} blob @returns {(() => any) | null} */
function tfGraph(tf, job, blob) {
  const tensor = (/** @type {any} */ head) => tf.tensor(floats(head, blob), head.dims);
  const { kind, attrs } = job;
  if (kind === 'matmul') {
    const x = tensor(job.inputs.x);
    const w = tensor(job.weights.w);
    return () => tf.matMul(x, w);
  }
  if (kind === 'softmax') {
    const x = tensor(job.inputs.x);
    return () => tf.softmax(x);
  }
  if (kind !== 'conv' || (attrs.group ?? 1) !== 1) return null;
  // TF.js keeps pictures as NHWC and filters as HWIO; that is its native form, so it is laid out before the clock runs.
  const x = tf.transpose(tensor(job.inputs.x), [0, 2, 3, 1]);
  const w = tf.transpose(tensor(job.weights.w), [2, 3, 1, 0]);
  const pad = attrs.pads?.[0] ?? 0;
  return () => tf.conv2d(x, w, attrs.strides, pad);
}

/** jax-js, which uses all threads it finds. @returns {Promise<Rival>} */
export async function jax() {
  const library = await import(/** @type {string} */ ('/vendor/peers/jax-js-0.1.25/index.js'));
  await library.init('wasm');
  library.defaultDevice('wasm');
  const { numpy } = library;
  return {
    async prepare(job, blob) {
      if (job.kind !== 'matmul') return null;
      const array = (/** @type {any} */ head) => numpy.array(floats(head, blob), { shape: head.dims });
      const x = array(job.inputs.x);
      const w = array(job.weights.w);
      const multiply = library.jit((/** @type {any} */ a, /** @type {any} */ b) => numpy.matmul(a, b));
      return {
        call: async () => multiply(x.ref, w.ref).data(),
        ways: { stays: async () => (await multiply(x.ref, w.ref).blockUntilReady()).dispose() },
        read: async (data) => ({ y: data }),
        release: async () => {
          x.dispose();
          w.dispose();
        },
      };
    },
  };
}
